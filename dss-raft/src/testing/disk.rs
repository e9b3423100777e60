//! A simulated disk: what is durable, and what is on its way.

use std::collections::VecDeque;

use crate::core::Random;
use crate::entry::{Entry, HardState, Snapshot};
use crate::output::Persist;
use crate::ports::Restored;
use crate::types::{LogId, LogIndex, PersistSeq};

/// The disk of one node. It outlives the node's crashes; what was being written then may not.
#[derive(Debug, Default)]
pub(super) struct Disk {
    hard_state: HardState,
    snapshot: Option<Snapshot>,
    /// The last entries of the snapshots before it that are kept for those who are fetching them.
    older: VecDeque<LogId>,
    entries: VecDeque<Entry>,
    writing: VecDeque<Persist>,
    /// How many of them the sync that is under way will have written.
    pub(super) syncing: usize,
}

/// A write does not follow what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfOrder(pub(super) LogIndex);

impl Disk {
    pub(super) fn write(&mut self, persist: Persist) {
        self.writing.push_back(persist);
    }

    /// Whether writes wait for a sync that no one has begun.
    pub(super) fn is_waiting(&self) -> bool {
        self.syncing == 0 && !self.writing.is_empty()
    }

    /// Begins to make everything durable that was written so far.
    pub(super) fn begin_sync(&mut self) {
        self.syncing = self.writing.len();
    }

    /// Ends the sync, and names the last write that it made durable.
    pub(super) fn end_sync(&mut self) -> Result<Option<PersistSeq>, OutOfOrder> {
        let count = std::mem::take(&mut self.syncing);
        self.make_durable(count)
    }

    /// Loses what was not synced, but for the first few writes.
    pub(super) fn crash(&mut self, random: &mut Random) -> Result<(), OutOfOrder> {
        let survivors = random.below(self.writing.len() as u64 + 1);
        self.make_durable(usize::try_from(survivors).unwrap_or(0))?;
        self.writing.clear();
        self.syncing = 0;
        Ok(())
    }

    /// Whether this snapshot is durable, and still there.
    pub(super) fn has_snapshot(&self, last: LogId) -> bool {
        let newest = self.snapshot.as_ref().map(|snapshot| snapshot.last);
        newest == Some(last) || self.older.contains(&last)
    }

    pub(super) fn restore(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            entries: self.entries.iter().cloned().collect(),
        }
    }

    fn make_durable(&mut self, count: usize) -> Result<Option<PersistSeq>, OutOfOrder> {
        let mut last = None;
        for _ in 0..count {
            let Some(persist) = self.writing.pop_front() else { break };
            last = Some(persist.seq);
            self.store(persist)?;
        }
        Ok(last)
    }

    fn store(&mut self, persist: Persist) -> Result<(), OutOfOrder> {
        if let Some(hard_state) = persist.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(index) = persist.truncate_from {
            let kept = self.entries.partition_point(|entry| entry.id.index < index);
            if kept == self.entries.len() {
                return Err(OutOfOrder(index));
            }
            self.entries.truncate(kept);
        }
        if let Some(snapshot) = persist.snapshot {
            /// Enough that whoever fetches one in time gets all of it.
            const OLDER: usize = 50;
            let older = self.snapshot.replace(*snapshot);
            self.older.extend(older.map(|older| older.last));
            while self.older.len() > OLDER {
                self.older.pop_front();
            }
        }
        let covered = self.snapshot.as_ref().map_or(LogIndex::ZERO, |s| s.last.index);
        if let Some(first) = persist.entries.first_index() {
            let last = self.entries.back().map_or(covered, |entry| entry.id.index);
            if first != last.next() {
                return Err(OutOfOrder(first));
            }
            self.entries.extend(persist.entries.iter().cloned());
        }
        if let Some(index) = persist.compact_to {
            if index > covered {
                return Err(OutOfOrder(index));
            }
            let gone = self.entries.partition_point(|entry| entry.id.index <= index);
            self.entries.drain(..gone);
        }
        Ok(())
    }
}
