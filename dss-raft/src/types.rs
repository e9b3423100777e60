//! The numbers of Raft, each a type of its own, so that none is taken for another.

use std::fmt;
use std::time::Duration;

/// A member of the cluster. Chosen by the user, unique, never reused for another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

/// One of the Raft groups that a node hosts; groups share transport and log, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u32);

/// A term of office (Raft paper, section 5.1). [`Term::ZERO`] is before every election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(u64);

/// A position in the log. [`LogIndex::ZERO`] is before the first entry, which stands at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIndex(u64);

/// The place of a [`Persist`](crate::Persist) in the one sequence of a group's writes.
///
/// Completing `n` completes every write up to `n`. It rises for as long as a [`Raft`](crate::Raft)
/// lives and starts anew with the next one: it is never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PersistSeq(u64);

/// Names one proposal between [`Raft::propose`](crate::Raft::propose) and its fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(u64);

/// Names one read between [`Raft::read`](crate::Raft::read) and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

/// Tells one log from another of the same node: a node whose storage was lost comes back with
/// another one. Random, drawn by the node when its log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogIdentity(u64);

macro_rules! number {
    ($name:ident, $inner:ty) => {
        impl $name {
            #[doc = concat!("The `", stringify!($name), "` with this number.")]
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number!(NodeId, u64);
number!(GroupId, u32);
number!(Term, u64);
number!(LogIndex, u64);
number!(PersistSeq, u64);
number!(ProposalId, u64);
number!(ReadId, u64);
number!(LogIdentity, u64);

impl Term {
    /// Before the first election.
    pub const ZERO: Self = Self(0);

    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LogIdentity {
    /// Of a log that has none, or that is not durable yet: it contradicts nothing.
    pub const UNKNOWN: Self = Self(0);
}

impl LogIndex {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The index before this one; [`LogIndex::ZERO`] stays where it is.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many entries lie after `earlier`, up to and including this one; 0 where none do.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl PersistSeq {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// The write after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Term and index together: what identifies an entry (Log Matching, section 5.3).
///
/// Ordered as section 5.4.1 compares logs: by term, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// The term in which a leader created the entry.
    pub term: Term,
    /// Where it stands.
    pub index: LogIndex,
}

impl LogId {
    /// Before the first entry.
    pub const ZERO: Self = Self { term: Term::ZERO, index: LogIndex::ZERO };

    /// The entry of `term` at `index`.
    #[must_use]
    pub const fn new(term: Term, index: LogIndex) -> Self {
        Self { term, index }
    }
}

/// A point in time: how long after an origin of the driver's choosing, monotonic.
///
/// Only differences mean anything; timestamps of two nodes, or of two lives of one, have nothing
/// to do with each other. Kept in nanoseconds, since several are compared for every message; the
/// last point is five centuries after the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// The point this long after the origin.
    #[must_use]
    pub const fn since_origin(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The first point after this one that lies a multiple of `interval` after the origin: what
    /// happens at such points happens together, whoever does it.
    #[must_use]
    pub(crate) fn next_multiple_of(self, interval: Duration) -> Self {
        // Not zero in any valid configuration.
        let interval = nanos(interval).max(1);
        Self((self.0 / interval + 1).saturating_mul(interval))
    }
}

/// The nanoseconds of a span; of one that is longer than five centuries, those of that.
const fn nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos() as u64)
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}
