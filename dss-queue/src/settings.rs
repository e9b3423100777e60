//! What a topic is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{SPAN_MAX, check_visibility};
use crate::refusal::Refusal;

/// How a topic treats its messages. Changes take effect with the next step of each message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// How long a delivery is a consumer's alone, where its receive does not say. 1 ms to
    /// [`VISIBILITY_MAX`](crate::limits::VISIBILITY_MAX); 30 s by default.
    pub visibility: Duration,
    /// How often a message is delivered to a group before it goes to the dead letters: at least
    /// once, 5 times by default.
    pub max_attempts: u32,
    /// How long after its publish a message is kept at most; `None`, the default, for as long as
    /// it takes. 1 ms to [`SPAN_MAX`]. What is dropped is gone for every group; whoever has it in
    /// flight may still acknowledge it.
    pub retention: Option<Duration>,
    /// How many messages are kept at most; `None`, the default, however many. At least 1. A
    /// publish beyond it drops the oldest messages, as RabbitMQ, JetStream and Redis Streams do
    /// unless told otherwise.
    pub max_length: Option<u64>,
    /// How many bytes of messages are kept at most, counting for each one
    /// [`MESSAGE_OVERHEAD_BYTES`](crate::limits::MESSAGE_OVERHEAD_BYTES) beside its payload, key
    /// and headers; `None`, the default, as many as the shard has room for. At least 1.
    pub max_bytes: Option<u64>,
    /// What a publish beyond `max_length` or `max_bytes` leads to.
    pub overflow: Overflow,
    /// How long a message stays unseen after a delivery that came to nothing, be it by nack or by
    /// silence; `None`, the default, not at all. A nack with a longer delay has its way.
    pub backoff: Option<Backoff>,
}

/// What becomes of a topic that would have too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Overflow {
    /// The oldest messages go, acknowledged or not.
    #[default]
    DropOldest,
    /// The publish is refused as [`Refusal::TopicFull`]: producers wait for consumers, and nothing
    /// is lost.
    Refuse,
}

/// How pauses between deliveries of one message grow: twice as long each time, up to a limit.
///
/// Of each pause up to half is taken off, differently for every message and attempt but the same
/// on every node, so that what failed together does not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// The pause after the first attempt: 1 ms to [`SPAN_MAX`].
    pub first: Duration,
    /// The longest pause: `first` to [`SPAN_MAX`].
    pub longest: Duration,
}

impl Backoff {
    /// The pause after this many attempts at the message with this sequence.
    #[must_use]
    pub fn pause(&self, sequence: u64, attempts: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        // Steele and others, "Fast splittable pseudorandom number generators": the mixing of
        // SplitMix64, by which neighbours get unrelated numbers.
        let mut mixed = sequence ^ u64::from(attempts).rotate_left(48);
        for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(factor);
        }
        let share = u32::try_from((mixed >> 32) & 0xffff).unwrap_or_default();
        whole - whole / 2 * share / 0xffff
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            visibility: Duration::from_secs(30),
            max_attempts: 5,
            retention: None,
            max_length: None,
            max_bytes: None,
            overflow: Overflow::DropOldest,
            backoff: None,
        }
    }
}

impl TopicSettings {
    /// Whether every value is in its range. Every broker refuses what is not.
    ///
    /// # Errors
    ///
    /// What is out of range.
    pub fn check(&self) -> Result<(), Refusal> {
        check_visibility(self.visibility)?;
        if self.max_attempts == 0 {
            return Err(Refusal::invalid("max_attempts", "must be at least 1"));
        }
        if self.retention.is_some_and(|retention| retention.is_zero() || retention > SPAN_MAX) {
            return Err(Refusal::invalid("retention", "must be from 1 ms to ten years"));
        }
        if self.max_length == Some(0) {
            return Err(Refusal::invalid("max_length", "must be at least 1"));
        }
        if self.max_bytes == Some(0) {
            return Err(Refusal::invalid("max_bytes", "must be at least 1"));
        }
        if let Some(Backoff { first, longest }) = self.backoff
            && (first.is_zero() || first > longest || longest > SPAN_MAX)
        {
            return Err(Refusal::invalid(
                "backoff",
                "must grow from at least 1 ms to at most ten years",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_between_messages() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let backoff = Backoff { first, longest };
        for attempts in 1..70 {
            let whole = first.saturating_mul(1 << (attempts - 1).min(8)).min(longest);
            let pauses: Vec<_> = (0..200).map(|at| backoff.pause(at, attempts)).collect();
            assert!(pauses.iter().all(|pause| (whole / 2..=whole).contains(pause)));
            let spread = *pauses.iter().max().unwrap() - *pauses.iter().min().unwrap();
            assert!(spread > whole / 3, "{spread:?} of {whole:?} at {attempts}");
        }
    }
}
