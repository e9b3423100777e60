//! Reading the primitives of the format from bytes that nobody vouches for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, Bytes};

use super::DecodeError;
use super::writer::{TAG_BLANK, TAG_COMMAND, TAG_CONFIGURATION};
use crate::entry::{Configuration, Entries, Entry, Payload};
use crate::types::{LogId, LogIdentity, LogIndex, NodeId, Term};

/// Takes primitives off the front of its input; byte strings are slices of it.
pub(super) struct Reader {
    input: Bytes,
}

impl Reader {
    pub(super) fn new(input: Bytes) -> Self {
        Self { input }
    }

    /// The end of the value: nothing may follow it.
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        match self.input.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.input.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    pub(super) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Tag(other)),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds one bit only, and a last byte of zero would be a longer way of
            // writing a shorter number.
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(DecodeError::Number);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::Number)
    }

    pub(super) fn small_number(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Number)
    }

    /// How many items of at least `item_bytes` each follow: never more than can be there.
    pub(super) fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        if count > self.input.len() / item_bytes {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.count(1)?;
        Ok(self.input.split_to(length))
    }

    pub(super) fn term(&mut self) -> Result<Term, DecodeError> {
        self.number().map(Term::new)
    }

    pub(super) fn index(&mut self) -> Result<LogIndex, DecodeError> {
        self.number().map(LogIndex::new)
    }

    pub(super) fn log_id(&mut self) -> Result<LogId, DecodeError> {
        Ok(LogId::new(self.term()?, self.index()?))
    }

    fn nodes(&mut self) -> Result<BTreeSet<NodeId>, DecodeError> {
        let count = self.count(1)?;
        let mut nodes = BTreeSet::new();
        for _ in 0..count {
            let node = NodeId::new(self.number()?);
            if nodes.last().is_some_and(|last| *last >= node) {
                return Err(DecodeError::Order);
            }
            nodes.insert(node);
        }
        Ok(nodes)
    }

    pub(super) fn configuration(&mut self) -> Result<Configuration, DecodeError> {
        Ok(Configuration {
            voters: self.nodes()?,
            outgoing: self.nodes()?,
            learners: self.nodes()?,
            logs: self.logs()?,
        })
    }

    fn logs(&mut self) -> Result<BTreeMap<NodeId, LogIdentity>, DecodeError> {
        let count = self.count(2)?;
        let mut logs = BTreeMap::new();
        for _ in 0..count {
            let node = NodeId::new(self.number()?);
            if logs.last_key_value().is_some_and(|(last, _)| *last >= node) {
                return Err(DecodeError::Order);
            }
            logs.insert(node, self.log_identity()?);
        }
        Ok(logs)
    }

    pub(super) fn log_identity(&mut self) -> Result<LogIdentity, DecodeError> {
        self.number().map(LogIdentity::new)
    }

    pub(super) fn optional_node(&mut self) -> Result<Option<NodeId>, DecodeError> {
        Ok(if self.flag()? { Some(NodeId::new(self.number()?)) } else { None })
    }

    /// Entries that follow each other, the first of them after `previous`.
    pub(super) fn entries(&mut self, previous: LogId) -> Result<Entries, DecodeError> {
        // A difference of terms and a tag: the smallest entry.
        const ENTRY_BYTES_MIN: usize = 2;
        let count = self.count(ENTRY_BYTES_MIN)?;
        let mut entries = Vec::with_capacity(count);
        let LogId { mut term, mut index } = previous;
        for _ in 0..count {
            term = Term::new(add(term.get(), self.number()?)?);
            index = LogIndex::new(add(index.get(), 1)?);
            let payload = match self.byte()? {
                TAG_BLANK => Payload::Blank,
                TAG_COMMAND => Payload::Command(self.bytes()?),
                TAG_CONFIGURATION => Payload::Configuration(Box::new(self.configuration()?)),
                other => return Err(DecodeError::Tag(other)),
            };
            entries.push(Entry { id: LogId::new(term, index), payload });
        }
        Ok(entries.into())
    }
}

fn add(number: u64, more: u64) -> Result<u64, DecodeError> {
    number.checked_add(more).ok_or(DecodeError::Number)
}
