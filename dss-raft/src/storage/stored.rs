//! What a group has stored, and how each write changes it.

use std::collections::VecDeque;

use crate::entry::{Entries, Entry, HardState};
use crate::ports::Restored;
use crate::types::{LogId, LogIndex};

/// One group's durable state. `S` is how a snapshot is held: whole, or as the name of its file.
///
/// Invariant: the entries are consecutive, and the first one stands at most one past the snapshot
/// (at 1 where there is none), so that nothing is missing between the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored<S> {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Option<S>,
    pub(crate) entries: VecDeque<Entry>,
}

/// What both forms of a snapshot know.
pub(crate) trait CoversLog {
    /// The last entry that the snapshot replaces.
    fn last(&self) -> LogId;
}

impl CoversLog for crate::Snapshot {
    fn last(&self) -> LogId {
        self.last
    }
}

impl CoversLog for crate::codec::SnapshotFile {
    fn last(&self) -> LogId {
        self.last
    }
}

/// A write that does not fit what is stored: a bug of the writer, or damage, where it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) &'static str);

impl<S> Default for Stored<S> {
    fn default() -> Self {
        Self { hard_state: HardState::default(), snapshot: None, entries: VecDeque::new() }
    }
}

impl<S: CoversLog> Stored<S> {
    fn snapshot_last(&self) -> LogId {
        self.snapshot.as_ref().map(CoversLog::last).unwrap_or_default()
    }

    /// The end of what is stored.
    fn last(&self) -> LogId {
        self.entries.back().map_or(self.snapshot_last(), |entry| entry.id)
    }

    fn position(&self, index: LogIndex) -> Option<usize> {
        let first = self.entries.front()?.id.index;
        let position = usize::try_from(index.get().checked_sub(first.get())?).ok()?;
        (position < self.entries.len()).then_some(position)
    }

    pub(crate) fn truncate(&mut self, from: LogIndex) -> Result<(), Misfit> {
        if from <= self.snapshot_last().index {
            return Err(Misfit("a truncation reaches into the snapshot"));
        }
        match self.position(from) {
            Some(position) => self.entries.truncate(position),
            None if from > self.last().index => {}
            // Before the first entry: all of them go.
            None => self.entries.clear(),
        }
        Ok(())
    }

    /// Figure 13, steps 5 to 7: entries behind a snapshot stay only if the log agrees with it.
    pub(crate) fn store_snapshot(&mut self, snapshot: S) -> Result<(), Misfit> {
        let last = snapshot.last();
        if last.index < self.snapshot_last().index {
            return Err(Misfit("a snapshot is older than the one before"));
        }
        let agrees = match self.position(last.index) {
            Some(position) => self.entries[position].id == last,
            // Entries that start right behind it agree if it covers what the old one covered.
            None => last == self.snapshot_last(),
        };
        if !agrees {
            self.entries.clear();
        }
        self.snapshot = Some(snapshot);
        Ok(())
    }

    pub(crate) fn append(&mut self, entries: &Entries) -> Result<(), Misfit> {
        let last = self.last();
        if entries.first_index().is_some_and(|first| first != last.index.next()) {
            return Err(Misfit("entries do not follow the last one"));
        }
        if entries.first().is_some_and(|first| first.id.term < last.term) {
            return Err(Misfit("the term of an entry is below the one before"));
        }
        self.entries.extend(entries.iter().cloned());
        Ok(())
    }

    pub(crate) fn compact(&mut self, to: LogIndex) -> Result<(), Misfit> {
        if to > self.snapshot_last().index {
            return Err(Misfit("a compaction reaches past the snapshot"));
        }
        let covered = self.entries.partition_point(|entry| entry.id.index <= to);
        self.entries.drain(..covered);
        Ok(())
    }
}

impl Stored<crate::Snapshot> {
    /// What a start gets to see.
    pub(crate) fn to_restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: self.entries.iter().cloned().collect(),
        }
    }
}
