//! The time that a node stamps on commands.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::time::UnixMillis;

/// The wall clock at its start, carried on by the monotonic one: it neither jumps nor goes back
/// while the node runs, and stands where a test has paused time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    wall: UnixMillis,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the time of commands begins as wall-clock time")]
    pub(super) fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), wall: UnixMillis::ZERO + wall }
    }

    pub(super) fn now(&self) -> UnixMillis {
        let elapsed = self.started.elapsed().as_millis();
        UnixMillis::new(self.wall.get().saturating_add(elapsed.try_into().unwrap_or(u64::MAX)))
    }

    /// When [`now`](Self::now) will be `at`; `None` where that is out of reach.
    pub(super) fn instant(&self, at: UnixMillis) -> Option<Instant> {
        self.started.checked_add(at.since(self.wall))
    }
}
