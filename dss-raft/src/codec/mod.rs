//! How messages travel and how records lie in the log: a compact binary form.
//!
//! Numbers are LEB128 varints in their shortest form, byte strings carry their length in front,
//! sets are ascending. What the receiver can infer is not sent: the entries of an append follow
//! its `previous`, so their indexes are implied and their terms are differences that cannot fall.
//! Bytes that break a rule of the format therefore decode to an error, never to a log that no
//! leader could have written.

mod envelope;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use record::{Checkpoint, Record, SnapshotFile};

/// Bytes that are not what their [`encode`](crate::Envelope::encode) writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The format is of another version of this crate.
    #[error("unknown format version {0}")]
    Version(u8),
    /// They end too early.
    #[error("ends in the middle of a value")]
    Truncated,
    /// A number is too large for its type, or not in its shortest form.
    #[error("malformed number")]
    Number,
    /// A tag names nothing that this version knows.
    #[error("unknown tag {0}")]
    Tag(u8),
    /// A set is not strictly ascending.
    #[error("a set is not in ascending order")]
    Order,
    /// Something follows the value.
    #[error("{0} bytes too many")]
    Trailing(usize),
}
