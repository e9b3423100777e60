//! The time, exactly, and cheaply.

use std::time::Duration;

use tokio::time::Instant;

use crate::view::Timestamp;

/// How late the cheap clock may be: one tick of the slowest kernels.
#[cfg(target_os = "linux")]
const TICK: Duration = Duration::from_millis(10);

/// Time since a node was started.
#[derive(Debug)]
pub(super) struct Clock {
    /// Read before the other, and less the tick by which the cheap clock may be late: what that has
    /// gone since then is never too little.
    #[cfg(target_os = "linux")]
    coarse_origin: Duration,
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            coarse_origin: coarse().saturating_sub(TICK),
            origin: Instant::now(),
        }
    }

    pub(super) fn timestamp(&self, at: Instant) -> Timestamp {
        Timestamp::since_origin(at.saturating_duration_since(self.origin))
    }

    pub(super) fn instant(&self, at: Timestamp) -> Instant {
        self.origin + at.since(Timestamp::ZERO)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.timestamp(Instant::now())
    }

    /// Not before now, and hardly after it: for what must not happen too late.
    ///
    /// The kernel advances this clock whether or not this process gets to run. It knows nothing of
    /// a time that tests have stopped.
    #[inline]
    pub(super) fn now_at_latest(&self) -> Timestamp {
        #[cfg(target_os = "linux")]
        {
            Timestamp::since_origin(coarse().saturating_sub(self.coarse_origin))
        }
        #[cfg(not(target_os = "linux"))]
        {
            self.now()
        }
    }
}

#[cfg(target_os = "linux")]
fn coarse() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // It starts at zero and only grows.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_clock_is_never_behind_the_exact_one() {
        let clock = Clock::start();
        let begun = clock.now();
        while clock.now().since(begun) < Duration::from_millis(30) {
            let (exact, cheap) = (clock.now(), clock.now_at_latest());
            assert!(cheap >= exact, "{cheap:?} is before {exact:?}");
        }
    }
}
