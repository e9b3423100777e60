//! The time that something takes.

use std::time::{Duration, Instant};

/// Measures the time on the wall or, where `DSS_CPU_TIME` is set and the kernel tells, the time that
/// this thread had a processor.
pub(crate) enum Stopwatch {
    Wall(Instant),
    Processor(Duration),
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        let processor = std::env::var_os("DSS_CPU_TIME").and_then(|_| processor());
        processor.map_or_else(|| Self::Wall(Instant::now()), Self::Processor)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        match self {
            Self::Wall(begun) => begun.elapsed(),
            Self::Processor(begun) => processor().unwrap_or_default().saturating_sub(*begun),
        }
    }
}

fn processor() -> Option<Duration> {
    // The scheduler brings the count up to date when the thread gives up its processor.
    std::thread::yield_now();
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(statistics.split(' ').next()?.parse().ok()?))
}
