//! The leader's side of replication (section 5.3).

use super::Raft;
use super::log::Log;
use super::outputs::Outputs;
use super::progress::{Mode, Peer};
use super::role::Role;
use crate::config::Config;
use crate::entry::{Entries, Snapshot};
use crate::message::{Message, MessageBody, Round};
use crate::output::Output;
use crate::types::{LogId, LogIdentity, LogIndex, NodeId, Term, Timestamp};

impl Raft {
    /// Sends every member what it may be sent. All of it belongs to one round.
    pub(super) fn replicate(&mut self) {
        let own_log = self.own_log();
        let Role::Leader(leader) = &mut self.role else { return };
        if !std::mem::take(&mut leader.has_news) {
            return;
        }
        leader.round = Round::new(leader.round.get() + 1);
        if self.config.lease_drift_permille.is_some() {
            leader.rounds.push_back((leader.round, self.now));
        }
        let mut sender = Sender {
            config: &self.config,
            log: &self.log,
            snapshot: self.snapshot.as_ref(),
            term: self.hard_state.term,
            identity: own_log,
            commit: self.commit_index,
            round: leader.round,
            now: self.now,
            outputs: &mut self.outputs,
        };
        for peer in &mut leader.peers {
            sender.serve(peer);
        }
        if leader.peers.iter().all(|peer| peer.commit_told >= self.commit_index) {
            leader.notice_at = None;
        }
    }

    /// Tells the members of the commit index that no append has told of it.
    pub(super) fn tell_commit_index(&mut self) {
        let (term, log, index) = (self.hard_state.term, self.own_log(), self.commit_index);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.notice_at = None;
        for peer in leader.peers.iter_mut().filter(|peer| peer.commit_told < index) {
            if peer.matched < index {
                // What it lacks may have been lost on the way: its answer says so.
                peer.heartbeat_due = true;
                leader.has_news = true;
                continue;
            }
            peer.commit_told = index;
            let message = Message { term, log, body: MessageBody::Committed { index } };
            self.outputs.push(Output::Send { to: peer.node, message, after: None });
        }
    }

    /// A member's log matches up to `matched`, durably.
    pub(super) fn handle_append_accepted(&mut self, from: NodeId, matched: LogIndex, round: Round) {
        let (now, last) = (self.now, self.log.last().index);
        let Role::Leader(leader) = &mut self.role else { return };
        let newest = leader.round;
        let Some(peer) = leader.peer(from) else { return };
        if matched > last {
            // What this leader has not got, it cannot have sent.
            return;
        }
        peer.answers(round, newest, now);
        let advances = matched > peer.matched;
        peer.accepts(matched);
        leader.has_news |= peer.next <= last;
        if advances {
            self.advance_commit_index();
            self.pursue_transfer();
        }
    }

    /// A member's log lacks `previous`.
    pub(super) fn handle_append_rejected(
        &mut self,
        from: NodeId,
        previous: LogIndex,
        hint: LogId,
        round: Round,
    ) {
        let now = self.now;
        let possible_match = self.log.last_possible_match(hint);
        let Role::Leader(leader) = &mut self.role else { return };
        let newest = leader.round;
        let Some(peer) = leader.peer(from) else { return };
        peer.answers(round, newest, now);
        peer.rejects(previous, possible_match);
        leader.has_news = true;
    }
}

/// What sending takes of a leader, borrowed apart from its peers.
struct Sender<'a> {
    config: &'a Config,
    log: &'a Log,
    snapshot: Option<&'a Snapshot>,
    term: Term,
    identity: LogIdentity,
    commit: LogIndex,
    round: Round,
    now: Timestamp,
    outputs: &'a mut Outputs,
}

impl Sender<'_> {
    /// Sends entries as far as the limits allow, or a snapshot, or the heartbeat that is due.
    fn serve(&mut self, peer: &mut Peer) {
        if peer.next <= self.log.base().index && !matches!(peer.mode, Mode::Snapshot { .. }) {
            let Some(snapshot) = self.snapshot else { return };
            peer.mode = Mode::Snapshot { offered: snapshot.clone(), resend_at: self.now };
        }
        if let Mode::Snapshot { .. } = peer.mode {
            return self.serve_snapshot(peer);
        }
        let messages_max = self.config.in_flight_messages_max;
        let bytes_max = self.config.in_flight_bytes_max;
        while peer.next <= self.log.last().index
            && let Some(allowance) = peer.allowance(messages_max, bytes_max)
        {
            let weight_max = self.config.append_bytes_max.min(allowance);
            let (entries, weight) = self.log.run(peer.next, weight_max);
            let Some(last) = entries.last_index() else { break };
            self.append(peer, peer.next.previous(), entries);
            peer.sent(last, weight);
        }
        if peer.heartbeat_due {
            self.append(peer, peer.next.previous(), Entries::EMPTY);
            if let Mode::Probe { waiting } = &mut peer.mode {
                *waiting = true;
            }
        }
    }

    fn serve_snapshot(&mut self, peer: &mut Peer) {
        let Mode::Snapshot { offered, resend_at } = &mut peer.mode else { return };
        if *resend_at <= self.now
            && let Some(newest) = self.snapshot
        {
            // The same one again, for as long as the log still follows it and somebody may be
            // fetching it: with every newer one it would begin anew, and never end where that
            // takes longer than until the next.
            let answers = self.now.since(peer.heard) < self.config.election_timeout * 2;
            if !answers || offered.last.index < self.log.base().index {
                *offered = newest.clone();
            }
            *resend_at = self.now + self.config.election_timeout;
            let snapshot = Box::new(offered.clone());
            peer.heartbeat_due = false;
            let body = MessageBody::InstallSnapshot { snapshot, round: self.round };
            self.send(peer.node, body);
        } else if peer.heartbeat_due {
            let previous = offered.last.index;
            self.append(peer, previous, Entries::EMPTY);
        }
    }

    fn append(&mut self, peer: &mut Peer, previous: LogIndex, entries: Entries) {
        let Some(previous) = self.log.id_at(previous) else { return };
        peer.heartbeat_due = false;
        peer.commit_told = peer.commit_told.max(self.commit);
        let body =
            MessageBody::Append { previous, entries, commit: self.commit, round: self.round };
        self.send(peer.node, body);
    }

    fn send(&mut self, to: NodeId, body: MessageBody) {
        let message = Message { term: self.term, log: self.identity, body };
        self.outputs.push(Output::Send { to, message, after: None });
    }
}
