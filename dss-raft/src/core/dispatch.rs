//! Where messages go, by term and kind.

use super::Raft;
use super::planted::PlantedBug;
use crate::message::{Message, MessageBody};
use crate::output::Output;
use crate::types::{LogId, LogIdentity, LogIndex, NodeId, PersistSeq, Term, Timestamp};

impl Raft {
    /// Takes in a message. Whatever it says, it is obeyed, answered or ignored.
    ///
    /// `from` must be the node that sent it: peers are told apart by it.
    pub fn handle_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        self.advance_clock(now);
        if self.storage_failed || from == self.config.node || !is_credible(&message) {
            return;
        }
        let Message { term, mut log, body } = message;
        if self.has(PlantedBug::TrustAnyLog) {
            log = LogIdentity::UNKNOWN;
        }
        self.meet(from, log);
        if is_vote(&body) && !self.membership.current().recognises(from, log) {
            // Whatever it promised before, it has forgotten.
            return;
        }
        // Pre-votes are about a term that the sender has not entered, so they change no one's.
        match body {
            MessageBody::PreVoteRequest { last, priority } => {
                return self.handle_pre_vote_request(from, term, last, priority);
            }
            MessageBody::PreVoteResponse { granted: true } => {
                return self.handle_pre_vote_granted(from, term);
            }
            // Entering the term would depose the leader that this node hears.
            MessageBody::VoteRequest { by_transfer: false, .. }
                if term > self.hard_state.term && self.hears_a_leader() =>
            {
                return;
            }
            _ => {}
        }
        if term < self.hard_state.term && !self.has(PlantedBug::ObeyLowerTerms) {
            return self.answer_outdated(from, &body);
        }
        if term > self.hard_state.term {
            let is_from_leader = matches!(
                body,
                MessageBody::Append { .. }
                    | MessageBody::Committed { .. }
                    | MessageBody::InstallSnapshot { .. }
            );
            self.become_follower(term, is_from_leader.then_some(from));
        }
        self.handle_current(from, body);
    }

    /// Takes in a message of the present term.
    fn handle_current(&mut self, from: NodeId, body: MessageBody) {
        match body {
            MessageBody::VoteRequest { last, by_transfer } => {
                self.handle_vote_request(from, last, by_transfer);
            }
            MessageBody::VoteResponse { granted } => self.handle_vote_response(from, granted),
            MessageBody::Append { previous, entries, commit, round } => {
                if self.follows(from) {
                    self.handle_append(from, previous, entries, commit, round);
                }
            }
            MessageBody::Committed { index } => {
                if self.follows(from) {
                    // As far as the log is known to match: what is committed beyond that, the next
                    // append tells.
                    self.verify(LogIndex::ZERO, index);
                }
            }
            MessageBody::AppendAccepted { matched, round } => {
                self.handle_append_accepted(from, matched, round);
            }
            MessageBody::AppendRejected { previous, hint, round } => {
                self.handle_append_rejected(from, previous, hint, round);
            }
            MessageBody::InstallSnapshot { snapshot, round } => {
                if self.follows(from) {
                    self.handle_install_snapshot(from, snapshot, round);
                }
            }
            MessageBody::ReadIndexRequest { read } => self.handle_read_request(from, read),
            MessageBody::ReadIndexResponse { read, index } => {
                self.handle_read_response(from, read, index);
            }
            MessageBody::TimeoutNow => self.handle_timeout_now(from),
            // A refusal: of the present term it says no more than silence would. Requests and
            // grants are dealt with before terms are compared.
            MessageBody::PreVoteResponse { .. } | MessageBody::PreVoteRequest { .. } => {}
        }
    }

    /// Tells the sender of an outdated request which term it is, so that a deposed leader stops
    /// and a candidate left behind catches up.
    fn answer_outdated(&mut self, from: NodeId, body: &MessageBody) {
        let answer = match *body {
            MessageBody::Append { previous, round, .. } => {
                MessageBody::AppendRejected { previous: previous.index, hint: LogId::ZERO, round }
            }
            MessageBody::InstallSnapshot { ref snapshot, round } => MessageBody::AppendRejected {
                previous: snapshot.last.index,
                hint: LogId::ZERO,
                round,
            },
            MessageBody::VoteRequest { .. } => MessageBody::VoteResponse { granted: false },
            MessageBody::ReadIndexRequest { read } => {
                MessageBody::ReadIndexResponse { read, index: None }
            }
            _ => return,
        };
        self.send(from, answer, None);
    }

    /// Sends in the present term.
    pub(super) fn send(&mut self, to: NodeId, body: MessageBody, after: Option<PersistSeq>) {
        // With a write to wait for, the log's beginning is among what is written.
        let log = if after.is_some() { self.hard_state.log } else { self.own_log() };
        let message = Message { term: self.hard_state.term, log, body };
        self.outputs.push(Output::Send { to, message, after });
    }

    /// Sends what only holds if the present term and vote are durable.
    pub(super) fn promise(&mut self, to: NodeId, body: MessageBody) {
        self.write_pending();
        let after = self.writes.after_hard_state();
        self.send(to, body, after);
    }
}

/// Whether a message asks for a vote, or is one.
fn is_vote(body: &MessageBody) -> bool {
    matches!(
        body,
        MessageBody::PreVoteRequest { .. }
            | MessageBody::PreVoteResponse { .. }
            | MessageBody::VoteRequest { .. }
            | MessageBody::VoteResponse { .. }
    )
}

/// Whether a message's numbers leave room to count on from: no cluster gets near the limit, so a
/// message beyond it is damaged or malicious, and obeying it would overflow.
fn is_credible(message: &Message) -> bool {
    const LIMIT: u64 = 1 << 62;
    let index = |index: LogIndex| index.get() < LIMIT;
    let term = |term: Term| term.get() < LIMIT;
    let id = |id: LogId| term(id.term) && index(id.index);
    term(message.term)
        && match &message.body {
            MessageBody::PreVoteRequest { last, .. } | MessageBody::VoteRequest { last, .. } => {
                id(*last)
            }
            MessageBody::Append { previous, entries, commit, round } => {
                id(*previous)
                    && index(*commit)
                    && round.get() < LIMIT
                    && entries.last().is_none_or(|entry| id(entry.id))
            }
            MessageBody::AppendAccepted { matched: reached, .. }
            | MessageBody::Committed { index: reached } => index(*reached),
            MessageBody::AppendRejected { previous, hint, .. } => index(*previous) && id(*hint),
            MessageBody::InstallSnapshot { snapshot, .. } => id(snapshot.last),
            MessageBody::ReadIndexResponse { index: Some(read), .. } => index(*read),
            _ => true,
        }
}
