//! What a group has stored, and how each write changes it.

use std::collections::VecDeque;

use crate::entry::{Entries, Entry, HardState};
use crate::ports::Restored;
use crate::types::{LogId, LogIndex};

/// One group's durable state. `S` is how a snapshot is held: whole, or as the name of its file.
///
/// Invariants: the entries are consecutive from `base` on; once everything written is here,
/// nothing is missing between the snapshot (or the beginning) and the first of them.
#[derive(Debug, Clone)]
pub(super) struct Stored<S> {
    pub(super) hard_state: HardState,
    pub(super) snapshot: Option<S>,
    /// The index before the first entry.
    base: LogIndex,
    /// The entries, in pieces that share their memory with whoever wrote them. None is empty.
    pieces: VecDeque<Entries>,
}

/// What every form of a snapshot knows.
pub(super) trait CoversLog {
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
pub(super) struct Misfit(pub(super) &'static str);

impl<S> Default for Stored<S> {
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            snapshot: None,
            base: LogIndex::ZERO,
            pieces: VecDeque::new(),
        }
    }
}

impl<S: CoversLog> Stored<S> {
    /// A group whose log up to `base` is not here.
    pub(super) fn after(base: LogIndex, hard_state: HardState, snapshot: Option<S>) -> Self {
        Self { hard_state, snapshot, base, pieces: VecDeque::new() }
    }

    fn snapshot_last(&self) -> LogId {
        self.snapshot.as_ref().map(CoversLog::last).unwrap_or_default()
    }

    /// The index before the first entry.
    pub(super) fn base(&self) -> LogIndex {
        self.base
    }

    /// The last entry's index, or the base where there is none.
    pub(super) fn last_index(&self) -> LogIndex {
        self.pieces.back().and_then(Entries::last_index).unwrap_or(self.base)
    }

    /// Whether the snapshot, or the beginning, and the entries leave nothing out.
    pub(super) fn is_whole(&self) -> bool {
        self.base <= self.snapshot_last().index
    }

    /// The entries, piece by piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Entries> {
        self.pieces.iter()
    }

    fn entry(&self, index: LogIndex) -> Option<&Entry> {
        let piece = self.pieces.iter().find(|piece| piece.last_index() >= Some(index))?;
        piece.get(position(piece, index)?)
    }

    pub(super) fn truncate(&mut self, from: LogIndex) -> Result<(), Misfit> {
        if from <= self.snapshot_last().index {
            return Err(Misfit("a truncation reaches into the snapshot"));
        }
        while let Some(piece) = self.pieces.pop_back() {
            match position(&piece, from) {
                Some(0) => {}
                None if piece.first_index() > Some(from) => {}
                None => {
                    self.pieces.push_back(piece);
                    break;
                }
                Some(kept) => {
                    self.pieces.push_back(piece.slice(0..kept));
                    break;
                }
            }
        }
        self.base = self.base.min(from.previous());
        Ok(())
    }

    /// Whether the entries agree with a snapshot that ends at `last` (figure 13, step 6): then they
    /// stay, else they all go.
    pub(super) fn agrees_with(&self, last: LogId) -> bool {
        match self.entry(last.index) {
            Some(entry) => entry.id == last,
            // They start right behind it, or behind one that ends in the same place.
            None => last == self.snapshot_last(),
        }
    }

    pub(super) fn store_snapshot(&mut self, snapshot: S, keeps_log: bool) -> Result<(), Misfit> {
        let last = snapshot.last();
        if last.index < self.snapshot_last().index {
            return Err(Misfit("a snapshot is older than the one before"));
        }
        if !keeps_log {
            self.pieces.clear();
            self.base = last.index;
        }
        self.snapshot = Some(snapshot);
        Ok(())
    }

    pub(super) fn append(&mut self, entries: &Entries) -> Result<(), Misfit> {
        let Some(first) = entries.first() else { return Ok(()) };
        if !entries.is_consecutive() {
            return Err(Misfit("entries are not consecutive"));
        }
        if first.id.index != self.last_index().next() {
            return Err(Misfit("entries do not follow the last one"));
        }
        let last = self.pieces.back().and_then(|piece| piece.last());
        if last.is_some_and(|last| last.id.term > first.id.term) {
            return Err(Misfit("the term of an entry is below the one before"));
        }
        self.pieces.push_back(entries.clone());
        Ok(())
    }

    pub(super) fn compact(&mut self, to: LogIndex) -> Result<(), Misfit> {
        if to > self.snapshot_last().index {
            return Err(Misfit("a compaction reaches past the snapshot"));
        }
        while let Some(piece) = self.pieces.pop_front() {
            let kept = match position(&piece, to) {
                Some(covered) => piece.slice(covered + 1..piece.len()),
                None if piece.last_index() <= Some(to) => Entries::EMPTY,
                None => piece,
            };
            if !kept.is_empty() {
                self.pieces.push_front(kept);
                break;
            }
        }
        self.base = self.base.max(to);
        Ok(())
    }

    /// What a start gets to see, with the snapshot as it is read from wherever it lies.
    pub(super) fn restored(&self, snapshot: Option<crate::Snapshot>) -> Restored {
        let entries = self.pieces.iter().flat_map(|piece| piece.iter().cloned()).collect();
        Restored { hard_state: self.hard_state, snapshot, entries }
    }
}

fn position(piece: &Entries, index: LogIndex) -> Option<usize> {
    let first = piece.first_index()?;
    let position = usize::try_from(index.get().checked_sub(first.get())?).ok()?;
    (position < piece.len()).then_some(position)
}
