//! The log in memory: a base that a snapshot covers, and shared chunks of entries behind it.

use std::collections::VecDeque;

use crate::entry::{Entries, Entry};
use crate::types::{LogId, LogIndex, Term};

/// The log (section 5.3). Every entry after `base` is here, written to storage or not.
///
/// Invariants: indexes are consecutive from `base` to `last`; terms never fall; no chunk is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    /// The entry before the first one that is kept.
    base: LogId,
    /// The last entry, staged ones included; `base` where there is none.
    last: LogId,
    chunks: VecDeque<Chunk>,
    /// Entries of this node's own proposals that are not yet in a chunk: those of one poll become
    /// one chunk, one write and one message.
    staged: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    entries: Entries,
    first: LogIndex,
    last: LogIndex,
    weight: usize,
}

impl Chunk {
    fn new(entries: Entries) -> Option<Self> {
        let (first, last) = (entries.first_index()?, entries.last_index()?);
        let weight = entries.weight();
        Some(Self { entries, first, last, weight })
    }

    fn position(&self, index: LogIndex) -> usize {
        to_position(index.since(self.first))
    }

    /// Its entries from `from` to `to`, both inclusive.
    fn part(&self, from: LogIndex, to: LogIndex) -> Entries {
        if from <= self.first && to >= self.last {
            return self.entries.clone();
        }
        self.entries.slice(self.position(from)..self.position(to.next()))
    }
}

fn to_position(distance: u64) -> usize {
    usize::try_from(distance).unwrap_or(usize::MAX)
}

