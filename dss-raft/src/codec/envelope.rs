//! Envelopes: what a transport carries.

use bytes::Bytes;

use super::DecodeError;
use super::reader::Reader;
use super::writer::Writer;
use crate::config::Priority;
use crate::entry::{Entries, Snapshot};
use crate::message::{Envelope, Message, MessageBody, Round};
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

/// What the fields beside entries and snapshots take at most: version, group, term, log, tag and
/// five numbers.
const HEADER_BYTES_MAX: usize = 90;

impl Envelope {
    /// The bytes of the envelope, for [`decode`](Envelope::decode) at the receiver.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::with_capacity(HEADER_BYTES_MAX + body_bytes(&self.message.body));
        writer.byte(VERSION);
        writer.number(self.group.get().into());
        writer.number(self.message.term.get());
        writer.number(self.message.log.get());
        encode_body(&mut writer, &self.message.body);
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
        let group = GroupId::new(reader.small_number()?);
        let term = reader.term()?;
        let log = reader.log_identity()?;
        let body = decode_body(&mut reader)?;
        reader.finish()?;
        Ok(Self { group, message: Message { term, log, body } })
    }
}

/// About what entries or a snapshot take, so that the buffer is allocated once.
fn body_bytes(body: &MessageBody) -> usize {
    match body {
        MessageBody::Append { entries, .. } => entries.iter().map(crate::Entry::weight).sum(),
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
            let snapshot = Snapshot {
                last: reader.log_id()?,
                configuration: reader.configuration()?,
                data: reader.bytes()?,
            };
            MessageBody::InstallSnapshot { snapshot, round }
        }
        READ_INDEX_REQUEST => MessageBody::ReadIndexRequest { read: ReadId::new(reader.number()?) },
        READ_INDEX_RESPONSE => MessageBody::ReadIndexResponse {
            read: ReadId::new(reader.number()?),
            index: if reader.flag()? { Some(reader.index()?) } else { None },
        },
        TIMEOUT_NOW => MessageBody::TimeoutNow,
        other => return Err(DecodeError::Tag(other)),
    })
}
