//! The lines that a cache holds.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::operation::{Answer, Operation, OperationId};
use super::slot::Slot;
use crate::line::LineState;
use crate::message::Dirty;
use crate::timer::Retry;
use crate::version::{Seq, Version};

/// How many sweeps a line lives through, where lines live for a limited time: the more, the closer
/// to that time it goes.
pub(super) const SWEEPS: u8 = 8;

/// One line; a line that is not held does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Line {
    /// Never [`LineState::Invalid`].
    pub(super) state: LineState,
    /// The grant by which it is held, or the recall that downgraded it.
    pub(super) seq: Seq,
    /// `None` where the key was never written.
    pub(super) version: Option<Version>,
    /// `None` where there is no value: never written, or removed.
    pub(super) value: Option<Bytes>,
    /// What is being written through, if anything is. Only while the line is owned.
    pub(super) through: Option<Box<Through>>,
}

/// A value on its way to main memory while the line stays.
///
/// Of a line that is E it is a client's write that nobody has been answered and nobody may read
/// yet; of a line that is M it is a flush of what can be read already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Through {
    pub(super) version: Version,
    pub(super) value: Option<Bytes>,
    /// Who is answered what once it is stored.
    pub(super) answers: Vec<(OperationId, Answer)>,
    /// Writes that came meanwhile.
    pub(super) waiting: Vec<Operation>,
    pub(super) retry: Retry,
}

impl Line {
    /// What must not be dropped with the line.
    pub(super) fn dirty(&self) -> Option<Dirty> {
        if let (LineState::Modified, Some(version)) = (self.state, self.version) {
            return Some(Dirty { grant: self.seq, version, value: self.value.clone() });
        }
        let through = self.through.as_ref()?;
        let (version, value) = (through.version, through.value.clone());
        Some(Dirty { grant: self.seq, version, value })
    }
}

/// The lines in numbered slots, found by hash, and sums over them.
///
/// Which one goes when there is no room is decided by *second chance*: a hand goes round the slots
/// and takes the first whose line was not used since it came by last. That is nearly the order of
/// last use, and a use costs one bit of the slot that it reads anyway.
#[derive(Clone)]
// What a hit looks at comes first.
#[repr(C)]
pub(super) struct Lines {
    index: HashTable<u32>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    /// Seq and version of lines in whose slots they have no room.
    wide: BTreeMap<u32, (Seq, Option<Version>)>,
    seed: u64,
    /// Few lines are being written at a time: what is on its way is kept apart.
    throughs: BTreeMap<Bytes, Box<Through>>,
    hand: usize,
    /// The slot that was filled last: its line has not had a chance yet.
    newest: u32,
    /// How many sweeps there have been. A line that is pinned through a whole turn of this count
    /// looks young again, and goes later.
    sweep: u8,
    bytes: usize,
    modified: usize,
    exclusive: usize,
}

/// What a hit finds.
#[cfg(any(feature = "tokio", test))]
pub(super) struct Hit {
    pub(super) value: Option<Bytes>,
    pub(super) version: Option<Version>,
    pub(super) state: LineState,
}

/// The hash by which a key is found.
pub(crate) fn hash_of(key: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(key, seed)
}

impl Lines {
    pub(super) const fn new(seed: u64) -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            wide: BTreeMap::new(),
            seed,
            throughs: BTreeMap::new(),
            hand: 0,
            newest: 0,
            sweep: 0,
            bytes: 0,
            modified: 0,
            exclusive: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn modified(&self) -> usize {
        self.modified
    }

    pub(super) const fn exclusive(&self) -> usize {
        self.exclusive
    }

    /// How many lines have something on its way to main memory.
    pub(super) fn written(&self) -> usize {
        self.throughs.len()
    }

    /// What is held of a key, which counts as used.
    #[cfg(any(feature = "tokio", test))]
    #[inline]
    pub(super) fn hit(&mut self, hash: u64, key: &[u8]) -> Option<Hit> {
        let slots = &self.slots;
        let is_it = |place: &u32| slots[*place as usize].as_ref().is_some_and(|it| it.is_of(key));
        let place = *self.index.find(hash, is_it)?;
        let slot = self.slots[place as usize].as_mut()?;
        slot.touch();
        let version = match slot.numbers() {
            Some(numbers) => numbers.version(),
            None => self.wide.get(&place)?.1,
        };
        Some(Hit { value: slot.value(), version, state: slot.state() })
    }

