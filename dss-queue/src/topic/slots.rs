//! Where messages lie: in rows of slots, as tight as a backlog of millions asks for.
//!
//! A slot has 32 bytes beside the payload's own. What few messages have, a key, headers, a delay, a
//! long payload, is behind a pointer; sequences and times are kept as distances from the beginning
//! of their row.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::id::{MessageId, ShardId};
use crate::message::{Message, weight_of};
use crate::name::Key;
use crate::time::UnixMillis;

/// Slots of a full row: enough that what it has for itself does not count, few enough that tidying
/// one up takes a microsecond.
const ROW_SLOTS: usize = 256;
/// What an empty row may keep for the next message.
const IDLE_SLOTS: usize = 32;
/// From how many slots on a row that is mostly empty is made smaller.
const TIDY_SLOTS: usize = 64;
/// Payloads up to this long are copied for a delivery, which takes no longer than to share them
/// would: sharing, too, allocates.
const COPIED_BYTES_MAX: usize = 1 << 10;
/// In place of a count of groups, of which there are at most a thousand: the message is gone.
const GONE: u16 = u16::MAX;

/// Messages in the order of their sequences.
///
/// Looking one up takes a search among the rows, and one step where none of its row is missing.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    rows: VecDeque<Row>,
    /// Who stored the first message; whoever else stored one is noted beside it.
    origin: ShardId,
}

#[derive(Debug, Clone)]
struct Row {
    /// What the distances in its slots are measured from.
    sequence: u64,
    produced_at: UnixMillis,
    /// Every slot before this one is gone.
    first: usize,
    /// How many are not.
    live: usize,
    slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// Empty where the payload is long.
    payload: Box<[u8]>,
    rare: Option<Box<Rare>>,
    /// Distances from the row's.
    produced_at: u32,
    sequence: u16,
    /// How many groups are done with it, or [`GONE`].
    settled: u16,
}

/// What most messages do not have.
#[derive(Debug, Clone, Default)]
struct Rare {
    key: Option<Key>,
    headers: BTreeMap<String, String>,
    delayed_until: Option<UnixMillis>,
    long_payload: Option<Bytes>,
    /// Who stored it, where that is not who stored the others.
    origin: Option<ShardId>,
}

/// A message of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    origin: ShardId,
    row: &'a Row,
    slot: &'a Slot,
}

/// What is left to say of a message that was removed.
#[derive(Debug)]
pub(crate) struct Removed {
    pub(crate) id: MessageId,
    pub(crate) key: Option<Key>,
    pub(crate) delayed_until: Option<UnixMillis>,
    pub(crate) weight: u64,
}

impl<'a> Stored<'a> {
    pub(crate) fn sequence(self) -> u64 {
        self.row.sequence + u64::from(self.slot.sequence)
    }

    pub(crate) fn id(self) -> MessageId {
        let origin = self.slot.rare.as_ref().and_then(|rare| rare.origin);
        MessageId::new(origin.unwrap_or(self.origin), self.sequence())
    }

    pub(crate) fn payload_bytes(self) -> usize {
        self.slot.payload_bytes()
    }

    pub(crate) fn key(self) -> Option<&'a Key> {
        self.slot.rare.as_ref().and_then(|rare| rare.key.as_ref())
    }

    pub(crate) fn headers(self) -> BTreeMap<String, String> {
        self.slot.rare.as_ref().map_or_else(BTreeMap::new, |rare| rare.headers.clone())
    }

    pub(crate) fn produced_at(self) -> UnixMillis {
        UnixMillis::new(self.row.produced_at.get() + u64::from(self.slot.produced_at))
    }

    /// When its delay ends; `None` once that has been fired.
    pub(crate) fn delayed_until(self) -> Option<UnixMillis> {
        self.slot.rare.as_ref().and_then(|rare| rare.delayed_until)
    }

    /// How many groups are done with it.
    pub(super) fn settled(self) -> usize {
        usize::from(self.slot.settled)
    }

    pub(crate) fn weight(self) -> u64 {
        self.slot.weight()
    }

    pub(crate) fn to_message(self) -> Message {
        Message {
            id: self.id(),
            payload: self.slot.shared_payload(),
            key: self.key().cloned(),
            headers: self.headers(),
            produced_at: self.produced_at(),
        }
    }
}

impl PartialEq for Stored<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_message() == other.to_message()
            && self.delayed_until() == other.delayed_until()
            && self.slot.settled == other.slot.settled
    }
}

impl Slot {
    fn is_live(&self) -> bool {
        self.settled != GONE
    }

    fn weight(&self) -> u64 {
        match &self.rare {
            None => weight_of(self.payload.len(), None, None),
            Some(rare) => weight_of(self.payload_bytes(), rare.key.as_ref(), Some(&rare.headers)),
        }
    }

    fn long_payload(&self) -> Option<&Bytes> {
        self.rare.as_ref().and_then(|rare| rare.long_payload.as_ref())
    }

    fn payload_bytes(&self) -> usize {
        self.long_payload().map_or(self.payload.len(), Bytes::len)
    }

