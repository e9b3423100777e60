//! What caches and homes say to one another, and how it is written in bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::line::LineState;
use crate::version::{RequestId, Seq, Version};
use crate::view::{Epoch, NodeId};

/// The first byte of every encoded message.
const FORMAT: u8 = 1;

/// A message between a cache and a home. Every one may be lost, doubled or overtaken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The view that the sender acts under; a receiver in another view ignores the message.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body,
}

/// What a [`Message`] says. The first group goes from caches to homes, the second back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Body {
    /// The sender wants to hold a line. Repeated until granted.
    Get {
        /// The line.
        key: Bytes,
        /// Which request; a repetition has the same.
        request: RequestId,
        /// For reading or for writing.
        want: Want,
        /// The version of the copy that the sender has, so that it need not be sent again.
        have: Option<Version>,
    },
    /// Answers a recall. Repeated, where it carries data, until [`Body::PutAck`].
    Ack {
        /// The line.
        key: Bytes,
        /// The recall that it answers.
        recall: Seq,
        /// Whether the sender still holds the line, shared.
        kept: bool,
        /// What it had written and main memory does not have.
        data: Option<Dirty>,
    },
    /// The sender has given up a line that it had written. Repeated until [`Body::PutAck`].
    Put {
        /// The line.
        key: Bytes,
        /// What was written.
        data: Dirty,
    },
    /// The sender has written a line that it keeps. Repeated until [`Body::WriteThroughAck`].
    WriteThrough {
        /// The line.
        key: Bytes,
        /// What is written.
        data: Dirty,
    },
    /// The sender has stored in main memory, in the new view, what this home must find there, and
    /// holds no line of it but by its own grant. Repeated until [`Body::SurrenderAck`].
    Surrender,
    /// The sender has dropped clean copies: saves recalls, may be lost.
    Hint {
        /// Each line with the grant or recall by which it was held.
        lines: Vec<(Bytes, Seq)>,
    },
    /// Asks what the home knows about a line.
    Inspect {
        /// The line.
        key: Bytes,
        /// Which question.
        request: RequestId,
    },
    /// Answers [`Body::Peek`].
    Peeked {
        /// The line.
        key: Bytes,
        /// Which question.
        request: RequestId,
        /// How the sender's cache holds the line.
        state: LineState,
        /// The version of its copy.
        version: Option<Version>,
    },

    /// The receiver holds the line from this point on.
    Grant {
        /// The line.
        key: Bytes,
        /// The request that it answers.
        request: RequestId,
        /// Its place in the order of the line.
        seq: Seq,
        /// Whether nobody else holds the line.
        exclusive: bool,
        /// The version of its value; `None` where it was never written.
        version: Option<Version>,
        /// The value.
        payload: Payload,
    },
    /// The receiver must give up the line. Repeated until answered.
    Invalidate {
        /// The line.
        key: Bytes,
        /// The place of the recall in the order of the line.
        recall: Seq,
    },
    /// The receiver must hold the line shared at most. Repeated until answered.
    Downgrade {
        /// The line.
        key: Bytes,
        /// The place of the recall in the order of the line.
        recall: Seq,
    },
    /// What the receiver wrote under this grant is in main memory.
    PutAck {
        /// The line.
        key: Bytes,
        /// The grant.
        grant: Seq,
    },
    /// This write is in main memory; the receiver still holds the line.
    WriteThroughAck {
        /// The line.
        key: Bytes,
        /// The write.
        version: Version,
    },
    /// The home knows that the receiver has surrendered.
    SurrenderAck,
    /// Answers [`Body::Inspect`].
    Inspected {
        /// The line.
        key: Bytes,
        /// Which question.
        request: RequestId,
        /// The newest version in main memory.
        version: Option<Version>,
        /// Who holds the line.
        holders: Vec<NodeId>,
        /// Whether the one holder holds it exclusively.
        exclusive: bool,
    },
    /// Asks how the receiver's cache holds a line.
    Peek {
        /// The line.
        key: Bytes,
        /// Which question.
        request: RequestId,
    },
}