    /// The line, which counts as used.
    pub(super) fn touch(&mut self, key: &Bytes) -> Option<Line> {
        let place = self.place(key)?;
        self.slots[place as usize].as_mut()?.touch();
        self.line(place, self.throughs.get(key).cloned())
    }

    /// The line, without using it.
    pub(super) fn peek(&self, key: &Bytes) -> Option<Line> {
        self.line(self.place(key)?, self.throughs.get(key).cloned())
    }

    /// How the line is held, and which version of it.
    pub(super) fn state(&self, key: &Bytes) -> Option<(LineState, Option<Version>)> {
        let place = self.place(key)?;
        let slot = self.slots[place as usize].as_ref()?;
        Some((slot.state(), self.numbers(place, slot).1))
    }

    pub(super) fn contains(&self, key: &Bytes) -> bool {
        self.place(key).is_some()
    }

    /// Whether a client's write is on its way to main memory.
    pub(super) fn is_being_written(&self, key: &Bytes) -> bool {
        self.throughs.contains_key(key)
            && self.slot(key).is_some_and(|slot| slot.state() != LineState::Modified)
    }

    /// Changes what is on its way to main memory.
    pub(super) fn through_mut(&mut self, key: &Bytes) -> Option<&mut Through> {
        self.throughs.get_mut(key).map(|through| &mut **through)
    }

    /// Changes the line, without using it.
    pub(super) fn modify<R>(
        &mut self,
        key: &Bytes,
        change: impl FnOnce(&mut Line) -> R,
    ) -> Option<R> {
        let place = self.place(key)?;
        let through = self.throughs.remove(key);
        let mut line = self.line(place, through)?;
        let result = change(&mut line);
        let slot = self.slots[place as usize].as_mut()?;
        let (bytes, state) = (slot.bytes(), slot.state());
        slot.set(key, &line);
        keep_wide(&mut self.wide, place, slot, &line);
        let (bytes_after, state_after) = (slot.bytes(), slot.state());
        if let Some(through) = line.through {
            self.throughs.insert(key.clone(), through);
        }
        self.bytes = self.bytes - bytes + bytes_after;
        self.uncount(state);
        self.count(state_after);
        Some(result)
    }

    /// Holds the line, in place of what was held of the key.
    pub(super) fn insert(&mut self, key: &Bytes, line: Line, entries_max: usize) {
        self.remove(key);
        let slot = Slot::new(key, &line, self.sweep);
        self.bytes += slot.bytes();
        self.count(line.state);
        let place = self.free.pop().unwrap_or_else(|| {
            self.grow(entries_max);
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("fewer lines than 2^32 fit in memory")
        });
        let slot = self.slots[place as usize].insert(slot);
        keep_wide(&mut self.wide, place, slot, &line);
        self.newest = place;
        if let Some(through) = line.through {
            self.throughs.insert(key.clone(), through);
        }
        let (slots, seed) = (&self.slots, self.seed);
        let rehash = |place: &u32| {
            slots[*place as usize].as_ref().map_or(0, |slot| hash_of(slot.key(), seed))
        };
        self.index.insert_unique(hash_of(key, seed), place, rehash);
    }

    /// Makes room for more slots: twice as many, but not more than there will ever be lines.
    fn grow(&mut self, entries_max: usize) {
        let (length, capacity) = (self.slots.len(), self.slots.capacity());
        if length == capacity {
            // One more than may be held is held until one of them goes.
            let wanted = (capacity * 2).max(8).min(entries_max.saturating_add(1)).max(length + 1);
            self.slots.reserve_exact(wanted - length);
        }
    }

