//! What clients propose.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::SessionId;

/// A command to [`Sessions`](super::Sessions).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionCommand {
    /// Begin a session.
    Register,
    /// End a session.
    Close {
        /// Which.
        session: SessionId,
    },
    /// Have a session live on.
    KeepAlive {
        /// Which.
        session: SessionId,
    },
    /// Apply a command, if it was not applied before.
    Execute {
        /// Whose.
        session: SessionId,
        /// The client's number for it.
        number: u64,
        /// The replies to all smaller numbers have arrived.
        ended_below: u64,
        /// For the state machine.
        command: Bytes,
    },
}

const REGISTER: u8 = 0;
const CLOSE: u8 = 1;
const KEEP_ALIVE: u8 = 2;
const EXECUTE: u8 = 3;

impl SessionCommand {
    /// What to propose. `now` is the proposer's clock, which moves the time in the log forward:
    /// every proposer's should show about the same, since one that is far ahead ends the sessions
    /// of all.
    #[must_use]
    pub fn encode(&self, now: Duration) -> Bytes {
        /// Tag, time and three numbers.
        const FIXED: usize = 33;
        let mut buffer = BytesMut::with_capacity(FIXED);
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut head = |tag: u8, numbers: &[u64]| {
            buffer.put_u8(tag);
            buffer.put_u64_le(millis);
            numbers.iter().for_each(|number| buffer.put_u64_le(*number));
        };
        match self {
            Self::Register => head(REGISTER, &[]),
            Self::Close { session } => head(CLOSE, &[session.get()]),
            Self::KeepAlive { session } => head(KEEP_ALIVE, &[session.get()]),
            Self::Execute { session, number, ended_below, command } => {
                head(EXECUTE, &[session.get(), *number, *ended_below]);
                buffer.extend_from_slice(command);
            }
        }
        buffer.freeze()
    }

    /// The time and the command that these bytes are the encoding of, if they are one's.
    pub(super) fn decode(bytes: &Bytes) -> Option<(Duration, Self)> {
        let mut rest = bytes.clone();
        let tag = rest.try_get_u8().ok()?;
        let now = Duration::from_millis(rest.try_get_u64_le().ok()?);
        let mut number = || rest.try_get_u64_le().ok();
        let command = match tag {
            REGISTER => Self::Register,
            CLOSE => Self::Close { session: SessionId::new(number()?) },
            KEEP_ALIVE => Self::KeepAlive { session: SessionId::new(number()?) },
            EXECUTE => {
                let (session, number, ended_below) = (number()?, number()?, number()?);
                let session = SessionId::new(session);
                return Some((now, Self::Execute { session, number, ended_below, command: rest }));
            }
            _ => return None,
        };
        rest.is_empty().then_some((now, command))
    }
}
