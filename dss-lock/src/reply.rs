//! What a lock table answers, and what it reports besides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Mode;
use crate::names::{LockName, Owner, SessionId};
use crate::numbers::{AttemptId, FencingToken};

/// A lock that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which.
    pub lock: LockName,
    /// In which session.
    pub session: SessionId,
    /// How it is held: exclusively also where shared was asked for by who held it exclusively.
    pub mode: Mode,
    /// What proves it.
    pub token: FencingToken,
}

/// How an acquire ends; each ends in exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The lock is the owner's.
    Granted(Grant),
    /// It is not free, and the request would not wait.
    Held {
        /// Sessions that hold it, up to [`HOLDERS_REPORTED_MAX`](crate::HOLDERS_REPORTED_MAX).
        holders: Vec<SessionId>,
    },
    /// It was not granted in the time that the request would wait.
    TimedOut,
    /// The wait would never have ended.
    Deadlock {
        /// The sessions that wait for one another, from the requester's on: each waits for a lock
        /// that the next one holds, and the last for one of the first.
        cycle: Vec<SessionId>,
    },
    /// The owner already waits for a lock.
    OwnerBusy,
    /// The session ended while the request waited.
    SessionExpired,
    /// The request was taken back.
    Cancelled,
    /// A [limit](crate::Limit) was reached, and nothing was done.
    Refused(Limit),
}

/// What there may not be more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Limit {
    /// [`SESSIONS_MAX`](crate::SESSIONS_MAX).
    Sessions,
    /// [`LOCKS_PER_SESSION_MAX`](crate::LOCKS_PER_SESSION_MAX).
    LocksPerSession,
    /// [`WAITERS_PER_LOCK_MAX`](crate::WAITERS_PER_LOCK_MAX).
    WaitersPerLock,
}

/// How a release ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReleaseOutcome {
    /// The lock was the owner's and is no longer.
    Released,
    /// The owner does not hold the lock.
    NotHolder,
    /// The owner holds the lock by another grant than the one it named.
    StaleToken,
}

/// A session as the table knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// How long it lives after its last sign of life.
    pub ttl: Duration,
    /// Its newest renewal in the log, for [`Expiry`](crate::Expiry).
    pub renewal: u64,
    /// The locks that its owners hold, in order.
    pub holds: Vec<LockName>,
    /// The locks that its owners wait for, in order.
    pub waits_for: Vec<LockName>,
}

/// The answer to a [`Command`](crate::Command).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of an open: the session as it is now, or why there is none.
    Session(Result<SessionView, Limit>),
    /// Of a close: whether there was such a session.
    Closed(bool),
    /// Of an acquire that has ended at once, or had ended when it was first sent.
    Ended(Outcome),
    /// Of an acquire that waits. Its end comes as [`Event::WaitEnded`].
    Waiting,
    /// Of a release.
    Release(ReleaseOutcome),
    /// Of everything else.
    Done,
}

/// What a command has brought about besides its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A wait has ended, in anything but a refusal.
    WaitEnded {
        /// The lock.
        lock: LockName,
        /// Who waited for it.
        owner: Owner,
        /// The acquires that are answered by this: the first and every repeat that joined it.
        attempts: Vec<AttemptId>,
        /// How it ended.
        outcome: Outcome,
    },
    /// A session was opened or has given a sign of life in the log.
    SessionRenewed {
        /// Which.
        session: SessionId,
        /// How long it lives from now on without another.
        ttl: Duration,
        /// Names this renewal, for [`Expiry`](crate::Expiry).
        renewal: u64,
    },
    /// A session has expired or was closed.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Its newest renewal; one that is newer belongs to a later session of the same name.
        renewal: u64,
    },
}
