//! How often something took how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exposition::{Family, Labels};

/// Durations, counted by their sizes.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Upper bounds, rising.
    bounds_micros: &'static [u64],
    /// How many were up to each bound and above the one before; the last is the rest.
    buckets: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Nothing counted yet, with these upper bounds.
    pub(crate) fn new(bounds_micros: &'static [u64]) -> Self {
        let buckets = (0..=bounds_micros.len()).map(|_| AtomicU64::default()).collect();
        Self { bounds_micros, buckets, sum_micros: AtomicU64::default() }
    }

    /// For writes to a log: from one that the disk's own memory takes, to a disk that hangs.
    pub(crate) fn of_writes() -> Self {
        Self::new(&[
            50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000,
            2_500_000,
        ])
    }

    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds_micros.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Writes it as one series of a family.
    pub(crate) fn write(&self, family: &mut Family<'_>, labels: &Labels<'_>) {
        let buckets: Vec<_> =
            self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed));
        family.histogram(labels, self.bounds_micros, &buckets, sum);
    }
}
