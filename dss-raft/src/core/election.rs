//! The voter's side of an election (sections 5.2 and 5.4.1, dissertation 9.6).

use super::Raft;
use super::planted::PlantedBug;
use super::role::Role;
use crate::config::Priority;
use crate::message::{Message, MessageBody};
use crate::output::Output;
use crate::types::{LogId, NodeId, Term};

impl Raft {
    /// Says whether it would vote for `from` in `term`. Changes nothing, not even a timer.
    pub(super) fn handle_pre_vote_request(
        &mut self,
        from: NodeId,
        term: Term,
        last: LogId,
        priority: Priority,
    ) {
        if self.has(PlantedBug::PreVoteTouchesTimers) {
            self.contact = self.now;
        }
        // Where the logs are equal, whoever has the higher priority campaigns itself.
        let yields = last > self.log.last() || priority >= self.config.priority || !self.is_voter();
        let granted = term > self.hard_state.term
            && !self.hears_a_leader()
            && self.is_up_to_date(last)
            && yields
            && self.has_its_log();
        // A refusal carries this node's own term, from which a candidate left behind learns.
        let term = if granted { term } else { self.hard_state.term };
        let log = self.own_log();
        let message = Message { term, log, body: MessageBody::PreVoteResponse { granted } };
        self.outputs.push(Output::Send { to: from, message, after: None });
    }

    /// Votes, or refuses to, in the present term.
    pub(super) fn handle_vote_request(&mut self, from: NodeId, last: LogId, by_transfer: bool) {
        let free = self.hard_state.voted_for.is_none_or(|voted_for| voted_for == from);
        let granted = free
            && self.leader().is_none()
            && (by_transfer || !self.hears_a_leader())
            && self.is_up_to_date(last)
            && self.has_its_log();
        if !granted {
            return self.send(from, MessageBody::VoteResponse { granted }, None);
        }
        self.set_hard_state(self.hard_state.term, Some(from));
        if let Role::Follower(follower) = &mut self.role {
            // Whoever gets a vote gets the time to use it.
            follower.deadline = self.now + follower.patience;
        }
        self.promise(from, MessageBody::VoteResponse { granted });
    }

    /// Whether this node's log is the one that the group knows it by, as far as it can tell. If not,
    /// it may have voted, and forgotten.
    pub(super) fn has_its_log(&self) -> bool {
        self.membership.current().recognises(self.config.node, self.hard_state.log)
    }

    /// Whether a log that ends in `last` is at least as up to date as this node's (section 5.4.1).
    fn is_up_to_date(&self, last: LogId) -> bool {
        last >= self.log.last() || self.has(PlantedBug::VoteWithoutComparingLogs)
    }
}
