//! The bytes of commands and snapshots.
//!
//! Both begin with the version of their layout; the rest is postcard's encoding of the types.

use bytes::Bytes;

use crate::command::Command;
use crate::queue::{Export, Queue};
use crate::time::UnixMillis;
use crate::topic::Topic;

/// The first byte of every command.
const COMMAND_VERSION: u8 = 2;

/// The first byte of every snapshot.
const SNAPSHOT_VERSION: u8 = 3;

/// Bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct DecodeError {
    /// What is wrong with them.
    pub problem: &'static str,
}

impl Command {
    /// The command as a log entry, stamped with the time at which it is to be applied.
    #[must_use]
    pub fn encode(&self, now: UnixMillis) -> Bytes {
        encode(COMMAND_VERSION, &(now, self))
    }

    /// Reads a log entry.
    ///
    /// # Errors
    ///
    /// Where the bytes are no command of a version that this release knows.
    pub fn decode(entry: &[u8]) -> Result<(UnixMillis, Self), DecodeError> {
        decode(COMMAND_VERSION, entry)
    }
}

impl Queue {
    /// The whole state as bytes.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        encode(SNAPSHOT_VERSION, self)
    }

    /// Reads a state: equal in everything to the one whose snapshot it is.
    ///
    /// # Errors
    ///
    /// Where the bytes are no snapshot of a version that this release knows, or of a state that no
    /// commands lead to.
    pub fn restore(snapshot: &[u8]) -> Result<Self, DecodeError> {
        let mut queue: Self = decode(SNAPSHOT_VERSION, snapshot)?;
        queue.rebuild().map_err(|problem| DecodeError { problem })?;
        Ok(queue)
    }
}

/// A topic that leaves a shard, as bytes.
pub(crate) fn encode_export(export: &Export<&Topic>) -> Bytes {
    encode(SNAPSHOT_VERSION, export)
}

/// Reads a topic that comes; what is derived of it is not filled yet.
pub(crate) fn decode_export(bytes: &[u8]) -> Result<Export<Topic>, DecodeError> {
    decode(SNAPSHOT_VERSION, bytes)
}

fn encode(version: u8, value: &impl serde::Serialize) -> Bytes {
    postcard::to_extend(value, vec![version])
        .expect("writing plain data to memory cannot fail")
        .into()
}

fn decode<'a, T: serde::Deserialize<'a>>(version: u8, bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (first, rest) = bytes.split_first().ok_or(DecodeError { problem: "there are no bytes" })?;
    if *first != version {
        return Err(DecodeError { problem: "the version is unknown" });
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(DecodeError { problem: "bytes are left over" }),
        Err(_) => Err(DecodeError { problem: "the bytes cannot be read" }),
    }
}
