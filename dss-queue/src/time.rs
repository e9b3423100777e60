//! The cluster's time: wall-clock milliseconds that a leader stamps on commands.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in the cluster's time, in milliseconds since 1970-01-01T00:00:00Z.
///
/// It is the wall clock of whichever node leads, made monotone by the queue: where a new leader's
/// clock is behind, time stands still until the clock has caught up.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct UnixMillis(u64);

impl UnixMillis {
    /// The beginning of 1970.
    pub const ZERO: Self = Self(0);

    /// The point this many milliseconds after the beginning of 1970.
    #[must_use]
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the beginning of 1970.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for UnixMillis {
    type Output = Self;

    /// Fractions of a millisecond are rounded up, so that nothing ends before it should; the end
    /// of time is not passed.
    fn add(self, span: Duration) -> Self {
        let millis = span.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