    pub(super) fn remove(&mut self, key: &Bytes) -> Option<Line> {
        let (slots, seed) = (&self.slots, self.seed);
        let is_it = |place: &u32| slots[*place as usize].as_ref().is_some_and(|it| it.is_of(key));
        let entry = self.index.find_entry(hash_of(key, seed), is_it).ok()?;
        let (place, _) = entry.remove();
        let through = self.throughs.remove(key);
        let line = self.line(place, through)?;
        let slot = self.slots[place as usize].take()?;
        self.wide.remove(&place);
        self.free.push(place);
        self.bytes -= slot.bytes();
        self.uncount(slot.state());
        Some(line)
    }

    /// The line that goes when there is no room, if any may. `pinned` ones may not, nor those of
    /// which a client's write is on its way.
    pub(super) fn victim(&mut self, pinned: impl Fn(&[u8]) -> bool) -> Option<Bytes> {
        // Twice round: the first time takes all chances away, at most.
        for _ in 0..2 * self.slots.len() {
            let place = self.hand % self.slots.len();
            self.hand = place + 1;
            let Some(slot) = self.slots[place].as_mut() else { continue };
            let spared = place == self.newest as usize && self.index.len() > 1;
            if !slot.had_chance() || spared || pinned(slot.key()) {
                continue;
            }
            let written = !self.throughs.is_empty() && self.throughs.contains_key(slot.key());
            if !written || slot.state() == LineState::Modified {
                return Some(slot.key_bytes());
            }
        }
        None
    }

    /// The lines that are older than they may become, at the next of [`SWEEPS`] in their time.
    pub(super) fn sweep(&mut self) -> Vec<Bytes> {
        self.sweep = self.sweep.wrapping_add(1);
        let old = |slot: &&Slot| self.sweep.wrapping_sub(slot.born()) >= SWEEPS;
        self.slots.iter().flatten().filter(old).map(Slot::key_bytes).collect()
    }

    /// All keys, by slot.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.slots.iter().flatten().map(Slot::key_bytes).collect()
    }

    fn place(&self, key: &[u8]) -> Option<u32> {
        let is_it =
            |place: &u32| self.slots[*place as usize].as_ref().is_some_and(|it| it.is_of(key));
        self.index.find(hash_of(key, self.seed), is_it).copied()
    }

    fn slot(&self, key: &[u8]) -> Option<&Slot> {
        self.slots[self.place(key)? as usize].as_ref()
    }

    /// The line in this slot, with what is on its way of it.
    fn line(&self, place: u32, through: Option<Box<Through>>) -> Option<Line> {
        let slot = self.slots[place as usize].as_ref()?;
        let (seq, version) = self.numbers(place, slot);
        let (state, value) = (slot.state(), slot.value());
        Some(Line { state, seq, version, value, through })
    }

    fn numbers(&self, place: u32, slot: &Slot) -> (Seq, Option<Version>) {
        match slot.numbers() {
            Some(numbers) => (numbers.seq(), numbers.version()),
            None => self.wide.get(&place).copied().expect("what is in no slot is kept here"),
        }
    }

    fn count(&mut self, state: LineState) {
        match state {
            LineState::Modified => self.modified += 1,
            LineState::Exclusive => self.exclusive += 1,
            LineState::Shared | LineState::Invalid => {}
        }
    }

    fn uncount(&mut self, state: LineState) {
        match state {
            LineState::Modified => self.modified -= 1,
            LineState::Exclusive => self.exclusive -= 1,
            LineState::Shared | LineState::Invalid => {}
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], Line)> {
        (0..).zip(&self.slots).filter_map(|(place, slot)| {
            let slot = slot.as_ref()?;
            let through = self.throughs.get(slot.key()).cloned();
            Some((slot.key(), self.line(place, through)?))
        })
    }
}

/// Keeps what has no room in the slot.
fn keep_wide(
    wide: &mut BTreeMap<u32, (Seq, Option<Version>)>,
    place: u32,
    slot: &Slot,
    line: &Line,
) {
    if slot.numbers().is_none() {
        wide.insert(place, (line.seq, line.version));
    } else if !wide.is_empty() {
        wide.remove(&place);
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Lines {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Lines {}

impl Hash for Lines {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

#[cfg(test)]
mod tests;
