//! Messages: as they are published, kept, delivered and given up.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{MessageId, Receipt};
use crate::limits::{
    BATCH_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX, MESSAGE_OVERHEAD_BYTES, NAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX, PUBLISH_MESSAGES_MAX, check_delay,
};
use crate::name::{ConsumerName, Key};
use crate::refusal::Refusal;
use crate::time::UnixMillis;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NewMessage {
    /// What it says, up to [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
    /// Messages with the same key are delivered to a group in the order of their publish, one at a
    /// time; those without one in any order. 1 to [`NAME_BYTES_MAX`] bytes.
    pub key: Option<String>,
    /// How long it stays unseen. With a key, it holds up later messages of its key.
    pub delay: Duration,
    /// A publish with the same id within [`DEDUPE_WINDOW`](crate::limits::DEDUPE_WINDOW) stores
    /// nothing and answers this message's id. 1 to [`NAME_BYTES_MAX`] bytes.
    pub dedupe_id: Option<String>,
    /// Whatever else consumers should know; up to [`HEADERS_MAX`] with [`HEADER_BYTES_MAX`] bytes
    /// in all.
    pub headers: BTreeMap<String, String>,
}

impl NewMessage {
    /// A message with this payload and nothing else.
    #[must_use]
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..Self::default() }
    }

    /// Whether it is within the limits. Every broker refuses what is not.
    ///
    /// # Errors
    ///
    /// What is out of range.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "a payload", bytes_max: PAYLOAD_BYTES_MAX });
        }
        if self.headers.len() > HEADERS_MAX {
            return Err(Refusal::invalid("headers", "must not be more than 64"));
        }
        if header_bytes(&self.headers) > HEADER_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "headers", bytes_max: HEADER_BYTES_MAX });
        }
        check_text("key", self.key.as_deref())?;
        check_text("dedupe_id", self.dedupe_id.as_deref())?;
        check_delay(self.delay)
    }

    /// Whether these can be published together.
    ///
    /// # Errors
    ///
    /// Where there are none, or too many, or too many bytes of them, or one is out of range.
    pub fn check_batch(messages: &[Self]) -> Result<(), Refusal> {
        if messages.is_empty() || messages.len() > PUBLISH_MESSAGES_MAX {
            return Err(Refusal::invalid("messages", "must be 1 to 1000"));
        }
        messages.iter().try_for_each(Self::check)?;
        if messages.iter().map(Self::bytes).sum::<usize>() > BATCH_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "a batch", bytes_max: BATCH_BYTES_MAX });
        }
        Ok(())
    }

    /// What it adds to a batch.
    fn bytes(&self) -> usize {
        self.payload.len() + header_bytes(&self.headers)
    }

    /// What storing it adds to what a shard keeps.
    pub(crate) fn weight(&self) -> u64 {
        self.text_weight() + self.dedupe_id.as_deref().map_or(0, dedupe_weight)
    }

    /// What storing it adds to what its topic's log keeps.
    pub(crate) fn text_weight(&self) -> u64 {
        let key = self.key.as_ref().map_or(0, String::len);
        weight(self.payload.len() + key + header_bytes(&self.headers))
    }
}

fn check_text(field: &'static str, text: Option<&str>) -> Result<(), Refusal> {
    match text {
        Some(text) if text.is_empty() || text.len() > NAME_BYTES_MAX => {
            Err(Refusal::invalid(field, "must have 1 to 512 bytes"))
        }
        _ => Ok(()),
    }
}

fn header_bytes(headers: &BTreeMap<String, String>) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// What keeping a message adds to what a shard keeps.
pub(crate) fn weight_of(
    payload_bytes: usize,
    key: Option<&Key>,
    headers: Option<&BTreeMap<String, String>>,
) -> u64 {
    let key = key.map_or(0, |key| key.as_str().len());
    weight(payload_bytes + key + headers.map_or(0, header_bytes))
}

fn weight(text_bytes: usize) -> u64 {
    u64::try_from(text_bytes).unwrap_or(u64::MAX).saturating_add(MESSAGE_OVERHEAD_BYTES)
}

/// What remembering a dedupe id adds to what a shard keeps: it is in a map and in a list.
pub(crate) fn dedupe_weight(id: &str) -> u64 {
    weight(2 * id.len())
}

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) id: MessageId,
    pub(crate) payload: Bytes,
    pub(crate) key: Option<Key>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) produced_at: UnixMillis,
}

impl Message {
    pub(crate) fn weight(&self) -> u64 {
        weight_of(self.payload.len(), self.key.as_ref(), Some(&self.headers))
    }

    pub(crate) fn into_peeked(self, attempts: u32, state: MessageState) -> PeekedMessage {
        PeekedMessage {
            id: self.id,
            payload: self.payload,
            key: self.key.map(String::from),
            headers: self.headers,
            produced_at: self.produced_at,
            attempts,
            state,
        }
    }

    pub(crate) fn into_delivery(self, attempt: u32, nonce: u64) -> Delivery {
        Delivery {
            id: self.id,
            payload: self.payload,
            key: self.key.map(String::from),
            headers: self.headers,
            attempt,
            receipt: Receipt::new(self.id, attempt, nonce),
            produced_at: self.produced_at,
        }
    }
}

/// A message in the hands of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub payload: Bytes,
    /// Its key.
    pub key: Option<String>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// The how many-th delivery to this group it is: 1 the first time.
    pub attempt: u32,
    /// What settles it.
    pub receipt: Receipt,
    /// When it was published.
    pub produced_at: UnixMillis,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeadReason {
    /// The visibility of its last delivery ended without a word.
    Expired,
    /// Its last delivery was refused by nack.
    Rejected,
}

/// A message that used up its attempts in a group.
///
/// It is kept until it is redriven or its topic is purged or deleted, whatever the topic's
/// retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub payload: Bytes,
    /// Its key.
    pub key: Option<String>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// How often it was delivered to this group.
    pub attempts: u32,
    /// When it was published.
    pub produced_at: UnixMillis,
    /// When it was given up.
    pub died_at: UnixMillis,
    /// Why.
    pub reason: DeadReason,
    /// Who had it last, where the broker knows.
    pub consumer: Option<ConsumerName>,
}

/// A message that a group, or a topic, has not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekedMessage {
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub payload: Bytes,
    /// Its key.
    pub key: Option<String>,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// When it was published.
    pub produced_at: UnixMillis,
    /// How often it was delivered to the group.
    pub attempts: u32,
    /// What it waits for.
    pub state: MessageState,
}

/// What a message waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageState {
    /// To be delivered; maybe behind an earlier message of its key.
    Ready,
    /// To be settled.
    InFlight {
        /// By whom.
        consumer: ConsumerName,
        /// Until when.
        until: UnixMillis,
    },
    /// For its delay to end.
    Delayed {
        /// When that is.
        until: UnixMillis,
    },
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peek {
    /// The messages, oldest first.
    pub messages: Vec<PeekedMessage>,
    /// What to name as `after` for the next page; `None` where this was the last.
    pub next: Option<MessageId>,
}
