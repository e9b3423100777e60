//! Choices that follow from a seed, and clocks that run at their own pace.

use std::time::Duration;

use crate::view::Timestamp;

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of `nodes` nodes.
    pub(super) fn node(&mut self, nodes: usize) -> usize {
        usize::try_from(self.below(nodes as u64)).unwrap()
    }

    /// True in this many of a hundred cases.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time on the way, in microseconds: mostly short, sometimes longer than a lease.
    pub(super) fn delay(&mut self) -> u64 {
        let bound = if self.chance(5) { 1_500_000 } else { 30_000 };
        self.below(bound)
    }
}

/// A clock with its own origin and pace.
pub(super) struct Clock {
    origin_micros: u64,
    rate_permille: u64,
}

impl Clock {
    /// A clock that runs at one of the extremes, or right.
    pub(super) fn new(drift_permille: u64, random: &mut Random) -> Self {
        let rate_permille = match random.below(3) {
            0 => 1_000 - drift_permille,
            1 => 1_000,
            _ => 1_000 + drift_permille,
        };
        Self { origin_micros: random.below(1_000_000_000), rate_permille }
    }

    /// What it shows at this real time, in microseconds.
    pub(super) fn at(&self, real: u64) -> Timestamp {
        let nanos = self.origin_micros * 1_000 + real * self.rate_permille;
        Timestamp::since_origin(Duration::from_nanos(nanos))
    }

    /// The same machine, restarted: another origin.
    pub(super) fn restart(&mut self, random: &mut Random) {
        self.origin_micros = random.below(1_000_000_000);
    }
}