impl Body {
    /// The line that it is about, if it is about one alone.
    #[must_use]
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Get { key, .. }
            | Self::Ack { key, .. }
            | Self::Put { key, .. }
            | Self::WriteThrough { key, .. }
            | Self::Inspect { key, .. }
            | Self::Peeked { key, .. }
            | Self::Grant { key, .. }
            | Self::Invalidate { key, .. }
            | Self::Downgrade { key, .. }
            | Self::PutAck { key, .. }
            | Self::WriteThroughAck { key, .. }
            | Self::Inspected { key, .. }
            | Self::Peek { key, .. } => Some(key),
            Self::Surrender | Self::SurrenderAck | Self::Hint { .. } => None,
        }
    }

    /// Whether it is for a home; else it is for a cache. Each ignores what is for the other.
    #[must_use]
    pub const fn is_for_home(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::Ack { .. }
            | Self::Put { .. }
            | Self::WriteThrough { .. }
            | Self::Surrender
            | Self::Hint { .. }
            | Self::Inspect { .. } => true,
            Self::Grant { .. }
            | Self::Invalidate { .. }
            | Self::Downgrade { .. }
            | Self::PutAck { .. }
            | Self::WriteThroughAck { .. }
            | Self::SurrenderAck
            | Self::Inspected { .. }
            | Self::Peek { .. }
            | Self::Peeked { .. } => false,
        }
    }
}

/// What a line is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Want {
    /// For reading. Granted exclusively where nobody else holds the line.
    Shared,
    /// For writing.
    Exclusive,
}

/// A written value that main memory may not have yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dirty {
    /// The exclusive grant under which the line was held.
    pub grant: Seq,
    /// The write.
    pub version: Version,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// The value in a [`Body::Grant`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// The value is the one that the receiver said it has.
    Same,
    /// The value; `None` where there is none.
    Value(Option<Bytes>),
}

/// Received bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They begin with the number of another format.
    #[error("message of format {0}, expected {FORMAT}")]
    Format(u8),
    /// They end early, go on too long, or mean nothing.
    #[error("malformed message")]
    Malformed,
}

impl Message {
    /// Writes the message: a byte for the format, then postcard.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![FORMAT])
            .expect("a message holds nothing that postcard cannot write")
            .into()
    }

    /// Reads what [`Message::encode`] wrote.
    ///
    /// # Errors
    ///
    /// Whatever else the bytes are; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (&format, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        if format != FORMAT {
            return Err(DecodeError::Format(format));
        }
        match postcard::take_from_bytes(rest) {
            Ok((message, [])) => Ok(message),
            _ => Err(DecodeError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant() -> Message {
        let seq = Seq { epoch: Epoch::new(2), count: 300 };
        Message {
            epoch: Epoch::new(3),
            body: Body::Grant {
                key: Bytes::from_static(b"k"),
                request: RequestId(4),
                seq,
                exclusive: true,
                version: Some(Version::next(None, seq)),
                payload: Payload::Value(Some(Bytes::from_static(b"value"))),
            },
        }
    }

    #[test]
    fn a_message_reads_back() {
        assert_eq!(Message::decode(&grant().encode()), Ok(grant()));
    }

    #[test]
    fn a_cut_or_lengthened_message_is_refused() {
        let bytes = grant().encode();
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(Message::decode(&longer), Err(DecodeError::Malformed));
        assert_eq!(Message::decode(b"\x07abc"), Err(DecodeError::Format(7)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&bytes);
            let _ = Message::decode(&[&[FORMAT], &bytes[..]].concat());
        }

        #[test]
        fn a_flipped_byte_never_panics(place in 0usize..1000, flip in 1u8..) {
            let mut bytes = grant().encode().to_vec();
            let place = place % bytes.len();
            bytes[place] ^= flip;
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_ne!(message, grant());
            }
        }
    }
}