    fn shared_payload(&self) -> Bytes {
        let copy = || Bytes::copy_from_slice(&self.payload);
        self.long_payload().map_or_else(copy, Bytes::clone)
    }
}

impl Slots {
    pub(super) fn get(&self, sequence: u64) -> Option<Stored<'_>> {
        let (row, slot) = self.find(sequence)?;
        let row = &self.rows[row];
        Some(Stored { origin: self.origin, row, slot: &row.slots[slot] })
    }

    pub(super) fn first(&self) -> Option<Stored<'_>> {
        let row = self.rows.iter().find(|row| row.live > 0)?;
        Some(Stored { origin: self.origin, row, slot: &row.slots[row.first] })
    }

    /// The messages at or after `sequence`.
    pub(super) fn from(&self, sequence: u64) -> impl Iterator<Item = Stored<'_>> {
        let row = self.rows.partition_point(|row| row.sequence <= sequence).saturating_sub(1);
        let begin = self.rows.get(row).map_or(0, |row| row.at_or_after(sequence));
        let begins = std::iter::once(begin).chain(std::iter::repeat(0));
        self.rows.iter().skip(row).zip(begins).flat_map(move |(row, begin)| {
            let live = row.slots[begin.max(row.first)..].iter().filter(|slot| slot.is_live());
            live.map(move |slot| Stored { origin: self.origin, row, slot })
        })
    }

    /// Puts a message behind all others.
    pub(super) fn push(&mut self, message: Message, delayed_until: Option<UnixMillis>) {
        let Message { id, payload, key, headers, produced_at } = message;
        if self.rows.is_empty() {
            self.origin = id.shard();
        }
        let origin = (id.shard() != self.origin).then_some(id.shard());
        let (payload, long_payload) = if payload.len() <= COPIED_BYTES_MAX {
            // Takes the memory over where nobody else shares it.
            (Vec::from(payload).into_boxed_slice(), None)
        } else {
            (Box::default(), Some(payload))
        };
        let is_rare = key.is_some()
            || !headers.is_empty()
            || delayed_until.is_some()
            || long_payload.is_some()
            || origin.is_some();
        let rare =
            is_rare.then(|| Box::new(Rare { key, headers, delayed_until, long_payload, origin }));
        let row = self.row_for(id.sequence(), produced_at);
        let sequence = id.sequence() - row.sequence;
        let produced_at = produced_at.get() - row.produced_at.get();
        row.slots.push(Slot {
            payload,
            rare,
            sequence: u16::try_from(sequence).expect("the row was chosen for it"),
            produced_at: u32::try_from(produced_at).expect("the row was chosen for it"),
            settled: 0,
        });
        row.live += 1;
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Removed> {
        let stored = self.get(sequence)?;
        let (id, weight) = (stored.id(), stored.weight());
        let (number, at) = self.find(sequence)?;
        let row = &mut self.rows[number];
        let slot = &mut row.slots[at];
        slot.settled = GONE;
        slot.payload = Box::default();
        let rare = slot.rare.take();
        row.live -= 1;
        row.tidy();
        let is_only = self.rows.len() == 1;
        let row = &self.rows[number];
        if row.live == 0 && !(is_only && row.slots.capacity() <= IDLE_SLOTS) {
            self.rows.remove(number);
        }
        let (key, delayed_until) = rare.map_or((None, None), |rare| (rare.key, rare.delayed_until));
        Some(Removed { id, key, delayed_until, weight })
    }

    /// The delay of a message is over: whether it had one.
    pub(super) fn reveal(&mut self, sequence: u64) -> bool {
        let Some((row, slot)) = self.find(sequence) else { return false };
        let rare = self.rows[row].slots[slot].rare.as_mut();
        rare.is_some_and(|rare| rare.delayed_until.take().is_some())
    }

    /// Sets how many groups are done with a message, given how many were.
    pub(super) fn settle(&mut self, sequence: u64, change: impl FnOnce(usize) -> usize) {
        if let Some((row, slot)) = self.find(sequence) {
            let settled = &mut self.rows[row].slots[slot].settled;
            *settled = u16::try_from(change(usize::from(*settled))).unwrap_or(GONE - 1);
        }
    }

    fn find(&self, sequence: u64) -> Option<(usize, usize)> {
        let number = match self.rows.back()? {
            last if last.sequence <= sequence => self.rows.len() - 1,
            _ => self.rows.partition_point(|row| row.sequence <= sequence).checked_sub(1)?,
        };
        let row = &self.rows[number];
        let at = row.at_or_after(sequence);
        let slot = row.slots.get(at)?;
        let is_it = row.sequence + u64::from(slot.sequence) == sequence && slot.is_live();
        is_it.then_some((number, at))
    }

    /// The last row, if it can take this message, or a new one.
    fn row_for(&mut self, sequence: u64, produced_at: UnixMillis) -> &mut Row {
        let last = self.rows.back_mut();
        let was_full = last.as_ref().is_some_and(|row| row.slots.len() >= ROW_SLOTS);
        let fits = last.is_some_and(|row| row.prepare(sequence, produced_at));
        if !fits {
            let slots = if was_full { Vec::with_capacity(ROW_SLOTS) } else { Vec::new() };
            self.rows.push_back(Row { sequence, produced_at, first: 0, live: 0, slots });
        }
        self.rows.back_mut().expect("one was added where there was none")
    }
}

