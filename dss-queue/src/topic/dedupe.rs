//! Which dedupe ids a topic remembers.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::limits::{DEDUPE_SLACK, DEDUPE_WINDOW};
use crate::message::dedupe_weight;
use crate::time::UnixMillis;

/// Dedupe ids with the message that each stands for, for [`DEDUPE_WINDOW`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Dedupe {
    /// In the order in which they end.
    memories: VecDeque<Memory>,
    /// The newest memory of each id. Derived.
    #[serde(skip)]
    ids: BTreeMap<String, (UnixMillis, MessageId)>,
    /// What they weigh. Derived.
    #[serde(skip)]
    bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    ends: UnixMillis,
    id: String,
    message: MessageId,
}

impl Dedupe {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message that `id` stands for.
    pub(crate) fn find(&self, now: UnixMillis, id: &str) -> Option<MessageId> {
        self.ids.get(id).filter(|(ends, _)| *ends > now).map(|(_, message)| *message)
    }

    /// Remembers `id` from `now` on.
    pub(crate) fn remember(&mut self, now: UnixMillis, id: String, message: MessageId) {
        let ends = now + DEDUPE_WINDOW;
        self.bytes += dedupe_weight(&id);
        self.ids.insert(id.clone(), (ends, message));
        self.memories.push_back(Memory { ends, id, message });
    }

    /// When [`forget_one`](Self::forget_one) should be called.
    pub(crate) fn deadline(&self) -> Option<UnixMillis> {
        self.memories.front().map(|memory| memory.ends + DEDUPE_SLACK)
    }

    /// Forgets one memory that has ended; false where there is none.
    pub(crate) fn forget_one(&mut self, now: UnixMillis) -> bool {
        let Some(memory) = self.memories.pop_front_if(|memory| memory.ends <= now) else {
            return false;
        };
        self.bytes -= dedupe_weight(&memory.id);
        // The id may have been published again meanwhile.
        if self.ids.get(&memory.id).is_some_and(|(ends, _)| *ends == memory.ends) {
            self.ids.remove(&memory.id);
        }
        true
    }

    /// Fills what is derived after decoding.
    pub(crate) fn rebuild(&mut self) -> Result<(), &'static str> {
        if !self.memories.iter().is_sorted_by_key(|memory| memory.ends) {
            return Err("dedupe ids are out of order");
        }
        self.bytes = self.memories.iter().map(|memory| dedupe_weight(&memory.id)).sum();
        self.ids = self
            .memories
            .iter()
            .map(|memory| (memory.id.clone(), (memory.ends, memory.message)))
            .collect();
        Ok(())
    }
}
