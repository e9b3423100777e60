//! The numbers of the lock table, each a type of its own.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Proves a grant to whatever the lock protects.
///
/// One counter serves all locks and rises with every grant, through releases, restarts and
/// snapshots. A resource that remembers the greatest token it has seen, and refuses smaller ones,
/// is safe from a holder that was paused past the end of its session.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The token with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The token of the grant after this one.
    #[must_use]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The time of the cluster: milliseconds for which it has had a leader.
///
/// Monotone, the same on every replica, unrelated to any wall clock, and standing still while
/// there is no leader, so that an outage lengthens waits and never cuts one short.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ClusterTime(u64);

impl ClusterTime {
    /// Before the first command.
    pub const ZERO: Self = Self(0);

    /// The time this many milliseconds after [`ClusterTime::ZERO`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// The milliseconds since [`ClusterTime::ZERO`].
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time `span` after this one, in whole milliseconds rounded up: a wait is never cut short.
    #[must_use]
    pub(crate) fn after(self, span: Duration) -> Self {
        let millis = span.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// The time `span` after this one, in whole milliseconds rounded down: what a clock shows.
    #[must_use]
    pub fn plus_elapsed(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Names one acquire command, so that whoever sent it can take it back, knowing nothing else of it.
///
/// Unique among all commands: the replicated service uses the leader's term and a counter.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct AttemptId {
    /// The term of the leader that sent it, or whatever else tells senders apart.
    pub term: u64,
    /// Counts what that sender sent.
    pub sequence: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_round_up_and_clocks_down() {
        let start = ClusterTime::from_millis(5);
        let span = Duration::from_micros(1_500);
        assert_eq!(start.after(span), ClusterTime::from_millis(7));
        assert_eq!(start.plus_elapsed(span), ClusterTime::from_millis(6));
    }

    #[test]
    fn the_far_future_saturates() {
        let start = ClusterTime::from_millis(5);
        assert_eq!(start.after(Duration::MAX).as_millis(), u64::MAX);
        assert_eq!(start.plus_elapsed(Duration::MAX).as_millis(), u64::MAX);
    }
}
