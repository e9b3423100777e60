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
    Snapshot {
        /// Which.
        file: SnapshotFile,
        /// Whether the log agrees with it (figure 13) and stays, or is replaced as a whole. Said
        /// by who wrote it, since a reader may not have all of the log that was compared.
        keeps_log: bool,
    },
    /// These follow.
    Entries(Entries),
    /// The entries up to this one are gone.
    Compact(LogIndex),
    /// Everything but the log is this, whatever came before.
    Checkpoint(Checkpoint),
}

/// A group's state at the head of a segment, so that older segments can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Term and vote.
    pub(crate) hard_state: HardState,
    /// The snapshot, where there is one.
    pub(crate) snapshot: Option<SnapshotFile>,
    /// The entries that stand from here on come after this one; those up to it are in earlier
    /// segments, or gone.
    pub(crate) base: LogIndex,
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
const CHECKPOINT: u8 = 5;

impl Record {
    /// Appends the bytes of the record to `buffer`.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        let mut writer = Writer::appending(std::mem::take(buffer));
        match self {
            Self::HardState(state) => {
                writer.byte(HARD_STATE);
                encode_hard_state(&mut writer, state);
            }
            Self::Truncate(from) => {
                writer.byte(TRUNCATE);
                writer.number(from.get());
            }
            Self::Snapshot { file, keeps_log } => {
                writer.byte(SNAPSHOT);
                encode_file(&mut writer, file);
                writer.flag(*keeps_log);
            }
            Self::Entries(entries) => {
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
            Self::Checkpoint(checkpoint) => {
                writer.byte(CHECKPOINT);
                encode_hard_state(&mut writer, &checkpoint.hard_state);
                writer.flag(checkpoint.snapshot.is_some());
                if let Some(file) = &checkpoint.snapshot {
                    encode_file(&mut writer, file);
                }
                writer.number(checkpoint.base.get());
            }
        }
        *buffer = writer.into_vec();
    }

    /// The record that `input` is the encoding of.
    pub(crate) fn decode(input: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input);
        let record = match reader.byte()? {
            HARD_STATE => Self::HardState(decode_hard_state(&mut reader)?),
            TRUNCATE => Self::Truncate(reader.index()?),
            SNAPSHOT => {
                Self::Snapshot { file: decode_file(&mut reader)?, keeps_log: reader.flag()? }
            }
            ENTRIES => {
                let previous = reader.log_id()?;
                Self::Entries(reader.entries(previous)?)
            }
            COMPACT => Self::Compact(reader.index()?),
            CHECKPOINT => {
                let hard_state = decode_hard_state(&mut reader)?;
                let snapshot = if reader.flag()? { Some(decode_file(&mut reader)?) } else { None };
                Self::Checkpoint(Checkpoint { hard_state, snapshot, base: reader.index()? })
            }
            other => return Err(DecodeError::Tag(other)),
        };
        reader.finish()?;
        Ok(record)
    }

    /// What [`encode`](Record::encode) appends at most.
    pub(crate) fn bytes_max(&self) -> usize {
        /// Tag, flags and eight numbers: more than any record has beside its lists.
        const FIXED: usize = 96;
        FIXED
            + match self {
                Self::Entries(entries) => entries.iter().map(Entry::weight).sum(),
                Self::Snapshot { file, .. } => file.members_bytes_max(),
                Self::Checkpoint(checkpoint) => {
                    checkpoint.snapshot.as_ref().map_or(0, SnapshotFile::members_bytes_max)
                }
                Self::HardState(_) | Self::Truncate(_) | Self::Compact(_) => 0,
            }
    }
}

impl SnapshotFile {
    fn members_bytes_max(&self) -> usize {
        self.configuration.weight()
    }
}

fn encode_hard_state(writer: &mut Writer, state: &HardState) {
    writer.number(state.term.get());
    writer.optional_node(state.voted_for);
    writer.number(state.log.get());
}

fn decode_hard_state(reader: &mut Reader) -> Result<HardState, DecodeError> {
    Ok(HardState {
        term: reader.term()?,
        voted_for: reader.optional_node()?,
        log: reader.log_identity()?,
    })
}

fn encode_file(writer: &mut Writer, file: &SnapshotFile) {
    writer.number(file.number);
    writer.log_id(file.last);
    writer.configuration(&file.configuration);
    writer.number(file.length);
    writer.number(file.checksum.into());
}

fn decode_file(reader: &mut Reader) -> Result<SnapshotFile, DecodeError> {
    Ok(SnapshotFile {
        number: reader.number()?,
        last: reader.log_id()?,
        configuration: reader.configuration()?,
        length: reader.number()?,
        checksum: reader.small_number()?,
    })
}
