//! Locks that survive their holders: leases, fencing tokens and exact deadlock detection.

mod acquire;
mod claims;
mod command;
mod deadlock;
#[cfg(feature = "raft")]
mod leases;
mod limits;
mod lock;
#[cfg(feature = "raft")]
mod machine;
mod names;
mod numbers;
mod queue;
mod reply;
#[cfg(feature = "raft")]
mod service;
mod session;
mod snapshot;
mod table;
mod views;

pub use command::{
    AcquireRequest, Command, DecodeError, Expiry, Mode, ReleaseRequest, StampedCommand, Wait,
};
pub use limits::{
    HOLDERS_REPORTED_MAX, LOCKS_PER_SESSION_MAX, PAGE_LOCKS_MAX, SESSIONS_MAX, TTL_DEFAULT,
    TTL_MAX, TTL_MIN, WAIT_EDGES_MAX, WAITERS_PER_LOCK_MAX,
};
#[cfg(feature = "raft")]
pub use machine::{LockEvents, LockMachine};
pub use names::{LockName, NAME_BYTES_MAX, NameError, Owner, OwnerId, RequestId, SessionId};
pub use numbers::{AttemptId, ClusterTime, FencingToken};
pub use reply::{Event, Grant, Limit, Outcome, ReleaseOutcome, Reply, SessionView};
#[cfg(feature = "raft")]
pub use service::{
    AcquireError, Courier, LockService, ReleaseError, ServiceError, SessionError, SessionInfo,
    Withdrawal,
};
pub use snapshot::SnapshotError;
pub use table::LockTable;
pub use views::{Found, HolderInfo, LockInfo, LockPage, WaitEdge, WaiterInfo};
