//! What a topic is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{SPAN_MAX, VISIBILITY_MAX};
use crate::refusal::Refusal;

/// How a topic treats its messages. Changes take effect with the next step of each message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// How long a delivery is a consumer's alone, where its receive does not say. 1 ms to
    /// [`VISIBILITY_MAX`]; 30 s by default.
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
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            visibility: Duration::from_secs(30),
            max_attempts: 5,
            retention: None,
            max_length: None,
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
        Ok(())
    }
}

pub(crate) fn check_visibility(visibility: Duration) -> Result<(), Refusal> {
    if visibility.is_zero() || visibility > VISIBILITY_MAX {
        return Err(Refusal::invalid("visibility", "must be from 1 ms to 12 hours"));
    }
    Ok(())
}

pub(crate) fn check_delay(delay: Duration) -> Result<(), Refusal> {
    if delay > SPAN_MAX {
        return Err(Refusal::invalid("delay", "must not exceed ten years"));
    }
    Ok(())
}
