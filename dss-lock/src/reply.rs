//! What a lock table answers, and what it reports besides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Mode;
use crate::names::{LockName, Owner, SessionId};
use crate::numbers::{AttemptId, ClusterTime, FencingToken};

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
    /// The locks are the owner's, all that were asked for, in the order of their names.
    GrantedAll(Vec<Grant>),
    /// A request for several locks names one that the owner already holds, and not all.
    AlreadyHolds {
        /// That lock.
        lock: LockName,
    },
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
        /// that the next one holds, or behind it, and the last for the first. A longer one is cut
        /// to [`CYCLE_REPORTED_MAX`](crate::CYCLE_REPORTED_MAX).
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

impl Outcome {
    /// The grants that it consists of.
    pub(crate) fn grants(&self) -> impl Iterator<Item = &Grant> {
        let (one, several) = match self {
            Self::Granted(grant) => (Some(grant), &[][..]),
            Self::GrantedAll(grants) => (None, &grants[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(several)
    }
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
    /// [`LOCKS_PER_REQUEST_MAX`](crate::LOCKS_PER_REQUEST_MAX), or no lock at all.
    LocksPerRequest,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Sessions => "there are too many sessions",
            Self::LocksPerSession => "the session has too many locks",
            Self::WaitersPerLock => "too many wait for the lock",
            Self::LocksPerRequest => "the request names no lock or too many",
        })
    }
}

/// How a release ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReleaseOutcome {
    /// The lock was the owner's and is no longer.
    Released,
    /// The owner had entered it more than once and still holds it.
    StillHeld {
        /// How many more releases it takes.
        entries: u32,
    },
    /// The owner does not hold the lock.
    NotHolder,
    /// The owner holds the lock by another grant than the one it named.
    StaleToken,
}

/// How a downgrade ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DowngradeOutcome {
    /// The owner holds the lock shared, by the token that it had.
    Downgraded(Grant),
    /// The owner does not hold the lock.
    NotHolder,
    /// The owner holds the lock by another grant than the one it named.
    StaleToken,
}

/// What was done about a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Resolution {
    /// The request that would have closed it was refused.
    Refused,
    /// Only others that wait were in the way of the request, so it was let past them.
    LetPast,
}

/// A deadlock that was found, and prevented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlockInfo {
    /// The index of the command that would have closed it.
    pub index: u64,
    /// The cluster's time then.
    pub at: ClusterTime,
    /// Who asked.
    pub owner: Owner,
    /// For which lock, or the first of several.
    pub lock: LockName,
    /// As in [`Outcome::Deadlock`].
    pub cycle: Vec<SessionId>,
    /// What was done.
    pub resolution: Resolution,
}

/// A session as the table knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// How long it lives after its last sign of life.
    pub ttl: Duration,
    /// For how long its locks are granted to nobody after it has expired.
    pub lock_delay: Duration,
    /// Its newest renewal in the log, for [`Expiry`](crate::Expiry).
    pub renewal: u64,
    /// The index of the command that opened it: tells apart sessions that bear one name in turn.
    pub opened: u64,
    /// The locks that its owners hold, in order.
    pub holds: Vec<LockName>,
    /// The tokens of its grants that are in force, in order.
    pub tokens: Vec<FencingToken>,
    /// The locks that its owners wait for, in order.
    pub waits_for: Vec<LockName>,
}

/// The answer to a [`Command`](crate::Command).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of an open: the session as it is now, or why there is none.
    Session(Result<SessionView, Limit>),
    /// Of a renewal: the session, where it lives.
    Renewed(Option<SessionView>),
    /// Of a close: whether there was such a session.
    Closed(bool),
    /// Of an acquire that has ended at once, or had ended when it was first sent.
    Ended(Outcome),
    /// Of an acquire that waits. Its end comes as [`Event::WaitEnded`].
    Waiting,
    /// Of a release.
    Release(ReleaseOutcome),
    /// Of a downgrade.
    Downgrade(DowngradeOutcome),
    /// Of everything else.
    Done,
}

/// What a command has brought about besides its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A wait has ended, in anything but a refusal.
    WaitEnded {
        /// The lock, or the first of several by name.
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
    /// A lock was taken from its holder by force.
    Revoked {
        /// The lock.
        lock: LockName,
        /// Who held it.
        owner: Owner,
        /// By which grant.
        token: FencingToken,
    },
    /// A session has expired or was closed.
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Its newest renewal; one that is newer belongs to a later session of the same name.
        renewal: u64,
    },
}
