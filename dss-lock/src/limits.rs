//! What bounds the table's memory.
//!
//! Constants and not configuration, since replicas that disagreed on one would diverge.

use std::time::Duration;

/// The time to live of a session that is opened by an acquire without one.
pub const TTL_DEFAULT: Duration = Duration::from_secs(30);

/// The shortest time to live; a shorter one is raised to it.
pub const TTL_MIN: Duration = Duration::from_millis(1);

/// The longest time to live; a longer one is cut to it. A day is as long as a lock should outlive
/// its holder, and what other lock services allow.
pub const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest lock delay; a longer one is cut to it. As in Chubby: enough for what a dead holder
/// has sent to arrive, and not long enough to hurt much where somebody asks for too much.
pub const LOCK_DELAY_MAX: Duration = Duration::from_secs(60);

/// How many sessions there may be at once. At about 1 KiB each a gigabyte.
pub const SESSIONS_MAX: usize = 1_000_000;

/// How many locks the owners of one session may hold and wait for together.
pub const LOCKS_PER_SESSION_MAX: usize = 10_000;

/// How many locks one request may name.
pub const LOCKS_PER_REQUEST_MAX: usize = 64;

/// How many requests may wait for one lock: ten times what a busy lock of a large fleet sees.
pub const WAITERS_PER_LOCK_MAX: usize = 100_000;

/// How many sessions a refusal names as holders: enough to see who is in the way.
pub const HOLDERS_REPORTED_MAX: usize = 16;

/// How many sessions of a cycle are named, from the requester's on: a longer cycle is understood
/// by no reader, and one of a hundred thousand would not fit into an answer.
pub const CYCLE_REPORTED_MAX: usize = 64;

/// How many deadlocks are remembered.
pub const DEADLOCKS_KEPT: usize = 128;

/// How many locks one page lists at most.
pub const PAGE_LOCKS_MAX: usize = 1_000;

/// How many edges a picture of who waits for whom has at most: more than anybody looks at.
pub const WAIT_EDGES_MAX: usize = 10_000;

/// How many answers are kept per owner. An owner is one sequential task, so one would do if
/// requests never overtook each other; the rest is for repeats that come late.
pub(crate) const RECORDS_PER_OWNER_MAX: usize = 16;

/// For how many owners of a session answers are kept after they have come to hold and wait for
/// nothing. The owner that has been idle longest is forgotten first.
pub(crate) const IDLE_OWNERS_MAX: u32 = 256;

/// How many acquires that were answered by one wait or one grant can still be taken back one by
/// one: repeats of one request that are under way at the same time.
pub(crate) const CLAIMS_MAX: usize = 8;

/// How many holds of sessions that have ended one command releases: what a command costs stays
/// below a millisecond, however much a session held.
pub(crate) const RELEASES_PER_COMMAND: usize = 1_000;

/// An owner with more locks than this is looked for in the wait-for graph at each of its waits;
/// with fewer it is first seen whether any of them is waited for at all.
pub(crate) const HOLDS_LOOKED_AT: u32 = 32;
