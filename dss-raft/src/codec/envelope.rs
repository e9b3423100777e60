//! Envelopes: what a transport carries.

use bytes::Bytes;

use super::DecodeError;
use super::reader::Reader;
use super::writer::Writer;
use crate::config::Priority;
use crate::entry::{Entries, Snapshot};
use crate::message::{
    Envelope, Message, MessageBody, PartContent, Round, SnapshotPart, SnapshotRequest,
};
use crate::types::{GroupId, ReadId};

/// The first byte of every envelope. Versions share nothing else.
const VERSION: u8 = 1;

const PRE_VOTE_REQUEST: u8 = 0;
const PRE_VOTE_RESPONSE: u8 = 1;
const VOTE_REQUEST: u8 = 2;
const VOTE_RESPONSE: u8 = 3;
const APPEND: u8 = 4;
const APPEND_ACCEPTED: u8 = 5;
const APPEND_REJECTED: u8 = 6;
const INSTALL_SNAPSHOT: u8 = 7;
const READ_INDEX_REQUEST: u8 = 8;
const READ_INDEX_RESPONSE: u8 = 9;
const TIMEOUT_NOW: u8 = 10;
const COMMITTED: u8 = 11;

/// What the fields beside entries and snapshots take at most: version, group, term, log, tag and
/// five numbers.
const HEADER_BYTES_MAX: usize = 90;

const MESSAGE: u8 = 0;
const MESSAGES: u8 = 1;
const SNAPSHOT_REQUEST: u8 = 2;
const SNAPSHOT_PART: u8 = 3;

impl Envelope {
    /// The bytes of the envelope, for [`decode`](Envelope::decode) at the receiver.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(self.bytes_about());
        writer.byte(VERSION);
        match self {
            Self::Message { group, message } => {
                writer.byte(MESSAGE);
                encode_message(&mut writer, *group, message);
            }
            Self::Messages(messages) => {
                writer.byte(MESSAGES);
                writer.length(messages.len());
                for (group, message) in messages {
                    encode_message(&mut writer, *group, message);
                }
            }
            Self::SnapshotRequest(SnapshotRequest { group, descriptor, offset }) => {
                writer.byte(SNAPSHOT_REQUEST);
                writer.number(group.get().into());
                writer.bytes(descriptor);
                writer.number(*offset);
            }
            Self::SnapshotPart(SnapshotPart { group, descriptor, offset, content }) => {
                writer.byte(SNAPSHOT_PART);
                writer.number(group.get().into());
                writer.bytes(descriptor);
                writer.number(*offset);
                writer.flag(content.is_some());
                if let Some(PartContent { bytes, is_last, checksum }) = content {
                    writer.flag(*is_last);
                    writer.number((*checksum).into());
                    writer.bytes(bytes);
                }
            }
        }
        writer.finish()
    }

    /// The envelope that `input` is the encoding of. Commands and snapshots in it are slices of
    /// `input` and share its memory.
    ///
    /// # Errors
    ///
    /// Where `input` is anything else. What an error says is of use to people only.
    pub fn decode(input: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input);
        match reader.byte()? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        let envelope = match reader.byte()? {
            MESSAGE => {
                let (group, message) = decode_message(&mut reader)?;
                Self::Message { group, message }
            }
            MESSAGES => {
                let count = reader.count(MESSAGE_BYTES_MIN)?;
                let messages = (0..count).map(|_| decode_message(&mut reader));
                Self::Messages(messages.collect::<Result<_, _>>()?)
            }
            SNAPSHOT_REQUEST => Self::SnapshotRequest(SnapshotRequest {
                group: GroupId::new(reader.small_number()?),
                descriptor: reader.bytes()?,
                offset: reader.number()?,
            }),
            SNAPSHOT_PART => Self::SnapshotPart(SnapshotPart {
                group: GroupId::new(reader.small_number()?),
                descriptor: reader.bytes()?,
                offset: reader.number()?,
                content: if reader.flag()? { Some(decode_content(&mut reader)?) } else { None },
            }),
            other => return Err(DecodeError::Tag(other)),
        };
        reader.finish()?;
        Ok(envelope)
    }

    /// About what the encoding takes, so that the buffer is allocated once.
    fn bytes_about(&self) -> usize {
        match self {
            Self::Message { message, .. } => HEADER_BYTES_MAX + body_bytes(&message.body),
            Self::Messages(messages) => {
                let bodies = messages.iter().map(|(_, message)| body_bytes(&message.body));
                HEADER_BYTES_MAX * (1 + messages.len()) + bodies.sum::<usize>()
            }
            Self::SnapshotRequest(request) => HEADER_BYTES_MAX + request.descriptor.len(),
            Self::SnapshotPart(part) => {
                let bytes = part.content.as_ref().map_or(0, |content| content.bytes.len());
                HEADER_BYTES_MAX + part.descriptor.len() + bytes
            }
        }
    }
}

/// Group, term, log and tag: the smallest message.
const MESSAGE_BYTES_MIN: usize = 4;

fn encode_message(writer: &mut Writer, group: GroupId, message: &Message) {
    writer.number(group.get().into());
    writer.number(message.term.get());
    writer.number(message.log.get());
    encode_body(writer, &message.body);
}

fn decode_message(reader: &mut Reader) -> Result<(GroupId, Message), DecodeError> {
    let group = GroupId::new(reader.small_number()?);
    let term = reader.term()?;
    let log = reader.log_identity()?;
    let body = decode_body(reader)?;
    Ok((group, Message { term, log, body }))
}

