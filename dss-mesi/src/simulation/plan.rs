//! What a seed makes of a run.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::random::Random;
use crate::config::{CacheConfig, WritePolicy};
use crate::flaw::Flaw;

/// How long a lease lasts for the one that grants it, in microseconds.
pub(super) const LEASE: u64 = 300_000;

/// How much earlier it ends for the one that holds it.
pub(super) const MARGIN: u64 = 10_000;

/// The dice of one run. Times in microseconds, chances in per mille.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) keys: usize,
    /// How many operations one key sees at most: with the losses, what the checker's bit set holds.
    pub(super) operations_max: usize,
    pub(super) lossy: bool,
    pub(super) config: CacheConfig,
    /// How long faults happen.
    pub(super) trouble: u64,
    pub(super) pause_between_operations: u64,
    pub(super) delay: u64,
    pub(super) loss: u64,
    pub(super) duplication: u64,
    pub(super) memory_delay: u64,
    pub(super) memory_failure: u64,
    pub(super) fault_every: u64,
    /// Weights of crash, pause, partition between nodes, partition from membership.
    pub(super) faults: [u64; 4],
    pub(super) pause_mid_step: u64,
}

impl Plan {
    pub(super) fn new(random: &mut Random, flaw: Option<Flaw>) -> Self {
        let lossy = random.chance(500);
        let policy = if lossy {
            WritePolicy::WriteBack { flush: Duration::from_millis(random.between(5, 300)) }
        } else {
            WritePolicy::WriteThrough
        };
        let keys = random.below(3) + 1;
        let entries = NonZeroUsize::new(random.below(keys + 1) + 1).unwrap();
        let directory = NonZeroUsize::new(random.below(4) + 1).unwrap();
        let write_backs = NonZeroUsize::new(random.below(4) + 1).unwrap();
        let mut config = CacheConfig::new()
            .policy(policy)
            .capacity(entries, NonZeroUsize::new(random.below(30) + 20).unwrap())
            .directory_max(directory)
            .write_backs_max(write_backs)
            .retry(Duration::from_millis(20), Duration::from_millis(80))
            .patience(Duration::from_millis(400))
            .operation_timeout(Duration::from_millis(1_500));
        config.flaw = flaw;
        let calm = random.chance(300);
        let mut sometimes = |per_mille, high| {
            if random.chance(per_mille) { random.between(0, high) } else { 0 }
        };
        let (loss, duplication) = (sometimes(600, 200), sometimes(600, 300));
        let (memory_failure, pause_mid_step) = (sometimes(500, 200), sometimes(300, 10));
        let faults = if calm {
            [0; 4]
        } else {
            [sometimes(600, 5), sometimes(600, 5), sometimes(600, 5), sometimes(600, 5)]
        };
        Self {
            nodes: random.below(4) + 2,
            keys,
            operations_max: 90,
            lossy,
            config,
            trouble: random.between(500_000, 2_500_000),
            pause_between_operations: random.between(2_000, 40_000),
            delay: random.between(500, 15_000),
            loss,
            duplication,
            memory_delay: random.between(200, 10_000),
            memory_failure,
            fault_every: random.between(50_000, 600_000),
            faults,
            pause_mid_step,
        }
    }

    /// The same dice for a cluster of three to nine nodes and thousands of keys, that hold hundreds
    /// of lines each and are busy.
    pub(super) fn wide(random: &mut Random) -> Self {
        let plan = Self::new(random, None);
        let keys = random.below(3_000) + 2_000;
        let some = |count| NonZeroUsize::new(count).unwrap();
        let config = plan
            .config
            .capacity(some(random.below(keys / 4) + 100), some(random.below(8_000) + 2_000))
            .directory_max(some(random.below(keys) + 200))
            .write_backs_max(some(random.below(60) + 4));
        Self {
            nodes: random.below(7) + 3,
            keys,
            operations_max: 60,
            config,
            trouble: random.between(800_000, 1_500_000),
            pause_between_operations: random.between(800, 2_500),
            fault_every: random.between(40_000, 150_000),
            ..plan
        }
    }

    /// Whether there are too many keys to look at all of them after every step.
    pub(super) const fn is_wide(&self) -> bool {
        self.keys > 100
    }
}