impl Row {
    /// The first slot that is not before `sequence`.
    fn at_or_after(&self, sequence: u64) -> usize {
        let Some(distance) = sequence.checked_sub(self.sequence) else { return 0 };
        // Sequences rise, so a slot is never further on than its distance; in a row without gaps
        // it is right there.
        let guess = usize::try_from(distance).unwrap_or(usize::MAX).min(self.slots.len());
        match self.slots.get(guess) {
            Some(slot) if u64::from(slot.sequence) == distance => guess,
            _ => self.slots[..guess].partition_point(|slot| u64::from(slot.sequence) < distance),
        }
    }

    /// Whether the row can take one more message.
    fn prepare(&mut self, sequence: u64, produced_at: UnixMillis) -> bool {
        if self.live == 0 {
            *self = Self {
                sequence,
                produced_at,
                first: 0,
                live: 0,
                slots: std::mem::take(&mut self.slots),
            };
            self.slots.clear();
        }
        let near = |value: u64, base: u64, most: u64| {
            value.checked_sub(base).is_some_and(|distance| distance <= most)
        };
        self.slots.len() < ROW_SLOTS
            && near(sequence, self.sequence, u16::MAX.into())
            && near(produced_at.get(), self.produced_at.get(), u32::MAX.into())
    }

    /// A slot is gone: finds the first that is not, and closes the gaps where they are most of it.
    fn tidy(&mut self) {
        if self.live == 0 {
            return;
        }
        while !self.slots[self.first].is_live() {
            self.first += 1;
        }
        if self.slots.len() >= TIDY_SLOTS && self.live * 4 <= self.slots.len() {
            self.slots.retain(Slot::is_live);
            self.slots.shrink_to_fit();
            self.first = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, at: u64) -> Message {
        Message {
            id: MessageId::new(ShardId::new(3), sequence),
            payload: Bytes::from("x".repeat(usize::try_from(sequence % 1_500).unwrap())),
            key: None,
            headers: BTreeMap::new(),
            produced_at: UnixMillis::new(at),
        }
    }

    #[test]
    fn a_slot_has_32_bytes() {
        assert_eq!(size_of::<Slot>(), 32);
    }

    #[test]
    fn rows_are_filled_and_lose_their_gaps_once_these_are_most_of_them() {
        let mut slots = Slots::default();
        let count = 4 * ROW_SLOTS as u64;
        (1..=count).for_each(|sequence| slots.push(message(sequence, 1_000), None));
        assert_eq!(slots.rows.len(), 4);
        // All of the first row but every fourth; there is no gap to close before the last goes.
        let left = ROW_SLOTS as u64 / 4;
        let gone = (1..=ROW_SLOTS as u64).filter(|sequence| sequence % 4 != 0);
        for (removed, sequence) in (1_u64..).zip(gone) {
            assert_eq!(slots.rows[0].slots.len(), ROW_SLOTS, "before {removed}");
            assert!(slots.remove(sequence).is_some());
        }
        assert_eq!(slots.rows[0].slots.len() as u64, left);
        let expected = (1..=left).map(|nth| 4 * nth).chain(ROW_SLOTS as u64 + 1..=count);
        assert!(slots.from(0).map(Stored::sequence).eq(expected));
    }

    #[test]
    fn slots_find_what_a_map_finds_whatever_is_removed() {
        let mut random = 7_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        let (mut slots, mut map) = (Slots::default(), BTreeMap::new());
        let (mut sequence, mut at) = (5, 1_000);
        for _ in 0..40_000 {
            // Mostly neighbours, sometimes further apart than a row can say.
            sequence += if below(500) == 0 { 1 << 17 } else { 1 + below(3) };
            at = if below(700) == 0 { at / 2 } else { at + below(4) };
            slots.push(message(sequence, at), None);
            map.insert(sequence, at);
            for _ in 0..below(3) {
                let oldest = *map.first_key_value().expect("one was added").0;
                let victim = if below(2) == 0 { oldest } else { oldest + below(2_000) };
                assert_eq!(slots.remove(victim).is_some(), map.remove(&victim).is_some());
                if map.is_empty() {
                    break;
                }
            }
            let probe = sequence - below(900).min(sequence);
            let found = slots.get(probe).map(Stored::to_message);
            assert_eq!(found, map.get(&probe).map(|at| message(probe, *at)));
            let next = slots.from(probe).next().map(Stored::sequence);
            assert_eq!(next, map.range(probe..).next().map(|(sequence, _)| *sequence));
            let first = slots.first().map(Stored::sequence);
            assert_eq!(first, map.first_key_value().map(|(sequence, _)| *sequence));
        }
        assert!(slots.from(0).map(Stored::sequence).eq(map.keys().copied()));
        assert!(map.len() > 1_000, "there is something to be found");
    }
}
