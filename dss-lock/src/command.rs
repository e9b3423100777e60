//! What a lock table is told to do, and how that is written to the log.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::names::{LockName, Owner, OwnerId, RequestId, SessionId};
use crate::numbers::{AttemptId, ClusterTime, FencingToken};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// By one owner alone.
    Exclusive,
    /// By any number of owners, none of them exclusive.
    Shared,
}

/// How long an acquire may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wait {
    /// Not at all: it is granted now or refused.
    Try,
    /// This long, in the cluster's time.
    For(Duration),
    /// Until it is granted or its session ends.
    Forever,
}

/// Asks for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquireRequest {
    /// Which.
    pub lock: LockName,
    /// In which session; one that does not exist is opened.
    pub session: SessionId,
    /// For which owner of the session.
    pub owner: OwnerId,
    /// How.
    pub mode: Mode,
    /// How long it may wait.
    pub wait: Wait,
    /// How long the session lives after its last sign of life, from now on. Where `None`, an
    /// existing session keeps its own and a new one gets [`TTL_DEFAULT`](crate::TTL_DEFAULT).
    pub ttl: Option<Duration>,
    /// Recognises a repeat, which is answered as the first one was, or joins its wait.
    pub request_id: Option<RequestId>,
    /// Whether taking a lock that the owner holds already is counted, so that it takes one more
    /// release. Give such a request an id: a repeat without one would count again.
    pub reentrant: bool,
}

/// Asks for several locks at once: they are granted together or not at all, and none is held
/// while the others are waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquireAllRequest {
    /// Which, and how each; from 1 to [`LOCKS_PER_REQUEST_MAX`](crate::LOCKS_PER_REQUEST_MAX). The
    /// owner must hold none of them, or all. One that is named twice counts once, exclusive if
    /// either is.
    pub locks: Vec<(LockName, Mode)>,
    /// As in [`AcquireRequest`].
    pub session: SessionId,
    /// As in [`AcquireRequest`].
    pub owner: OwnerId,
    /// As in [`AcquireRequest`].
    pub wait: Wait,
    /// As in [`AcquireRequest`].
    pub ttl: Option<Duration>,
    /// As in [`AcquireRequest`].
    pub request_id: Option<RequestId>,
}

impl AcquireRequest {
    /// Whom the lock would belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { session: self.session.clone(), owner: self.owner.clone() }
    }
}

impl AcquireAllRequest {
    /// Whom the locks would belong to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { session: self.session.clone(), owner: self.owner.clone() }
    }
}

/// Gives a lock back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// Which.
    pub lock: LockName,
    /// In which session it is held.
    pub session: SessionId,
    /// By which owner of the session.
    pub owner: OwnerId,
    /// The grant to give back, so that a late release ends no later grant.
    pub token: Option<FencingToken>,
}

impl ReleaseRequest {
    /// Whom the lock belongs to.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { session: self.session.clone(), owner: self.owner.clone() }
    }
}

/// A session that is to end because nothing has been heard of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expiry {
    /// Which.
    pub session: SessionId,
    /// The newest renewal that was known to whoever judged it dead; a newer one saves it.
    pub renewal: u64,
}

/// One step of a [`LockTable`](crate::LockTable).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Opens a session, or renews it and sets its time to live.
    OpenSession {
        /// Which.
        session: SessionId,
        /// How long it lives after its last sign of life.
        ttl: Duration,
        /// For how long its locks are granted to nobody after it has expired, which is time for
        /// what it has sent to arrive. Where `None`, an existing session keeps its own and a new
        /// one has none. At most [`LOCK_DELAY_MAX`](crate::LOCK_DELAY_MAX).
        lock_delay: Option<Duration>,
    },
    /// Notes a sign of life of a session, and opens none where it is over.
    Renew {
        /// Which.
        session: SessionId,
    },
    /// Ends a session and all that it holds and waits for.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// Ends the sessions that nothing has been heard of.
    Expire {
        /// Which, each unless it has been renewed meanwhile.
        sessions: Vec<Expiry>,
    },
    /// Asks for a lock.
    Acquire {
        /// Names this command for [`Command::Cancel`].
        attempt: AttemptId,
        /// What is asked for.
        request: AcquireRequest,
    },
    /// Asks for several locks.
    AcquireAll {
        /// Names this command for [`Command::Cancel`].
        attempt: AttemptId,
        /// What is asked for.
        request: AcquireAllRequest,
    },
    /// Takes an acquire back, whatever has become of it: it leaves the queue, and a grant that
    /// nobody else has been told of is released. Does nothing where the attempt is unknown.
    Cancel {
        /// The acquire.
        attempt: AttemptId,
        /// The locks it asked for.
        locks: Vec<LockName>,
        /// The owner it asked for.
        owner: Owner,
    },
    /// Gives a lock back.
    Release(ReleaseRequest),
    /// Makes an exclusive hold shared. It keeps its token, and readers that wait are let in.
    Downgrade(ReleaseRequest),
    /// Takes a lock from all that hold it.
    ForceRelease {
        /// Which.
        lock: LockName,
    },
    /// Only lets time pass.
    Tick,
}

/// A command as it stands in the log: with the time that the leader gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedCommand {
    /// The cluster's time, by the leader's reckoning.
    pub now: ClusterTime,
    /// What to do.
    pub command: Command,
}

/// Bytes that are no command of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte is that of another version.
    #[error("of an unknown version")]
    Version,
    /// The rest is damaged.
    #[error("malformed")]
    Malformed,
}

/// Stands first in every encoded command; another layout gets another number.
const COMMAND_VERSION: u8 = 2;

impl StampedCommand {
    /// The bytes that stand for it in the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(COMMAND_VERSION, self)
    }

    /// The command that these bytes stand for.
    ///
    /// # Errors
    ///
    /// Where they stand for none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(COMMAND_VERSION, bytes)
    }
}

/// A version byte and the postcard encoding of `value`.
pub(crate) fn encode(version: u8, value: &impl Serialize) -> Bytes {
    postcard::to_extend(value, vec![version])
        .expect("the types of this crate are all encodable, and a Vec takes any length")
        .into()
}

/// What [`encode`] made these bytes of, all of them.
pub(crate) fn decode<'a, T: Deserialize<'a>>(
    version: u8,
    bytes: &'a [u8],
) -> Result<T, DecodeError> {
    let (first, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    if *first != version {
        return Err(DecodeError::Version);
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(DecodeError::Malformed),
    }
}
