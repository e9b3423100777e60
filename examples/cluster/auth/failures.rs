//! How often wrong tokens are answered with more than "not so fast".

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// In this time a bucket that is empty becomes full.
const PERIOD: Duration = Duration::from_secs(60);
/// How many addresses are remembered. Who has more of them meets the limit for all.
const ADDRESSES_MAX: usize = 10_000;

/// A bucket for each address, and one for all.
#[derive(Debug)]
pub(super) struct Failures {
    all: Bucket,
    each: BTreeMap<IpAddr, Bucket>,
    all_max: u32,
    each_max: u32,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(max: u32, now: Instant) -> Self {
        Self { left: f64::from(max), at: now }
    }

    fn fill(&mut self, max: u32, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let more = f64::from(max) * elapsed / PERIOD.as_secs_f64();
        self.left = (self.left + more).min(f64::from(max));
        self.at = now;
    }

    fn take(&mut self) -> bool {
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }
}

impl Failures {
    pub(super) fn new(each_max: u32, all_max: u32, now: Instant) -> Self {
        Self { all: Bucket::full(all_max, now), each: BTreeMap::new(), all_max, each_max }
    }

    /// One more from this address: whether it is answered as such.
    pub(super) fn count(&mut self, from: IpAddr, now: Instant) -> bool {
        let Self { all_max, each_max, .. } = *self;
        self.all.fill(all_max, now);
        if !self.each.contains_key(&from) && self.each.len() >= ADDRESSES_MAX {
            // Those whose bucket is full again have done nothing for a while.
            self.each.retain(|_, bucket| {
                bucket.fill(each_max, now);
                bucket.left < f64::from(each_max)
            });
            if self.each.len() >= ADDRESSES_MAX {
                return self.all.take();
            }
        }
        let bucket = self.each.entry(from).or_insert_with(|| Bucket::full(each_max, now));
        bucket.fill(each_max, now);
        bucket.take() && self.all.take()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(number))
    }

    #[test]
    fn failures_are_limited_by_address_and_in_all_and_time_heals() {
        let start = Instant::now();
        let mut failures = Failures::new(2, 5, start);
        let mut count = |from, at| failures.count(address(from), start + Duration::from_secs(at));
        assert!(count(1, 0) && count(1, 0) && !count(1, 0));
        assert!(count(2, 0) && count(2, 0) && !count(2, 0), "another address has its own");
        assert!(count(3, 0) && !count(3, 0), "five in all");
        assert!(!count(1, 29), "half of two in half a minute");
        assert!(count(1, 31) && !count(1, 31));
        assert!(count(1, 200) && count(1, 200) && !count(1, 200), "no more than two are saved up");
    }

    #[test]
    fn addresses_without_number_take_no_memory_without_bound() {
        let start = Instant::now();
        let mut failures = Failures::new(1, 1_000_000, start);
        let most = u32::try_from(ADDRESSES_MAX).unwrap();
        for number in 0..2 * most {
            assert!(failures.count(address(number), start));
        }
        assert_eq!(failures.each.len(), ADDRESSES_MAX);
        failures.count(address(3 * most), start + PERIOD);
        assert_eq!(failures.each.len(), 1, "the others have made up for theirs");
    }
}
