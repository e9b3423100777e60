//! Linearizable reads, on any member (section 8, dissertation 6.4).
//!
//! A leader answers with its commit index once it has committed in its term and a majority has
//! answered a round begun after the question. A follower asks its leader. Reads that come between
//! two polls share a batch, which is asked for, confirmed and answered as one.

use std::collections::VecDeque;

use super::Raft;
use super::planted::PlantedBug;
use super::role::{Leader, Role};
use crate::message::{MessageBody, Round};
use crate::output::Output;
use crate::types::{LogIndex, NodeId, ReadId, Timestamp};

/// A run of reads of this node, with consecutive numbers. The first one names it in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Batch {
    first: u64,
    count: u64,
    /// When to give up.
    deadline: Timestamp,
}

impl Batch {
    fn reads(self) -> impl Iterator<Item = ReadId> {
        (0..self.count).map(move |nth| ReadId::new(self.first.wrapping_add(nth)))
    }

    fn end(self) -> u64 {
        self.first.wrapping_add(self.count)
    }
}

/// The reads of this node that its leader was asked for, or will be once there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    next: u64,
    asked: VecDeque<Asked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    batch: Batch,
    /// When to ask, or to ask again.
    ask_at: Timestamp,
    /// Whether it was asked for before: then nothing more joins the batch.
    sent: bool,
}

/// A batch that waits for its leader's round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Confirmation {
    asker: Asker,
    /// The round whose answers confirm it: the first one begun after the question.
    round: Round,
    /// The commit index when the question came; `None` where this leader had not committed in its
    /// term then, and so could not know.
    index: Option<LogIndex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Asker {
    This(Batch),
    Member(NodeId, ReadId),
}

/// How many batches of other members may wait for a round; more are dropped, and asked again.
const WAITING_MAX: usize = 1 << 16;

impl Reads {
    /// Names reads from `first` on. It must differ from life to life of a node: an answer meant for
    /// an earlier life would confirm a read that it came before.
    pub(super) fn new(first: u64) -> Self {
        Self { next: first, asked: VecDeque::new() }
    }

    /// Asks a leader at once for what waited for one.
    pub(super) fn leader_found(&mut self, now: Timestamp) {
        for asked in &mut self.asked {
            asked.ask_at = now;
        }
    }

    /// When to ask again, or give up.
    pub(super) fn deadline(&self, leader_known: bool) -> Option<Timestamp> {
        let first = |asked: &Asked| {
            let deadline = asked.batch.deadline;
            if leader_known { deadline.min(asked.ask_at) } else { deadline }
        };
        self.asked.iter().map(first).min()
    }
}

impl Raft {
    /// Asks from which index on a read is linearizable; works on any member.
    ///
    /// The answer is exactly one [`Output::Read`]: with an index, as soon as a leader has confirmed
    /// that it leads, or without one, after two election timeouts without such an answer.
    pub fn read(&mut self, now: Timestamp) -> ReadId {
        self.advance_clock(now);
        let read = ReadId::new(self.reads.next);
        self.reads.next = self.reads.next.wrapping_add(1);
        if self.storage_failed {
            self.outputs.push(Output::Read { read, index: None });
            return read;
        }
        let deadline = self.now + self.config.election_timeout * 2;
        let batch = Batch { first: read.get(), count: 1, deadline };
        if self.holds_lease() {
            self.end_reads(batch, Some(self.commit_index));
            return read;
        }
        match &self.role {
            Role::Leader(_) => self.await_confirmation(Asker::This(batch)),
            _ => match self.reads.asked.back_mut() {
                Some(last) if !last.sent && last.batch.end() == batch.first => {
                    last.batch.count += 1;
                }
                _ => {
                    let asked = Asked { batch, ask_at: self.now, sent: false };
                    self.reads.asked.push_back(asked);
                }
            },
        }
        read
    }

    /// Another member asks for a batch.
    pub(super) fn handle_read_request(&mut self, from: NodeId, read: ReadId) {
        if self.holds_lease() {
            let index = Some(self.commit_index);
            return self.promise(from, MessageBody::ReadIndexResponse { read, index });
        }
        match &self.role {
            Role::Leader(leader) => {
                if leader.confirmations.len() < WAITING_MAX {
                    self.await_confirmation(Asker::Member(from, read));
                }
            }
            _ => self.send(from, MessageBody::ReadIndexResponse { read, index: None }, None),
        }
    }

