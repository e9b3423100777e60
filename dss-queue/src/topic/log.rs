//! The messages that a topic keeps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::name::Key;
use crate::time::UnixMillis;

/// Messages in the order of their publish, with an index by key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    messages: BTreeMap<u64, Stored>,
    /// The sequences of the kept messages of each key. Derived.
    #[serde(skip)]
    keys: BTreeMap<Key, BTreeSet<u64>>,
    /// How many of them have a delay that is not over. Derived.
    #[serde(skip)]
    delayed: u64,
    /// What they weigh. Derived.
    #[serde(skip)]
    bytes: u64,
}

/// A message of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) message: Message,
    /// When its delay ends; `None` once that has been fired.
    pub(crate) delayed_until: Option<UnixMillis>,
    /// How many groups are done with it. Derived.
    #[serde(skip)]
    settled: usize,
}

impl Stored {
    pub(crate) fn new(message: Message, delayed_until: Option<UnixMillis>) -> Self {
        Self { message, delayed_until, settled: 0 }
    }
}

impl Log {
    pub(crate) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(crate) fn delayed(&self) -> u64 {
        self.delayed
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Stored> {
        self.messages.get(&sequence)
    }

    pub(crate) fn first(&self) -> Option<(u64, &Stored)> {
        self.messages.first_key_value().map(|(sequence, stored)| (*sequence, stored))
    }

    /// The messages at or after `sequence`.
    pub(crate) fn from(&self, sequence: u64) -> impl DoubleEndedIterator<Item = (u64, &Stored)> {
        self.messages.range(sequence..).map(|(sequence, stored)| (*sequence, stored))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Stored)> {
        self.from(0)
    }

    /// The messages of `key` in `from..end`.
    pub(crate) fn of_key(&self, key: &Key, from: u64, end: u64) -> impl Iterator<Item = u64> {
        // An inverted range would panic; an empty one is what it means.
        let range = from..end.max(from);
        self.keys.get(key).into_iter().flat_map(move |all| all.range(range.clone()).copied())
    }

    pub(crate) fn insert(&mut self, sequence: u64, stored: Stored) {
        self.index(sequence, &stored);
        self.messages.insert(sequence, stored);
    }

    pub(crate) fn remove(&mut self, sequence: u64) -> Option<Stored> {
        let stored = self.messages.remove(&sequence)?;
        self.bytes -= stored.message.weight();
        self.delayed -= u64::from(stored.delayed_until.is_some());
        if let Some(key) = &stored.message.key
            && let Some(sequences) = self.keys.get_mut(key)
        {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.keys.remove(key);
            }
        }
        Some(stored)
    }

    /// The delay of a message is over.
    pub(crate) fn reveal(&mut self, sequence: u64) -> Option<&Stored> {
        let stored = self.messages.get_mut(&sequence)?;
        if stored.delayed_until.take().is_some() {
            self.delayed -= 1;
        }
        Some(stored)
    }

    /// One more of `groups` groups is done with a message; the last one's word forgets it.
    pub(crate) fn settle(&mut self, sequence: u64, groups: usize) {
        if let Some(stored) = self.messages.get_mut(&sequence) {
            stored.settled += 1;
            if stored.settled >= groups {
                self.remove(sequence);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Fills what is derived after decoding, given how many groups are done with each message.
    pub(crate) fn rebuild(&mut self, mut settled: impl FnMut(u64, &Stored) -> usize) {
        let messages = std::mem::take(self).messages;
        for (sequence, mut stored) in messages {
            stored.settled = settled(sequence, &stored);
            self.insert(sequence, stored);
        }
    }

    fn index(&mut self, sequence: u64, stored: &Stored) {
        self.bytes += stored.message.weight();
        self.delayed += u64::from(stored.delayed_until.is_some());
        if let Some(key) = &stored.message.key {
            self.keys.entry(key.clone()).or_default().insert(sequence);
        }
    }
}
