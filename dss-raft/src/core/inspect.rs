//! What the simulation may look at besides the outputs.

#[cfg(test)]
use std::hash::{Hash, Hasher};

use super::Raft;
use super::log::Log;
use super::planted::PlantedBug;
use super::reads::Reads;
use super::role::Role;
use crate::types::Term;

impl Raft {
    /// Switches a bug on.
    pub(crate) fn plant(&mut self, bug: Option<PlantedBug>) {
        self.planted_bug = bug;
        if bug == Some(PlantedBug::ReadNamesReused) {
            self.reads = Reads::new(0);
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn term(&self) -> Term {
        self.hard_state.term
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// What it takes for the present moment.
    #[cfg(test)]
    pub(crate) fn now(&self) -> crate::types::Timestamp {
        self.now
    }

    /// Hashes what decides on what this node does next, where time may pass as it likes and nobody
    /// reads: neither when what happened, nor how the rounds are numbered, nor what was drawn.
    #[cfg(test)]
    pub(crate) fn outline(&self, into: &mut impl Hasher) {
        (self.membership.since(), self.membership.current()).hash(into);
        (&self.known_logs, self.hard_state, self.hard_state_changed).hash(into);
        self.log.base().hash(into);
        self.log.for_each_after(self.log.base().index, |entries| {
            entries.iter().for_each(|entry| entry.hash(into));
        });
        (self.commit_index, self.handed_index, self.applied_index).hash(into);
        (self.writes.durable_index(), self.writes.after_hard_state().is_some()).hash(into);
        std::mem::discriminant(&self.role).hash(into);
        match &self.role {
            Role::Follower(follower) => (follower.leader, follower.verified).hash(into),
            Role::PreCandidate(canvass) => sorted(&canvass.granted).hash(into),
            Role::Candidate(campaign) => {
                let is_durable = self.writes.is_durable(campaign.own_vote);
                (sorted(&campaign.granted), is_durable, campaign.by_transfer).hash(into);
            }
            Role::Leader(leader) => {
                for peer in &leader.peers {
                    (peer.node, peer.seat, peer.log, peer.departs_at.is_some()).hash(into);
                    (peer.matched, peer.next, &peer.mode).hash(into);
                    (peer.heartbeat_due, peer.commit_told, peer.has_answered()).hash(into);
                }
                (leader.seat, &leader.change, leader.has_unlisted_logs).hash(into);
                (leader.term_start, leader.has_news, leader.notice_at.is_some()).hash(into);
            }
        }
    }
}

#[cfg(test)]
fn sorted(nodes: &[crate::types::NodeId]) -> Vec<crate::types::NodeId> {
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes
}
