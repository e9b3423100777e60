//! Which keys are asked for how often.

/// How many draws are made beforehand, so that drawing is not measured.
pub(crate) const DRAWS: usize = 1 << 20;

/// Numbers below `count`, each as often as Zipf's law says of its rank, with exponent 0.99. Which
/// rank a number has is without a pattern.
pub(crate) fn draws(count: u32) -> Vec<u32> {
    let mut cumulated = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=count {
        sum += f64::from(rank).powf(-0.99);
        cumulated.push(sum);
    }
    let mut random = Random(1);
    let mut shuffled: Vec<u32> = (0..count).collect();
    for place in (1..shuffled.len()).rev() {
        let other = random.below(place as u64 + 1);
        shuffled.swap(place, usize::try_from(other).expect("it is below a length"));
    }
    let draw = |_| {
        let at = random.fraction() * sum;
        let rank = cumulated.partition_point(|before| *before < at);
        shuffled[rank.min(shuffled.len() - 1)]
    };
    (0..DRAWS).map(draw).collect()
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn fraction(&mut self) -> f64 {
        let high = u32::try_from(self.next() >> 32).expect("32 bits are left");
        f64::from(high) / f64::from(u32::MAX)
    }
}