    /// Has the next round confirm a batch.
    fn await_confirmation(&mut self, asker: Asker) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = Round::new(leader.round.get() + 1);
        if let (Some(last), Asker::This(batch)) = (leader.confirmations.back_mut(), asker)
            && last.round == round
            && let Asker::This(gathered) = &mut last.asker
            && gathered.end() == batch.first
        {
            gathered.count += batch.count;
            return;
        }
        let index = (self.commit_index >= leader.term_start).then_some(self.commit_index);
        leader.confirmations.push_back(Confirmation { asker, round, index });
        leader.broadcast();
    }

    /// Answers the batches whose round a majority has answered.
    pub(super) fn confirm_reads(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if leader.confirmations.is_empty() || self.commit_index < leader.term_start {
            return;
        }
        let Some(confirmed) = self.confirmed_round(leader) else { return };
        while let Role::Leader(leader) = &mut self.role
            && leader.confirmations.front().is_some_and(|waiting| waiting.round <= confirmed)
            && let Some(Confirmation { asker, index, .. }) = leader.confirmations.pop_front()
        {
            let index = Some(index.unwrap_or(self.commit_index));
            match asker {
                Asker::This(batch) => self.end_reads(batch, index),
                Asker::Member(to, read) => {
                    self.promise(to, MessageBody::ReadIndexResponse { read, index });
                }
            }
        }
    }

    /// The newest round that a quorum has answered.
    fn confirmed_round(&self, leader: &Leader) -> Option<Round> {
        leader.reached_by_quorum(self.membership.current(), leader.round, |peer| peer.answered)
    }

    /// Whether nobody else can have been elected yet, since a quorum has answered a round that was
    /// begun so lately (dissertation 6.4.1): within an election timeout none of them supports
    /// anybody else.
    fn holds_lease(&mut self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        if self.has(PlantedBug::ReadWithoutRound) {
            return self.commit_index >= leader.term_start;
        }
        let Some(lease) = self.config.lease() else { return false };
        let lease = if self.has(PlantedBug::LeaseDoubled) { lease * 2 } else { lease };
        if self.commit_index < leader.term_start || leader.lease_revoked {
            return false;
        }
        let Some(confirmed) = self.confirmed_round(leader) else { return false };
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return false };
        while leader.rounds.get(1).is_some_and(|(round, _)| *round <= confirmed) {
            leader.rounds.pop_front();
        }
        let begun = leader.rounds.front().filter(|(round, _)| *round <= confirmed);
        begun.is_some_and(|(_, begun)| now.since(*begun) < lease)
    }

    fn end_reads(&mut self, batch: Batch, index: Option<LogIndex>) {
        for read in batch.reads() {
            self.outputs.push(Output::Read { read, index });
        }
    }

    /// Asks the leader for what is due.
    pub(super) fn ask_leader_for_reads(&mut self) {
        if self.reads.asked.is_empty() {
            return;
        }
        let Some(leader) = self.leader().filter(|leader| *leader != self.config.node) else {
            return;
        };
        let again = self.now + self.config.heartbeat_interval * 2;
        for position in 0..self.reads.asked.len() {
            let asked = &mut self.reads.asked[position];
            if asked.ask_at <= self.now {
                asked.ask_at = again;
                asked.sent = true;
                let read = ReadId::new(asked.batch.first);
                self.send(leader, MessageBody::ReadIndexRequest { read }, None);
            }
        }
    }

    /// The leader has answered a batch; one that does not lead is asked again, or its successor.
    pub(super) fn handle_read_response(
        &mut self,
        from: NodeId,
        read: ReadId,
        index: Option<LogIndex>,
    ) {
        if self.leader() != Some(from) || index.is_none() {
            return;
        }
        let asked = &mut self.reads.asked;
        // A batch that was never sent cannot have been answered: its round began before it.
        let answered = asked.iter().position(|a| a.sent && a.batch.first == read.get());
        if let Some(asked) = answered.and_then(|position| asked.remove(position)) {
            self.end_reads(asked.batch, index);
        }
    }

    /// Has a leader that was elected confirm what was asked for before.
    pub(super) fn adopt_reads(&mut self) {
        for asked in std::mem::take(&mut self.reads.asked) {
            self.await_confirmation(Asker::This(asked.batch));
        }
    }

    /// Asks the next leader for what a deposed one had not confirmed. Other members ask for theirs
    /// themselves.
    pub(super) fn return_reads(&mut self, confirmations: VecDeque<Confirmation>) {
        for confirmation in confirmations {
            if let Asker::This(batch) = confirmation.asker {
                let asked = Asked { batch, ask_at: self.now, sent: false };
                self.reads.asked.push_back(asked);
            }
        }
    }

    /// Gives up what has waited for too long.
    pub(super) fn expire_reads(&mut self) {
        let now = self.now;
        while let Some(expired) = self.reads.asked.iter().position(|a| a.batch.deadline <= now)
            && let Some(asked) = self.reads.asked.remove(expired)
        {
            self.end_reads(asked.batch, None);
        }
        while let Role::Leader(leader) = &mut self.role {
            let is_expired = |waiting: &Confirmation| match waiting.asker {
                Asker::This(batch) => batch.deadline <= now,
                Asker::Member(..) => false,
            };
            let Some(expired) = leader.confirmations.iter().position(is_expired) else { break };
            if let Some(Confirmation { asker: Asker::This(batch), .. }) =
                leader.confirmations.remove(expired)
            {
                self.end_reads(batch, None);
            }
        }
    }

    /// Gives up everything, at once.
    pub(super) fn abandon_reads(&mut self) {
        for asked in std::mem::take(&mut self.reads.asked) {
            self.end_reads(asked.batch, None);
        }
    }
}
