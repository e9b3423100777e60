//! What is committed, and what follows from it (sections 5.3 and 5.4.2).

use super::Raft;
use super::planted::PlantedBug;
use super::role::Role;
use crate::output::Output;
use crate::types::{LogIndex, Timestamp};

impl Raft {
    /// Commits what a majority has durably, where this node leads.
    pub(super) fn advance_commit_index(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.commit_index == self.log.last().index {
            return;
        }
        // A leader counts itself like anyone else: once its own copy is durable.
        let own = self.writes.durable_index();
        let reached = leader.reached_by_quorum(self.membership.current(), own, |peer| peer.matched);
        let half = self.has(PlantedBug::QuorumOfHalf).then_some(own);
        let Some(reached) = reached.max(half) else { return };
        // An entry of an older term may be on a majority and still be replaced (figure 8); it is
        // committed along with the first one of this term.
        if reached <= self.commit_index
            || (reached < leader.term_start && !self.has(PlantedBug::CommitOlderTermByCounting))
        {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        self.commit_index = reached;
        /// The part of a heartbeat interval after which followers are told of a commit, unless
        /// an append tells them before: reads there wait for it, and a message is cheap by then.
        const NOTICE_PART: u32 = 8;
        let notice_at = self.now + self.config.heartbeat_interval / NOTICE_PART;
        if !leader.peers.is_empty() {
            leader.notice_at.get_or_insert(notice_at);
        }
    }

    /// Tells the fate of committed proposals, then gives out what is to be applied.
    pub(super) fn hand_over_committed(&mut self) {
        if self.handed_index >= self.commit_index {
            return;
        }
        if let Role::Leader(leader) = &mut self.role {
            while let Some(proposals) = leader.proposals.front_mut() {
                self.outputs.push_committed(proposals.split_to(self.commit_index));
                if !proposals.is_empty() {
                    break;
                }
                leader.proposals.pop_front();
            }
        }
        while self.handed_index < self.commit_index {
            let run = self.log.shared_run(self.handed_index.next(), self.commit_index);
            let Some(last) = run.last_index() else { break };
            let weight = run.weight();
            if let Role::Leader(leader) = &mut self.role {
                leader.uncommitted_weight = leader.uncommitted_weight.saturating_sub(weight);
            }
            self.compaction.weight += weight;
            self.handed_index = last;
            self.outputs.push(Output::Apply(run));
        }
        self.consider_snapshot();
    }

    /// Takes note that the state machine has applied everything up to `index`.
    pub fn handle_applied(&mut self, now: Timestamp, index: LogIndex) {
        // Nothing is to be done about it, and what the time that has passed makes due has its timeout.
        self.pass_time_to(now);
        self.applied_index = self.applied_index.max(index.min(self.handed_index));
    }
}
