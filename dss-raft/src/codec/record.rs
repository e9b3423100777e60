//! Records: what a log on disk is made of.

use bytes::Bytes;

use super::DecodeError;
use super::reader::Reader;
use super::writer::Writer;
use crate::entry::{Configuration, Entries, Entry, HardState};
use crate::types::{LogId, LogIndex};

/// One change to what a group has stored. The frame around it names the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// Term and vote are now these.
    HardState(HardState),
    /// The entries from here on are gone.
    Truncate(LogIndex),
    /// The snapshot is now the one in this file.
    Snapshot(SnapshotFile),
    /// These follow.
    Entries(Entries),
    /// The entries up to this one are gone.
    Compact(LogIndex),
}

/// Where a snapshot's data lies, and how to recognise it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    /// The number in the file's name.
    pub(crate) number: u64,
    /// The last entry it covers.
    pub(crate) last: LogId,
    /// The members at that entry.
    pub(crate) configuration: Configuration,
    /// How many bytes the state machine gave.
    pub(crate) length: u64,
    /// Their CRC-32C.
    pub(crate) checksum: u32,
}

const HARD_STATE: u8 = 0;
const TRUNCATE: u8 = 1;
const SNAPSHOT: u8 = 2;
const ENTRIES: u8 = 3;
const COMPACT: u8 = 4;

impl Record {
    /// The bytes of the record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::HardState(state) => {
                writer.byte(HARD_STATE);
                writer.number(state.term.get());
                writer.optional_node(state.voted_for);
            }
            Self::Truncate(from) => {
                writer.byte(TRUNCATE);
                writer.number(from.get());
            }
            Self::Snapshot(file) => {
                writer.byte(SNAPSHOT);
                writer.number(file.number);
                writer.log_id(file.last);
                writer.configuration(&file.configuration);
                writer.number(file.length);
                writer.number(file.checksum.into());
            }
            Self::Entries(entries) => {
                let weight = entries.iter().map(Entry::weight).sum();
                writer = Writer::with_capacity(weight);
                writer.byte(ENTRIES);
                let first = entries.first().map(|entry| entry.id).unwrap_or_default();
                let previous = LogId::new(first.term, first.index.previous());
                writer.log_id(previous);
                writer.entries(previous.term, entries);
            }
            Self::Compact(to) => {
                writer.byte(COMPACT);
                writer.number(to.get());
            }
        }
        writer.into_vec()
    }

    /// The record that `input` is the encoding of.
    pub(crate) fn decode(input: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input);
        let record = match reader.byte()? {
            HARD_STATE => Self::HardState(HardState {
                term: reader.term()?,
                voted_for: reader.optional_node()?,
            }),
            TRUNCATE => Self::Truncate(reader.index()?),
            SNAPSHOT => Self::Snapshot(SnapshotFile {
                number: reader.number()?,
                last: reader.log_id()?,
                configuration: reader.configuration()?,
                length: reader.number()?,
                checksum: reader.small_number()?,
            }),
            ENTRIES => {
                let previous = reader.log_id()?;
                Self::Entries(reader.entries(previous)?)
            }
            COMPACT => Self::Compact(reader.index()?),
            other => return Err(DecodeError::Tag(other)),
        };
        reader.finish()?;
        Ok(record)
    }
}
