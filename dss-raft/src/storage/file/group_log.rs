//! One group's records: what they add up to, and in which segments they lie.

use std::collections::VecDeque;

use crate::codec::{Checkpoint, Record, SnapshotFile};
use crate::entry::{Entries, Entry};
use crate::storage::stored::{Misfit, Stored};
use crate::types::LogIndex;

/// A group as the log has it.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupLog {
    pub(super) stored: Stored<SnapshotFile>,
    /// The segments that hold entries of the log, each with the first one it holds; both rise.
    segments: VecDeque<(u64, LogIndex)>,
}

impl GroupLog {
    /// Takes in a record that stands in `segment`.
    pub(super) fn apply(&mut self, segment: u64, record: &Record) -> Result<(), Misfit> {
        match record {
            Record::HardState(hard_state) => self.stored.hard_state = *hard_state,
            Record::Truncate(from) => {
                self.stored.truncate(*from)?;
                self.forget_from(*from);
            }
            Record::Snapshot { file, keeps_log } => {
                self.stored.store_snapshot(file.clone(), *keeps_log)?;
                if !keeps_log {
                    self.segments.clear();
                }
            }
            Record::Entries(entries) => {
                self.stored.append(entries)?;
                self.appended(segment, entries);
            }
            Record::Compact(to) => {
                self.stored.compact(*to)?;
                self.forget_compacted();
            }
            Record::Checkpoint(checkpoint) => self.check(checkpoint)?,
        }
        Ok(())
    }

    /// A group that a checkpoint is the first record of.
    pub(super) fn begin(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { hard_state, snapshot, base } = checkpoint.clone();
        Self { stored: Stored::after(base, hard_state, snapshot), segments: VecDeque::new() }
    }

    /// A checkpoint repeats what the records before it add up to; where it begins before the end
    /// of the log, the entries from there on are repeated behind it.
    fn check(&mut self, checkpoint: &Checkpoint) -> Result<(), Misfit> {
        if checkpoint.hard_state != self.stored.hard_state
            || checkpoint.snapshot != self.stored.snapshot
            || checkpoint.base > self.stored.last_index()
        {
            return Err(Misfit("a checkpoint contradicts the records before it"));
        }
        let repeated_from = checkpoint.base.next();
        if repeated_from <= self.stored.last_index() {
            let Checkpoint { hard_state, snapshot, base } = checkpoint.clone();
            self.stored = Stored::after(base, hard_state, snapshot);
            self.segments.clear();
        }
        Ok(())
    }

    fn appended(&mut self, segment: u64, entries: &Entries) {
        if let Some(first) = entries.first_index()
            && self.segments.back().is_none_or(|(last, _)| *last != segment)
        {
            self.segments.push_back((segment, first));
        }
    }

    fn forget_from(&mut self, from: LogIndex) {
        while self.segments.back().is_some_and(|(_, first)| *first >= from) {
            self.segments.pop_back();
        }
    }

    fn forget_compacted(&mut self) {
        let base = self.stored.base();
        if self.stored.last_index() == base {
            self.segments.clear();
        }
        // What the second segment's first entry follows is in the first one.
        while self.segments.get(1).is_some_and(|(_, first)| *first <= base.next()) {
            self.segments.pop_front();
        }
    }

    /// The oldest segment whose entries are still needed; `None` where none are.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.segments.front().map(|(segment, _)| *segment)
    }

    /// What the entries weigh.
    pub(super) fn weight(&self) -> usize {
        self.stored.pieces().flat_map(|piece| piece.iter()).map(Entry::weight).sum()
    }

    /// The records that stand for the group at the head of a segment: with its entries again, so
    /// that no older segment is needed, or without.
    pub(super) fn checkpoint(&self, with_entries: bool) -> Vec<Record> {
        let base = if with_entries { self.stored.base() } else { self.stored.last_index() };
        let checkpoint = Checkpoint {
            hard_state: self.stored.hard_state,
            snapshot: self.stored.snapshot.clone(),
            base,
        };
        let mut records = vec![Record::Checkpoint(checkpoint)];
        if with_entries {
            records.extend(self.stored.pieces().cloned().map(Record::Entries));
        }
        records
    }
}

#[cfg(test)]
mod tests;
