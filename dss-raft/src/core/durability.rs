//! The one sequence of writes, and what of the log is durable by it.

use std::collections::VecDeque;

use super::Raft;
use super::planted::PlantedBug;
use crate::entry::{Entries, HardState, Snapshot};
use crate::output::{Output, Persist};
use crate::types::{LogIndex, NodeId, PersistSeq, Term, Timestamp};

/// Which writes were asked for, which are durable, and how far the log is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Writes {
    issued: PersistSeq,
    durable: PersistSeq,
    /// The last entry of this log that is durable, as is every one before it.
    durable_index: LogIndex,
    /// The write that holds the present term and vote.
    hard_state: PersistSeq,
    /// Whether any term was ever durable.
    has_durable_hard_state: bool,
    in_flight: VecDeque<Write>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Write {
    seq: PersistSeq,
    /// The last entry that is durable once this write is; lowered by a later truncation, which
    /// may be durable only after it.
    last: LogIndex,
    since: Timestamp,
}

impl Writes {
    pub(crate) fn new(durable_index: LogIndex, has_durable_hard_state: bool) -> Self {
        Self {
            issued: PersistSeq::ZERO,
            durable: PersistSeq::ZERO,
            durable_index,
            hard_state: PersistSeq::ZERO,
            has_durable_hard_state,
            in_flight: VecDeque::new(),
        }
    }

    pub(crate) fn durable_index(&self) -> LogIndex {
        self.durable_index
    }

    pub(crate) fn is_durable(&self, seq: PersistSeq) -> bool {
        seq <= self.durable
    }

    pub(crate) fn has_durable_hard_state(&self) -> bool {
        self.has_durable_hard_state
    }

    /// What to wait for before term and vote may be spoken of.
    pub(crate) fn after_hard_state(&self) -> Option<PersistSeq> {
        (self.hard_state > self.durable).then_some(self.hard_state)
    }

    /// What to wait for before the log up to `index` may be spoken of.
    pub(crate) fn after_entry(&self, index: LogIndex) -> Option<PersistSeq> {
        if index <= self.durable_index {
            return self.after_hard_state();
        }
        let holds = self.in_flight.iter().find(|write| write.last >= index);
        let seq = holds.map_or(self.issued, |write| write.seq);
        Some(seq.max(self.hard_state))
    }

    /// When the oldest write that is not durable was asked for.
    pub(crate) fn waiting_since(&self) -> Option<Timestamp> {
        self.in_flight.front().map(|write| write.since)
    }

    fn issue(&mut self, now: Timestamp, last: LogIndex) -> PersistSeq {
        self.issued = self.issued.next();
        self.in_flight.push_back(Write { seq: self.issued, last, since: now });
        self.issued
    }

    fn truncated_from(&mut self, index: LogIndex) {
        let kept = index.previous();
        self.durable_index = self.durable_index.min(kept);
        for write in &mut self.in_flight {
            write.last = write.last.min(kept);
        }
    }

    fn persisted(&mut self, seq: PersistSeq) {
        self.durable = self.durable.max(seq.min(self.issued));
        // The first write of a node holds its first term.
        self.has_durable_hard_state |= self.durable > PersistSeq::ZERO;
        while let Some(write) = self.in_flight.front()
            && write.seq <= self.durable
        {
            self.durable_index = write.last;
            self.in_flight.pop_front();
        }
    }
}

/// What one write changes, besides the hard state, which is added where it has changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) truncate_from: Option<LogIndex>,
    pub(super) snapshot: Option<Box<Snapshot>>,
    pub(super) entries: Entries,
    pub(super) compact_to: Option<LogIndex>,
}

impl Raft {
    /// Takes note that every write up to `seq` is durable.
    pub fn handle_persisted(&mut self, now: Timestamp, seq: PersistSeq) {
        self.advance_clock(now);
        if self.storage_failed {
            return;
        }
        self.writes.persisted(seq);
        self.count_votes();
        self.advance_commit_index();
    }

    /// Takes note that the storage has failed, for good: whether a failed write is on disk is not
    /// known, and trying again proves nothing (a later success may skip the lost one).
    ///
    /// The node stops leading, neither votes nor acknowledges any more, and ends its reads.
    pub fn handle_storage_failed(&mut self, now: Timestamp) {
        self.advance_clock(now);
        if self.storage_failed {
            return;
        }
        self.become_follower(self.hard_state.term, None);
        self.hand_over_committed();
        self.storage_failed = true;
        self.abandon_reads();
        self.report_leadership();
    }

    /// Whether there is something that no write holds.
    pub(super) fn has_pending_write(&self) -> bool {
        self.hard_state_changed || self.log.has_staged()
    }

    /// Writes term, vote and staged entries, where they have changed since the last write.
    pub(super) fn write_pending(&mut self) {
        if self.has_pending_write() {
            let entries = self.log.seal();
            self.issue(Change { entries, ..Change::default() });
        }
    }

    /// Writes `change`, which the log in memory already contains, and whatever was pending.
    pub(super) fn issue(&mut self, change: Change) -> PersistSeq {
        debug_assert!(!self.log.has_staged());
        if let Some(index) = change.truncate_from {
            self.writes.truncated_from(index);
        }
        let seq = self.writes.issue(self.now, self.log.last().index);
        let hard_state = (std::mem::take(&mut self.hard_state_changed)
            && !self.has(PlantedBug::VoteNotPersisted))
        .then_some(self.hard_state);
        if hard_state.is_some() {
            self.writes.hard_state = seq;
        }
        let Change { truncate_from, snapshot, entries, compact_to } = change;
        self.outputs.push(Output::Persist(Persist {
            seq,
            hard_state,
            truncate_from,
            snapshot,
            entries,
            compact_to,
        }));
        seq
    }

    pub(super) fn set_hard_state(&mut self, term: Term, voted_for: Option<NodeId>) {
        let hard_state = HardState { term, voted_for, ..self.hard_state };
        self.hard_state_changed |= hard_state != self.hard_state;
        self.leadership_changed |= term != self.hard_state.term;
        self.hard_state = hard_state;
    }
}
