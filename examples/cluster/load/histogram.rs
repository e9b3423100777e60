//! Latencies, kept as counts in buckets.

use std::time::Duration;

/// Buckets for each power of two: a latency is known to about 3 percent.
const STEPS_BITS: u32 = 5;
const STEPS: usize = 1 << STEPS_BITS;
/// Powers of two of microseconds that are told apart: up to 19 hours.
const POWERS: usize = 31;

/// How often each latency was seen.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    total: Duration,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; (POWERS + 1) * STEPS],
            count: 0,
            total: Duration::ZERO,
            longest: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket(micros).min(self.counts.len() - 1);
        self.counts[bucket] += 1;
        self.count += 1;
        self.total += latency;
        self.longest = self.longest.max(latency);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn mean(&self) -> Duration {
        match u32::try_from(self.count) {
            Ok(0) => Duration::ZERO,
            Ok(count) => self.total / count,
            Err(_) => self.total.div_f64(self.count as f64),
        }
    }

    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The latency that this many of a thousand did not exceed.
    pub(super) fn permille(&self, permille: u64) -> Duration {
        let rank = (self.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper_bound(bucket)).min(self.longest);
            }
        }
        self.longest
    }
}

/// Below two times `STEPS` every number has a bucket of its own; above, each power of two has
/// `STEPS` of them.
fn bucket(micros: u64) -> usize {
    let power = micros.checked_ilog2().unwrap_or(0).saturating_sub(STEPS_BITS);
    let step = usize::try_from(micros >> power).unwrap_or(usize::MAX);
    power as usize * STEPS + step
}

/// The largest number in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let power = (bucket / STEPS).saturating_sub(1);
    let step = (bucket - power * STEPS) as u64;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_in_its_bucket_to_about_3_percent() {
        let mut last = 0;
        for micros in (0..10_000).chain((14..40).map(|power| (1 << power) + 12_345)) {
            let bucket = bucket(micros);
            assert!(bucket >= last, "{micros}");
            last = bucket;
            let bound = upper_bound(bucket);
            assert!(bound >= micros && bound - micros <= micros / 32, "{micros} up to {bound}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.permille(500), Duration::ZERO);
        let mut other = Histogram::default();
        for millis in 1..=1000 {
            let half = if millis % 2 == 0 { &mut histogram } else { &mut other };
            half.record(Duration::from_millis(millis));
        }
        histogram.merge(&other);
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.longest(), Duration::from_secs(1));
        assert_eq!(histogram.mean(), Duration::from_micros(500_500));
        for permille in [500, 900, 990, 999] {
            let expected = Duration::from_millis(permille);
            let found = histogram.permille(permille);
            assert!(found >= expected && found <= expected.mul_f64(1.04), "{permille}: {found:?}");
        }
        assert_eq!(histogram.permille(1000), Duration::from_secs(1));
    }

    #[test]
    fn what_is_too_long_to_tell_apart_is_still_counted() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX / 2);
        assert_eq!(
            histogram.permille(500),
            Duration::from_micros(upper_bound(histogram.counts.len() - 1))
        );
    }
}
