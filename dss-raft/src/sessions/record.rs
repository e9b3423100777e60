//! What is remembered of a session, and how a snapshot holds it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::SessionId;

/// One session.
///
/// Invariant: no reply has a number below `ended_below`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// When its last command came, by the time in the log.
    pub(super) active: Duration,
    /// The client has the replies to all smaller numbers.
    pub(super) ended_below: u64,
    /// By number, the replies that the client may ask for again.
    pub(super) replies: BTreeMap<u64, Bytes>,
}

impl Record {
    pub(super) fn new(now: Duration) -> Self {
        Self { active: now, ended_below: 0, replies: BTreeMap::new() }
    }

    pub(super) fn forget_below(&mut self, number: u64) {
        if number > self.ended_below {
            self.ended_below = number;
            self.replies = self.replies.split_off(&number);
        }
    }
}

fn put_bytes(buffer: &mut BytesMut, bytes: &[u8]) {
    buffer.put_u64_le(bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

fn put_time(buffer: &mut BytesMut, time: Duration) {
    // Times come from milliseconds in 64 bits.
    buffer.put_u64_le(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
}

pub(super) fn encode(
    now: Duration,
    sessions: &BTreeMap<SessionId, Record>,
    machine: &Bytes,
) -> Bytes {
    let mut buffer = BytesMut::new();
    put_time(&mut buffer, now);
    buffer.put_u64_le(sessions.len() as u64);
    for (id, record) in sessions {
        buffer.put_u64_le(id.get());
        put_time(&mut buffer, record.active);
        buffer.put_u64_le(record.ended_below);
        buffer.put_u64_le(record.replies.len() as u64);
        for (number, reply) in &record.replies {
            buffer.put_u64_le(*number);
            put_bytes(&mut buffer, reply);
        }
    }
    buffer.extend_from_slice(machine);
    buffer.freeze()
}

type Decoded = (Duration, BTreeMap<SessionId, Record>, Bytes);

pub(super) fn decode(snapshot: &Bytes) -> Option<Decoded> {
    let mut rest = snapshot.clone();
    let now = take_time(&mut rest)?;
    let mut sessions = BTreeMap::new();
    for _ in 0..take(&mut rest)? {
        let id = SessionId::new(take(&mut rest)?);
        let (active, ended_below) = (take_time(&mut rest)?, take(&mut rest)?);
        let mut replies = BTreeMap::new();
        for _ in 0..take(&mut rest)? {
            let number = take(&mut rest)?;
            let length = usize::try_from(take(&mut rest)?).ok()?;
            if length > rest.len() {
                return None;
            }
            replies.insert(number, rest.split_to(length));
        }
        sessions.insert(id, Record { active, ended_below, replies });
    }
    Some((now, sessions, rest))
}

fn take(rest: &mut Bytes) -> Option<u64> {
    rest.try_get_u64_le().ok()
}

fn take_time(rest: &mut Bytes) -> Option<Duration> {
    take(rest).map(Duration::from_millis)
}
