//! Locks that survive their holders: leases, fencing tokens and exact deadlock detection.

mod acquire;
mod claims;
mod command;
mod deadlock;
mod limits;
mod lock;
mod names;
mod numbers;
mod queue;
mod reply;
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
pub use names::{LockName, NAME_BYTES_MAX, NameError, Owner, OwnerId, RequestId, SessionId};
pub use numbers::{AttemptId, ClusterTime, FencingToken};
pub use reply::{Event, Grant, Limit, Outcome, ReleaseOutcome, Reply, SessionView};
pub use snapshot::SnapshotError;
pub use table::LockTable;
pub use views::{Found, HolderInfo, LockInfo, LockPage, WaitEdge, WaiterInfo};