impl Log {
    pub(crate) fn new(base: LogId) -> Self {
        Self { base, last: base, chunks: VecDeque::new(), staged: Vec::new() }
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// The term of the entry at `index`, the base's included; `None` outside.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.last.index {
            return Some(self.last.term);
        }
        if index == self.base.index {
            return Some(self.base.term);
        }
        if let Some(first) = self.staged.first()
            && index >= first.id.index
        {
            return self.staged.get(to_position(index.since(first.id.index))).map(|e| e.id.term);
        }
        let chunk = self.chunks.get(self.chunk_of(index)?)?;
        chunk.entries.get(chunk.position(index)).map(|entry| entry.id.term)
    }

    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The id of the entry at `index`, which must be in the log or its base.
    pub(crate) fn id_at(&self, index: LogIndex) -> Option<LogId> {
        self.term_at(index).map(|term| LogId::new(term, index))
    }

    /// Adds one entry of this node's own, of a term not below the last one's.
    pub(crate) fn stage(&mut self, entry: Entry) {
        debug_assert_eq!(entry.id.index, self.last.index.next());
        debug_assert!(entry.id.term >= self.last.term);
        self.last = entry.id;
        self.staged.push(entry);
    }

    pub(crate) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Makes one chunk of what is staged.
    pub(crate) fn seal(&mut self) -> Entries {
        let entries = Entries::drained_from(&mut self.staged);
        if let Some(chunk) = Chunk::new(entries.clone()) {
            self.chunks.push_back(chunk);
        }
        entries
    }

    /// Adds entries that follow the last one.
    pub(crate) fn append(&mut self, entries: Entries) {
        debug_assert!(self.staged.is_empty());
        if let Some(chunk) = Chunk::new(entries) {
            debug_assert_eq!(chunk.first, self.last.index.next());
            self.last = chunk.entries[chunk.entries.len() - 1].id;
            self.chunks.push_back(chunk);
        }
    }

    /// Forgets the entries from `index` on, which lies behind the base.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        debug_assert!(self.staged.is_empty());
        debug_assert!(index > self.base.index);
        while let Some(chunk) = self.chunks.pop_back() {
            if chunk.first < index {
                let kept = chunk.part(chunk.first, index.previous());
                self.chunks.extend(Chunk::new(kept));
                break;
            }
        }
        self.last =
            self.chunks.back().and_then(|c| c.entries.last()).map_or(self.base, |entry| entry.id);
    }

    /// Forgets the entries up to `index`, inclusive, which is in the log and not staged.
    pub(crate) fn compact_to(&mut self, index: LogIndex) {
        let Some(base) = self.id_at(index) else { return };
        self.base = base;
        while let Some(chunk) = self.chunks.pop_front() {
            if chunk.last > index {
                if let Some(kept) = Chunk::new(chunk.part(index.next(), chunk.last)) {
                    self.chunks.push_front(kept);
                }
                break;
            }
        }
    }

    /// A run of entries from `from` to at most `to` that needs no copying: the part of one chunk.
    pub(crate) fn shared_run(&self, from: LogIndex, to: LogIndex) -> Entries {
        match self.chunk_of(from).and_then(|position| self.chunks.get(position)) {
            Some(chunk) => chunk.part(from, to.min(chunk.last)),
            None => Entries::EMPTY,
        }
    }

    /// Entries from `from` on that weigh at most `weight_max`, but at least one where there is one;
    /// and what they weigh at most.
    ///
    /// Shares memory where one chunk is enough, else copies the handles of small chunks together.
    pub(crate) fn run(&self, from: LogIndex, weight_max: usize) -> (Entries, usize) {
        let Some(position) = self.chunk_of(from) else { return (Entries::EMPTY, 0) };
        let chunk = &self.chunks[position];
        let (first_part, left) = limited(chunk.part(from, chunk.last), chunk.weight, weight_max);
        let reaches_end = first_part.last_index() == Some(chunk.last);
        if !reaches_end || self.chunks.get(position + 1).is_none_or(|next| next.weight > left) {
            let weight = match &first_part[..] {
                // It may exceed the limit.
                [only] => only.weight(),
                _ => weight_max - left,
            };
            return (first_part, weight);
        }
        let mut gathered = first_part.to_vec();
        let mut left = left;
        for chunk in self.chunks.range(position + 1..) {
            if chunk.weight > left {
                break;
            }
            left -= chunk.weight;
            gathered.extend_from_slice(&chunk.entries);
        }
        (gathered.into(), weight_max - left)
    }

    /// Shows every sealed entry after `index`, in order, in runs.
    pub(crate) fn for_each_after(&self, index: LogIndex, mut visit: impl FnMut(&[Entry])) {
        for chunk in self.chunks.iter().filter(|chunk| chunk.last > index) {
            visit(&chunk.part(index.next().max(chunk.first), chunk.last));
        }
    }

    /// The first index of the run of entries that have the same term as the one at `index`; at
    /// least the one after the base.
    pub(crate) fn first_of_term(&self, index: LogIndex) -> LogIndex {
        let Some(term) = self.term_at(index) else { return index };
        let mut first = index;
        while first > self.base.index.next() && self.term_at(first.previous()) == Some(term) {
            let Some(chunk) = self.chunk_of(first.previous()).and_then(|at| self.chunks.get(at))
            else {
                break;
            };
            let below = chunk.entries.partition_point(|entry| entry.id.term < term);
            first = chunk.entries[below].id.index;
        }
        first
    }

    /// The last entry at or before `hint` whose term is not above the hint's: where a log that
    /// ends its common part with `hint` can match this one at the latest.
    pub(crate) fn last_possible_match(&self, hint: LogId) -> LogIndex {
        let mut index = hint.index.min(self.last.index);
        while index > self.base.index && self.term_at(index).is_some_and(|term| term > hint.term) {
            index = self.first_of_term(index).previous();
        }
        index
    }

    /// The earliest index behind which at most `entries_max` entries of at most `weight_max` lie,
    /// up to and including `to`.
    pub(crate) fn tail_start(&self, to: LogIndex, entries_max: u64, weight_max: usize) -> LogIndex {
        let floor = LogIndex::new(to.get().saturating_sub(entries_max)).max(self.base.index);
        let mut start = to;
        let mut left = weight_max;
        for chunk in self.chunks.iter().rev().filter(|chunk| chunk.first <= to) {
            // Most chunks fit as a whole.
            if chunk.last <= to && chunk.first > floor && chunk.weight <= left {
                left -= chunk.weight;
                start = chunk.first.previous();
                continue;
            }
            for entry in chunk.entries.iter().rev().skip_while(|entry| entry.id.index > to) {
                if entry.weight() > left || start <= floor {
                    return start;
                }
                left -= entry.weight();
                start = entry.id.index.previous();
            }
        }
        start
    }

    /// The weight of the entries after `index`.
    pub(crate) fn weight_after(&self, index: LogIndex) -> usize {
        let sealed: usize = (self.chunks.iter().rev().take_while(|chunk| chunk.last > index))
            .flat_map(|chunk| &chunk.entries[chunk.position(index.next())..])
            .map(Entry::weight)
            .sum();
        sealed + self.staged.iter().map(Entry::weight).sum::<usize>()
    }

    fn chunk_of(&self, index: LogIndex) -> Option<usize> {
        let newest = self.chunks.back()?;
        if index > newest.last || index <= self.base.index {
            return None;
        }
        if index >= newest.first {
            return Some(self.chunks.len() - 1);
        }
        // The entry before the newest ones is asked for with each of them.
        if let Some(second) = self.chunks.len().checked_sub(2)
            && index >= self.chunks[second].first
        {
            return Some(second);
        }
        Some(self.chunks.partition_point(|chunk| chunk.last < index))
    }
}

/// The first entries of `run` that weigh at most `weight_max`, at least one, and how much of the
/// limit is left. `known` bounds the weight of the run, so that most need not be weighed.
fn limited(run: Entries, known: usize, weight_max: usize) -> (Entries, usize) {
    if known <= weight_max {
        return (run, weight_max - known);
    }
    let mut left = weight_max;
    let mut count = 0;
    for entry in run.iter() {
        let weight = entry.weight();
        if weight > left && count > 0 {
            break;
        }
        left = left.saturating_sub(weight);
        count += 1;
    }
    (run.slice(0..count), left)
}

#[cfg(test)]
mod tests;
