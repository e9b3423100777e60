//! What the service's operations can end in, besides success.

use dss_raft::{NodeId, ProposeError};

use crate::names::{LockName, SessionId};
use crate::reply::Limit;

/// Why the service could not do, or not say, anything at all.
///
/// Only [`OutcomeUnknown`](ServiceError::OutcomeUnknown) leaves it open whether something was
/// done; after every other error nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// Another node leads, or none does.
    #[error("this node does not lead the locks")]
    NotLeader {
        /// Who does, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too much is under way, or there are too many sessions. Try again later.
    #[error("too much is under way")]
    Overloaded,
    /// It may or may not have been done. The same request with the same request id is safe to send
    /// again, and is answered with what was done.
    #[error("it is not known whether it was done")]
    OutcomeUnknown,
    /// What the locks are reached by cannot do this, however often it is asked.
    #[error("locks that are reached this way cannot do that")]
    Unsupported,
    /// This node cannot serve. Try another.
    #[error("this node cannot serve locks")]
    Unavailable,
}

/// Why there is nothing to tell of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It has expired, or never was.
    #[error("the session has expired")]
    Expired,
    /// The service could not tell.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Why an acquire ended without a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The lock is not free, and the request would not wait.
    #[error("the lock is held")]
    Held {
        /// Sessions that hold it, up to [`HOLDERS_REPORTED_MAX`](crate::HOLDERS_REPORTED_MAX).
        holders: Vec<SessionId>,
    },
    /// It was not granted in time.
    #[error("the lock was not granted in time")]
    TimedOut,
    /// The wait would never have ended.
    #[error("the wait would have closed a cycle")]
    Deadlock {
        /// The sessions that wait for one another, from the requester's on.
        cycle: Vec<SessionId>,
    },
    /// The owner already waits for a lock.
    #[error("the owner already waits for a lock")]
    OwnerBusy,
    /// The session ended while the request waited.
    #[error("the session has expired")]
    SessionExpired,
    /// The request was taken back.
    #[error("the request was taken back")]
    Cancelled,
    /// A request for several locks names one that the owner already holds, and not all.
    #[error("the owner already holds {lock}")]
    AlreadyHolds {
        /// That lock.
        lock: LockName,
    },
    /// There may not be more, and nothing was done. Try again later.
    #[error("{0}")]
    Limit(Limit),
    /// The service could not do it, or could not say.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// Why a lock was not released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The owner does not hold it.
    #[error("the lock is not held by this owner")]
    NotHolder,
    /// The owner holds it by another grant than the one it named.
    #[error("the token is not that of the grant in force")]
    StaleToken,
    /// The service could not do it, or could not say.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<ProposeError> for ServiceError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::OutcomeUnknown => Self::OutcomeUnknown,
            // Of every other one dss-raft says that the command is never applied.
            _ => Self::Unavailable,
        }
    }
}
