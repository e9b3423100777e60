//! Commands that count once, however often they are proposed (dissertation 6.3).
//!
//! A proposal whose outcome is unknown can only be repeated if a second application does no harm.
//! [`Sessions`] makes any state machine like that: a client registers, numbers its commands, and
//! repeats one until it has a reply; what was applied before is answered from the record. Sessions
//! and replies are part of the replicated state, so every leader knows them, and snapshots hold
//! them.
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use dss_raft::sessions::{Session, SessionCommand, SessionLimits, SessionReply, Sessions};
//! use dss_raft::{LogIndex, RestoreError, StateMachine};
//!
//! #[derive(Default)]
//! struct Log(Vec<u8>);
//!
//! impl StateMachine for Log {
//!     type Reply = Bytes;
//!     fn apply(&mut self, _: LogIndex, command: &Bytes) -> Bytes {
//!         self.0.extend_from_slice(command);
//!         Bytes::copy_from_slice(&self.0)
//!     }
//!     fn snapshot(&self) -> Bytes {
//!         Bytes::copy_from_slice(&self.0)
//!     }
//!     fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
//!         self.0 = snapshot.to_vec();
//!         Ok(())
//!     }
//! }
//!
//! let mut machine = Sessions::new(Log::default(), SessionLimits::default());
//! let now = Duration::from_secs(1); // by the clock of whoever proposes
//! let register = SessionCommand::Register.encode(now);
//! let SessionReply::Registered(id) = machine.apply(LogIndex::new(1), &register) else { panic!() };
//! let mut session = Session::new(id);
//!
//! let (number, command) = session.begin(Bytes::from_static(b"x"));
//! for at in 2..5 {
//!     // Proposed three times, applied once.
//!     let reply = machine.apply(LogIndex::new(at), &command.encode(now));
//!     assert_eq!(reply, SessionReply::Applied(Bytes::from_static(b"x")));
//! }
//! session.end(number);
//! ```

mod client;
mod command;
mod record;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

pub use client::Session;
pub use command::SessionCommand;

use crate::ports::{RestoreError, StateMachine};
use crate::types::LogIndex;
use record::Record;

/// Names a session: the index of the entry that registered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The session with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// How much is remembered. It must be the same on every node, as the state machine must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// How long a session lives without a command, by the time in the log. Default: an hour.
    pub idle: Duration,
    /// How many sessions there are at most; the one that was idle longest makes way. Default:
    /// 100,000.
    pub sessions: usize,
    /// How many replies a session keeps that its client has not said to have. Default: 1,000.
    pub replies: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60 * 60), sessions: 100_000, replies: 1_000 }
    }
}

/// What became of a [`SessionCommand`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionReply {
    /// A session began.
    Registered(SessionId),
    /// The state machine's reply, of now or of when the command was first applied.
    Applied(Bytes),
    /// The session lives on.
    Alive,
    /// The session is over.
    Closed,
    /// There is no such session (any more): whether the command was applied before is not known
    /// here, and it was not applied now.
    Expired,
    /// The client has said to have this reply, and it is forgotten.
    Forgotten,
    /// Too many replies are kept for this session: take note of some first.
    Overloaded,
    /// Not a session command.
    Malformed,
}

/// A state machine whose commands count once.
///
/// Commands to it are encoded [`SessionCommand`]s. Time in the log is the greatest time that any
/// command was stamped with; sessions end by that, so all nodes end them at the same entry.
#[derive(Debug, Clone)]
pub struct Sessions<M> {
    machine: M,
    limits: SessionLimits,
    now: Duration,
    sessions: BTreeMap<SessionId, Record>,
    #[cfg(feature = "testing")]
    forgets_in_snapshots: bool,
}

impl<M: StateMachine<Reply = Bytes>> Sessions<M> {
    /// The machine, before any session.
    pub fn new(machine: M, limits: SessionLimits) -> Self {
        Self {
            machine,
            limits,
            now: Duration::ZERO,
            sessions: BTreeMap::new(),
            #[cfg(feature = "testing")]
            forgets_in_snapshots: false,
        }
    }

    /// The state machine itself, for queries.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Plants a bug, for tests that are to find it: snapshots hold no sessions.
    #[cfg(feature = "testing")]
    pub fn forget_in_snapshots(&mut self) {
        self.forgets_in_snapshots = true;
    }

    fn expire(&mut self) {
        let (now, idle) = (self.now, self.limits.idle);
        self.sessions.retain(|_, record| now.saturating_sub(record.active) < idle);
    }

    fn register(&mut self, index: LogIndex) -> SessionReply {
        while self.sessions.len() >= self.limits.sessions.max(1)
            && let Some(oldest) =
                self.sessions.iter().min_by_key(|(id, record)| (record.active, **id))
        {
            let oldest = *oldest.0;
            self.sessions.remove(&oldest);
        }
        let id = SessionId(index.get());
        self.sessions.insert(id, Record::new(self.now));
        SessionReply::Registered(id)
    }

    fn execute(
        &mut self,
        index: LogIndex,
        session: SessionId,
        number: u64,
        ended_below: u64,
        command: &Bytes,
    ) -> SessionReply {
        let Some(record) = self.sessions.get_mut(&session) else { return SessionReply::Expired };
        record.active = self.now;
        record.forget_below(ended_below);
        if number < record.ended_below {
            return SessionReply::Forgotten;
        }
        if let Some(reply) = record.replies.get(&number) {
            return SessionReply::Applied(reply.clone());
        }
        if record.replies.len() >= self.limits.replies.max(1) {
            return SessionReply::Overloaded;
        }
        let reply = self.machine.apply(index, command);
        record.replies.insert(number, reply.clone());
        SessionReply::Applied(reply)
    }
}

impl<M: StateMachine<Reply = Bytes>> StateMachine for Sessions<M> {
    type Reply = SessionReply;

    fn apply(&mut self, index: LogIndex, command: &Bytes) -> SessionReply {
        let Some((at, command)) = SessionCommand::decode(command) else {
            return SessionReply::Malformed;
        };
        self.now = self.now.max(at);
        self.expire();
        match command {
            SessionCommand::Register => self.register(index),
            SessionCommand::Close { session } => {
                self.sessions.remove(&session);
                SessionReply::Closed
            }
            SessionCommand::KeepAlive { session } => match self.sessions.get_mut(&session) {
                Some(record) => {
                    record.active = self.now;
                    SessionReply::Alive
                }
                None => SessionReply::Expired,
            },
            SessionCommand::Execute { session, number, ended_below, command } => {
                self.execute(index, session, number, ended_below, &command)
            }
        }
    }

    fn snapshot(&self) -> Bytes {
        #[cfg(feature = "testing")]
        if self.forgets_in_snapshots {
            return record::encode(self.now, &BTreeMap::new(), &self.machine.snapshot());
        }
        record::encode(self.now, &self.sessions, &self.machine.snapshot())
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let decoded = record::decode(snapshot);
        let (now, sessions, machine) =
            decoded.ok_or(RestoreError { problem: "the table of sessions is damaged" })?;
        self.machine.restore(&machine)?;
        (self.now, self.sessions) = (now, sessions);
        Ok(())
    }
}
