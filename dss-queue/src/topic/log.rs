//! The messages that a topic keeps.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::de::Error;
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::slots::{Removed, Slots, Stored};
use crate::id::MessageId;
use crate::message::Message;
use crate::name::Key;
use crate::time::UnixMillis;

/// Messages in the order of their publish, with an index by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    messages: Slots,
    len: u64,
    /// The sequences of the kept messages of each key.
    keys: BTreeMap<Key, BTreeSet<u64>>,
    /// How many of them have a delay that is not over.
    delayed: u64,
    /// What they weigh.
    bytes: u64,
}

/// A message as it is written down.
type Record =
    (MessageId, Bytes, Option<Key>, BTreeMap<String, String>, UnixMillis, Option<UnixMillis>);

impl Log {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn delayed(&self) -> u64 {
        self.delayed
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<Stored<'_>> {
        self.messages.get(sequence)
    }

    pub(crate) fn first(&self) -> Option<Stored<'_>> {
        self.messages.first()
    }

    /// The messages at or after `sequence`.
    pub(crate) fn from(&self, sequence: u64) -> impl Iterator<Item = Stored<'_>> {
        self.messages.from(sequence)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Stored<'_>> {
        self.from(0)
    }

    /// The messages of `key` in `from..end`.
    pub(crate) fn of_key(&self, key: &Key, from: u64, end: u64) -> impl Iterator<Item = u64> {
        // An inverted range would panic; an empty one is what it means.
        let range = from..end.max(from);
        self.keys.get(key).into_iter().flat_map(move |all| all.range(range.clone()).copied())
    }

    /// Puts a message behind all others.
    pub(crate) fn push(&mut self, message: Message, delayed_until: Option<UnixMillis>) {
        self.len += 1;
        self.bytes += message.weight();
        self.delayed += u64::from(delayed_until.is_some());
        if let Some(key) = &message.key {
            self.keys.entry(key.clone()).or_default().insert(message.id.sequence());
        }
        self.messages.push(message, delayed_until);
    }

    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Removed> {
        let removed = self.messages.remove(sequence)?;
        self.len -= 1;
        self.bytes -= removed.weight;
        self.delayed -= u64::from(removed.delayed_until.is_some());
        if let Some(key) = &removed.key
            && let Some(sequences) = self.keys.get_mut(key)
        {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.keys.remove(key);
            }
        }
        Some(removed)
    }

    /// The delay of a message is over.
    pub(crate) fn reveal(&mut self, sequence: u64) -> Option<Stored<'_>> {
        if self.messages.reveal(sequence) {
            self.delayed -= 1;
        }
        self.get(sequence)
    }

    /// One more of `groups` groups is done with a message; the last one's word forgets it.
    pub(crate) fn settle(&mut self, sequence: u64, groups: usize) -> Option<Removed> {
        let settled = self.get(sequence)?.settled() + 1;
        if settled >= groups {
            return self.remove(sequence);
        }
        self.messages.settle(sequence, |_| settled);
        None
    }

    /// A group that was done with a message is gone.
    pub(crate) fn unsettle(&mut self, sequence: u64) {
        self.messages.settle(sequence, |settled| settled.saturating_sub(1));
    }

    /// The messages that this many groups are done with.
    pub(crate) fn settled_by(&self, groups: usize) -> Vec<u64> {
        self.iter().filter(|stored| stored.settled() >= groups).map(Stored::sequence).collect()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes after decoding how many groups are done with each message.
    pub(crate) fn set_settled(&mut self, settled: impl Fn(Stored<'_>) -> usize) {
        let counts: Vec<_> = self.iter().map(|it| (it.sequence(), settled(it))).collect();
        for (sequence, count) in counts {
            self.messages.settle(sequence, |_| count);
        }
    }
}

impl PartialEq for Log {
    /// The rest follows from the messages.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for Log {}

impl Serialize for Log {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(usize::try_from(self.len).ok())?;
        for stored in self.iter() {
            let Message { id, payload, key, headers, produced_at } = stored.to_message();
            let record: Record = (id, payload, key, headers, produced_at, stored.delayed_until());
            row.serialize_element(&record)?;
        }
        row.end()
    }
}

impl<'de> Deserialize<'de> for Log {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut log = Self::default();
        let mut next = 0;
        for record in Vec::<Record>::deserialize(deserializer)? {
            let (id, payload, key, headers, produced_at, delayed_until) = record;
            if id.sequence() < next || id.sequence() == u64::MAX {
                return Err(D::Error::custom("a message is out of place"));
            }
            next = id.sequence() + 1;
            log.push(Message { id, payload, key, headers, produced_at }, delayed_until);
        }
        Ok(log)
    }
}
