//! Locks that survive their holders: leases, fencing tokens and exact deadlock detection.
//!
//! Many owners on many machines ask for named locks, shared or exclusive, and wait their turn. A
//! *session* stands for a process: when it is not heard of for its time to live, all that it holds
//! and waits for goes to whoever is next. Each grant has a *fencing token*, greater than that of
//! every grant before it, so that what the lock protects can refuse a holder that slept through
//! the end of its session. A wait that would never end is refused at once, with the cycle.
//!
//! ```text
//!   LockSession    keeps itself alive, and hands out guards                 ┐
//!   LockService    on every node: clocks, timers, waiting, keep-alives      │ feature `raft`,
//!   LockMachine    the table as a state machine of dss-raft                 ┘ on by default
//!   LockTable      deterministic: command in, reply and events out
//! ```
//!
//! It is not a lock in one process's memory, it does not make a slow resource safe that ignores
//! the tokens, and it grants nothing while a majority of the nodes is away.
//!
//! The core is [`LockTable`], which has neither clock nor network. Whoever drives it numbers the
//! commands and says what time it is:
//!
//! ```
//! use dss_lock::*;
//!
//! # fn main() -> Result<(), NameError> {
//! let ask = |session: &str, sequence| -> Result<Command, NameError> {
//!     let request = AcquireRequest {
//!         lock: LockName::new("orders/42")?,
//!         session: SessionId::new(session)?,
//!         owner: OwnerId::default(),
//!         mode: Mode::Exclusive,
//!         wait: Wait::Forever,
//!         ttl: None,
//!         request_id: None,
//!         reentrant: false,
//!     };
//!     Ok(Command::Acquire { attempt: AttemptId { term: 1, sequence }, request })
//! };
//! let mut table = LockTable::new();
//! let now = ClusterTime::from_millis(10);
//!
//! // The first one gets the lock, the second one waits.
//! let (reply, _) = table.apply(1, now, ask("worker-1", 1)?);
//! let Reply::Ended(Outcome::Granted(first)) = reply else { panic!("{reply:?}") };
//! assert_eq!(table.apply(2, now, ask("worker-2", 2)?).0, Reply::Waiting);
//!
//! // Whatever ends the first grant makes the next one, in the same step.
//! let close = Command::CloseSession { session: SessionId::new("worker-1")? };
//! let (_, events) = table.apply(3, now, close);
//! let granted = events.iter().find_map(|event| match event {
//!     Event::WaitEnded { outcome: Outcome::Granted(grant), .. } => Some(grant),
//!     _ => None,
//! });
//! assert!(granted.expect("worker-2 is next").token > first.token);
//! # Ok(())
//! # }
//! ```
//!
//! # Rules
//!
//! - A lock belongs to an [`Owner`]: one task of a session. An owner waits for one lock at a time.
//! - First come, first served; a reader does not overtake a waiting writer. There are two
//!   exceptions: the upgrade of a shared hold goes in front, and a reader whose wait would be a
//!   deadlock only because of a writer that waits too is let in.
//! - To ask again for what is held answers the same token. To ask for exclusive while holding
//!   shared is an upgrade, and two upgrades of one lock are a deadlock.
//! - The same [`RequestId`] is answered the same, however often and on whichever node. What was
//!   answered is remembered for the last 16 requests of an owner, and as long as its session lives.
//! - Deadlines are in [`ClusterTime`], which stands still without a leader; sessions live by the
//!   leader's clock, and a new leader gives each its full time. An outage shortens neither.
//! - A request that is dropped leaves the queue, and a grant that nobody was told of is released.

#[doc = include_str!("../docs/promises.md")]
pub mod promises {}

mod acquire;
mod check;
mod claims;
#[cfg(feature = "raft")]
mod client;
mod command;
mod deadlock;
mod directory;
mod ending;
mod holds;
mod index;
#[cfg(feature = "raft")]
mod leases;
mod limits;
mod lock;
#[cfg(feature = "raft")]
mod machine;
mod names;
mod numbers;
mod owners;
mod queue;
mod release;
mod reply;
mod restore;
#[cfg(feature = "raft")]
mod service;
mod session;
mod slab;
mod snapshot;
mod table;
mod text;
mod views;

#[cfg(feature = "raft")]
pub use client::{
    AnyLeader, LockGuard, LockLost, LockRequest, LockSession, Locks, LocksRequest, SessionOptions,
    SessionOwner, WithLockError,
};
pub use command::{
    AcquireAllRequest, AcquireRequest, Command, DecodeError, Expiry, Mode, ReleaseRequest,
    StampedCommand, Wait,
};
pub use limits::{
    CYCLE_REPORTED_MAX, DEADLOCKS_KEPT, HOLDERS_REPORTED_MAX, LOCK_DELAY_MAX,
    LOCKS_PER_REQUEST_MAX, LOCKS_PER_SESSION_MAX, PAGE_LOCKS_MAX, SESSIONS_MAX, TTL_DEFAULT,
    TTL_MAX, TTL_MIN, WAIT_EDGES_MAX, WAITERS_PER_LOCK_MAX,
};
#[cfg(feature = "raft")]
pub use machine::{LockEvents, LockMachine};
pub use names::{LockName, NAME_BYTES_MAX, NameError, Owner, OwnerId, RequestId, SessionId};
pub use numbers::{AttemptId, ClusterTime, FencingToken};
pub use reply::{
    DeadlockInfo, DowngradeOutcome, Event, Grant, Limit, Outcome, ReleaseOutcome, Reply,
    Resolution, SessionView,
};
#[cfg(feature = "raft")]
pub use service::{
    AcquireError, Courier, LockService, ReleaseError, ServiceError, SessionError, SessionInfo,
    Withdrawal,
};
pub use snapshot::SnapshotError;
pub use table::LockTable;
pub use views::{Found, HolderInfo, LockInfo, LockPage, WaitEdge, WaiterInfo};

/// The README's examples are tests too.
#[cfg(all(doctest, feature = "raft"))]
#[doc = include_str!("../README.md")]
struct Readme;
