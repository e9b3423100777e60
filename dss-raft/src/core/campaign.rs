//! The candidate's side of an election (section 5.2, dissertation 9.6 and 3.10).

use super::Raft;
use super::role::{Candidate, PreCandidate, Role};
use crate::entry::Configuration;
use crate::message::{Message, MessageBody};
use crate::output::Output;
use crate::types::{NodeId, PersistSeq, Term};

impl Raft {
    /// Asks the other voters whether they would elect this node. It stays in its term: a node that
    /// cannot win disturbs nobody.
    pub(super) fn canvass(&mut self) {
        let deadline = self.draw_retry();
        self.enter(Role::PreCandidate(PreCandidate { granted: Vec::new(), deadline }));
        let request =
            MessageBody::PreVoteRequest { last: self.log.last(), priority: self.config.priority };
        self.request_votes(self.hard_state.term.next(), &request, None);
        self.count_pre_votes();
    }

    /// Enters the next term, votes for itself and asks the others to.
    pub(super) fn campaign(&mut self, by_transfer: bool) {
        self.set_hard_state(self.hard_state.term.next(), Some(self.config.node));
        self.write_pending();
        let own_vote = self.writes.after_hard_state().unwrap_or_default();
        let deadline = self.draw_retry();
        let granted = Vec::new();
        self.enter(Role::Candidate(Candidate { granted, own_vote, by_transfer, deadline }));
        // The request waits for the disk: it names this node's last entry. Were that, and the
        // term, lost in a crash, votes could come in for a log that is no longer there.
        let request = MessageBody::VoteRequest { last: self.log.last(), by_transfer };
        self.request_votes(self.hard_state.term, &request, Some(own_vote));
    }

    fn request_votes(&mut self, term: Term, request: &MessageBody, after: Option<PersistSeq>) {
        let node = self.config.node;
        let log = if after.is_some() { self.hard_state.log } else { self.own_log() };
        let configuration = self.membership.current();
        for to in configuration.voters.union(&configuration.outgoing).copied() {
            if to == node {
                continue;
            }
            let message = Message { term, log, body: request.clone() };
            self.outputs.push(Output::Send { to, message, after });
        }
    }

    /// A voter would elect this node in `term`.
    pub(super) fn handle_pre_vote_granted(&mut self, from: NodeId, term: Term) {
        if term != self.hard_state.term.next() {
            return;
        }
        if let Role::PreCandidate(canvass) = &mut self.role {
            grant(&mut canvass.granted, from, self.membership.current());
            self.count_pre_votes();
        }
    }

    fn count_pre_votes(&mut self) {
        if let Role::PreCandidate(canvass) = &self.role
            && self.is_elected_by(&canvass.granted)
        {
            self.campaign(false);
        }
    }

    pub(super) fn handle_vote_response(&mut self, from: NodeId, granted: bool) {
        if let Role::Candidate(campaign) = &mut self.role
            && granted
        {
            grant(&mut campaign.granted, from, self.membership.current());
            self.count_votes();
        }
    }

    /// Leads once a majority has voted for it; its own vote counts as soon as it is durable.
    pub(super) fn count_votes(&mut self) {
        if let Role::Candidate(campaign) = &self.role
            && self.writes.is_durable(campaign.own_vote)
            && self.is_elected_by(&campaign.granted)
        {
            let by_transfer = campaign.by_transfer;
            self.become_leader(by_transfer);
        }
    }
}

impl Raft {
    /// Whether these voters and this node decide.
    fn is_elected_by(&self, granted: &[NodeId]) -> bool {
        let supports = |node| node == self.config.node || granted.contains(&node);
        self.membership.current().is_quorum(supports)
    }
}

/// Notes a vote, once, if it is a voter's.
fn grant(granted: &mut Vec<NodeId>, from: NodeId, configuration: &Configuration) {
    if configuration.is_voter(from) && !granted.contains(&from) {
        granted.push(from);
    }
}
