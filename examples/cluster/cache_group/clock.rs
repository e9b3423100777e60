//! The time of leases: the same clock as everybody's, as the cores count it.

use dss_mesi::Timestamp;
use tokio::time::Instant;

/// Timestamps since an origin of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(self) -> Timestamp {
        Timestamp::since_origin(self.origin.elapsed())
    }

    /// When `timestamp` is.
    pub(super) fn instant(self, timestamp: Timestamp) -> Instant {
        self.origin + timestamp.since(Timestamp::ZERO)
    }
}