fn decode_content(reader: &mut Reader) -> Result<PartContent, DecodeError> {
    Ok(PartContent {
        is_last: reader.flag()?,
        checksum: reader.small_number()?,
        bytes: reader.bytes()?,
    })
}

/// About what entries or a snapshot take.
fn body_bytes(body: &MessageBody) -> usize {
    match body {
        MessageBody::Append { entries, .. } => entries.weight(),
        MessageBody::InstallSnapshot { snapshot, .. } => {
            let members = &snapshot.configuration;
            snapshot.data.len() + members.weight()
        }
        _ => 0,
    }
}

fn encode_body(writer: &mut Writer, body: &MessageBody) {
    match body {
        MessageBody::PreVoteRequest { last, priority } => {
            writer.byte(PRE_VOTE_REQUEST);
            writer.log_id(*last);
            writer.byte(priority.level());
        }
        MessageBody::PreVoteResponse { granted } => {
            writer.byte(PRE_VOTE_RESPONSE);
            writer.flag(*granted);
        }
        MessageBody::VoteRequest { last, by_transfer } => {
            writer.byte(VOTE_REQUEST);
            writer.log_id(*last);
            writer.flag(*by_transfer);
        }
        MessageBody::VoteResponse { granted } => {
            writer.byte(VOTE_RESPONSE);
            writer.flag(*granted);
        }
        MessageBody::Append { previous, entries, commit, round } => {
            debug_assert!(follows(entries, previous.index), "an append starts after `previous`");
            writer.byte(APPEND);
            writer.log_id(*previous);
            writer.number(commit.get());
            writer.number(round.get());
            writer.entries(previous.term, entries);
        }
        MessageBody::Committed { index } => {
            writer.byte(COMMITTED);
            writer.number(index.get());
        }
        MessageBody::AppendAccepted { matched, round } => {
            writer.byte(APPEND_ACCEPTED);
            writer.number(matched.get());
            writer.number(round.get());
        }
        MessageBody::AppendRejected { previous, hint, round } => {
            writer.byte(APPEND_REJECTED);
            writer.number(previous.get());
            writer.log_id(*hint);
            writer.number(round.get());
        }
        MessageBody::InstallSnapshot { snapshot, round } => {
            writer.byte(INSTALL_SNAPSHOT);
            writer.number(round.get());
            writer.log_id(snapshot.last);
            writer.configuration(&snapshot.configuration);
            writer.bytes(&snapshot.data);
        }
        MessageBody::ReadIndexRequest { read } => {
            writer.byte(READ_INDEX_REQUEST);
            writer.number(read.get());
        }
        MessageBody::ReadIndexResponse { read, index } => {
            writer.byte(READ_INDEX_RESPONSE);
            writer.number(read.get());
            writer.flag(index.is_some());
            if let Some(index) = index {
                writer.number(index.get());
            }
        }
        MessageBody::TimeoutNow => writer.byte(TIMEOUT_NOW),
    }
}

fn follows(entries: &Entries, previous: crate::LogIndex) -> bool {
    entries.is_consecutive() && entries.first_index().is_none_or(|first| first == previous.next())
}

fn decode_body(reader: &mut Reader) -> Result<MessageBody, DecodeError> {
    Ok(match reader.byte()? {
        PRE_VOTE_REQUEST => {
            let last = reader.log_id()?;
            let level = reader.byte()?;
            let priority = Priority::of_level(level).ok_or(DecodeError::Tag(level))?;
            MessageBody::PreVoteRequest { last, priority }
        }
        PRE_VOTE_RESPONSE => MessageBody::PreVoteResponse { granted: reader.flag()? },
        VOTE_REQUEST => {
            MessageBody::VoteRequest { last: reader.log_id()?, by_transfer: reader.flag()? }
        }
        VOTE_RESPONSE => MessageBody::VoteResponse { granted: reader.flag()? },
        APPEND => {
            let previous = reader.log_id()?;
            let commit = reader.index()?;
            let round = Round::new(reader.number()?);
            MessageBody::Append { previous, entries: reader.entries(previous)?, commit, round }
        }
        APPEND_ACCEPTED => MessageBody::AppendAccepted {
            matched: reader.index()?,
            round: Round::new(reader.number()?),
        },
        APPEND_REJECTED => MessageBody::AppendRejected {
            previous: reader.index()?,
            hint: reader.log_id()?,
            round: Round::new(reader.number()?),
        },
        INSTALL_SNAPSHOT => {
            let round = Round::new(reader.number()?);
            let snapshot = Box::new(Snapshot {
                last: reader.log_id()?,
                configuration: reader.configuration()?,
                data: reader.bytes()?,
            });
            MessageBody::InstallSnapshot { snapshot, round }
        }
        READ_INDEX_REQUEST => MessageBody::ReadIndexRequest { read: ReadId::new(reader.number()?) },
        READ_INDEX_RESPONSE => MessageBody::ReadIndexResponse {
            read: ReadId::new(reader.number()?),
            index: if reader.flag()? { Some(reader.index()?) } else { None },
        },
        TIMEOUT_NOW => MessageBody::TimeoutNow,
        COMMITTED => MessageBody::Committed { index: reader.index()? },
        other => return Err(DecodeError::Tag(other)),
    })
}
