//! What happens when nothing happens.

use super::Raft;
use super::role::{Leader, Role};
use crate::types::Timestamp;

impl Raft {
    /// When to call [`handle_timeout`](Raft::handle_timeout), if nothing comes in before; `None`
    /// where nothing is scheduled. A point that has passed means at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.storage_failed {
            return None;
        }
        let role = match &self.role {
            Role::Follower(follower) => self.may_campaign().then_some(follower.deadline),
            Role::PreCandidate(canvass) => Some(canvass.deadline),
            Role::Candidate(campaign) => Some(campaign.deadline),
            Role::Leader(leader) => Some(leader.deadline()),
        };
        let reads = self.reads.deadline(self.leader().is_some());
        match (role, reads) {
            (Some(role), Some(reads)) => Some(role.min(reads)),
            (role, reads) => role.or(reads),
        }
    }

    /// Takes note that time has passed. Harmless when called early.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance_clock(now);
        if self.storage_failed {
            return;
        }
        match &self.role {
            Role::Follower(follower) if follower.deadline <= self.now && self.may_campaign() => {
                self.canvass();
            }
            Role::PreCandidate(canvass) if canvass.deadline <= self.now => self.canvass(),
            Role::Candidate(campaign) if campaign.deadline <= self.now => self.canvass(),
            Role::Leader(_) => self.handle_leader_timeout(),
            _ => {}
        }
        self.expire_reads();
    }

    fn handle_leader_timeout(&mut self) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.notice_at.is_some_and(|at| at <= now) {
            self.tell_commit_index();
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.heartbeat_at > now {
            return;
        }
        leader.heartbeat_at = now.next_multiple_of(self.config.heartbeat_interval);
        leader.broadcast();
        self.dismiss_departed();
        self.pursue_transfer();
        if !self.has_support() {
            self.become_follower(self.hard_state.term, None);
        } else if self.disk_stalls() {
            self.retire();
        }
    }

    /// Whether a majority was heard of within an election timeout (dissertation 6.2). A leader
    /// without steps down, so that its clients look for another one.
    fn has_support(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader
            .reached_by_quorum(self.membership.current(), self.now, |peer| peer.heard)
            .is_some_and(|heard| self.now.since(heard) < self.config.election_timeout)
    }

    /// Whether this node's disk has had a write for so long that another node should lead: one
    /// that cannot write cannot take part, and its heartbeats would hide that from the others.
    pub(super) fn disk_stalls(&self) -> bool {
        /// In election timeouts. Long enough that a disk must be stuck, not busy: another leader
        /// costs the group an election.
        const STALL: u32 = 5;
        let others = self.membership.current().others(self.config.node).next().is_some();
        let since = self.writes.waiting_since();
        others && since.is_some_and(|at| self.now.since(at) >= self.config.election_timeout * STALL)
    }
}

impl Leader {
    fn deadline(&self) -> Timestamp {
        self.notice_at.map_or(self.heartbeat_at, |at| at.min(self.heartbeat_at))
    }
}
