//! What names a message and a delivery of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number of a shard: the origin in the ids of the messages that it stores.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ShardId(u32);

impl ShardId {
    /// The shard with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Names a message among all that were ever stored on any shard; deleting its topic does not free
/// it.
///
/// Its text is `<shard>-<sequence>`, for example `00000001-42`: letters, digits and hyphens.
/// Within a shard, ids rise in the order in which messages were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    shard: ShardId,
    sequence: u64,
}

impl MessageId {
    /// The message that `shard` stored with this number.
    #[must_use]
    pub const fn new(shard: ShardId, sequence: u64) -> Self {
        Self { shard, sequence }
    }

    /// Who stored it.
    #[must_use]
    pub const fn shard(self) -> ShardId {
        self.shard
    }

    /// Its number there.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Names one delivery of one message: who shows it may settle the message, for as long as the lease
/// that came with the delivery lasts.
///
/// The nonce is never used twice on a shard, so a receipt of an earlier delivery, of another group
/// or of a deleted topic matches no lease. Its text is `<id>-<attempt>-<nonce>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Receipt {
    message: MessageId,
    attempt: u32,
    nonce: u64,
}

impl Receipt {
    /// The receipt of this attempt at a message, with a number that tells it from all others.
    #[must_use]
    pub const fn new(message: MessageId, attempt: u32, nonce: u64) -> Self {
        Self { message, attempt, nonce }
    }

    /// The message that was delivered.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.message
    }

    /// The how many-th delivery of it to its group this was.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What tells it from all other receipts.
    #[must_use]
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }
}

/// A text is not what an id or a receipt looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct ParseIdError;

impl fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:08x}-{}", self.shard.0, self.sequence)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}-{}", self.message, self.attempt, self.nonce)
    }
}

impl FromStr for MessageId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (shard, sequence) = text.split_once('-').ok_or(ParseIdError)?;
        Ok(Self::new(shard_number(shard)?, number(sequence)?))
    }
}

impl FromStr for Receipt {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(ParseIdError);
        let message = MessageId::new(shard_number(next()?)?, number(next()?)?);
        let attempt = number(next()?)?.try_into().map_err(|_| ParseIdError)?;
        let nonce = number(next()?)?;
        if parts.next().is_some() {
            return Err(ParseIdError);
        }
        Ok(Self { message, attempt, nonce })
    }
}

/// Only the form that is written is read: two texts of one id would be two names for it.
fn shard_number(text: &str) -> Result<ShardId, ParseIdError> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 8 || !text.bytes().all(digit) {
        return Err(ParseIdError);
    }
    u32::from_str_radix(text, 16).map(ShardId).map_err(|_| ParseIdError)
}

fn number(text: &str) -> Result<u64, ParseIdError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(ParseIdError);
    }
    text.parse().map_err(|_| ParseIdError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_ids_and_receipts_are_read_back() {
        let message = MessageId::new(ShardId::new(0xa1), u64::MAX);
        assert_eq!(message.to_string(), "000000a1-18446744073709551615");
        assert_eq!(message.to_string().parse(), Ok(message));
        let receipt = Receipt { message, attempt: 3, nonce: 77 };
        assert_eq!(receipt.to_string(), "000000a1-18446744073709551615-3-77");
        assert_eq!(receipt.to_string().parse(), Ok(receipt));
    }

    #[test]
    fn only_the_written_form_is_read() {
        for text in [
            "",
            "1",
            "1-2",
            "0000000A-2",
            "00000001-02",
            "00000001-+2",
            "00000001-",
            "00000001-18446744073709551616",
            "00000001-1-2-3-4",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(ParseIdError), "{text}");
        }
        for text in [
            "",
            "00000001-1",
            "00000001-1-1",
            "00000001-1-1-",
            "00000001-1-4294967296-1",
            "00000001-1-1-1-1",
            "00000001-1-01-1",
            "0000000ü-1-1-1",
        ] {
            assert_eq!(text.parse::<Receipt>(), Err(ParseIdError), "{text}");
        }
    }
}
