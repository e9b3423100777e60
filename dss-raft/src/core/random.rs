//! The randomness of the core: a seed and arithmetic.

use std::time::Duration;

/// Steele, Lea and Flood's SplitMix64: plenty for spreading election timeouts, and a few
/// instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound`, exclusive; 0 where the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of 128 bits has 64")
    }

    /// A span from `from` to `to`, exclusive.
    pub(crate) fn span(&mut self, from: Duration, to: Duration) -> Duration {
        let nanos = to.saturating_sub(from).as_nanos();
        from + Duration::from_nanos(self.below(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}
