//! How a cache is tuned.

use std::num::NonZeroUsize;
use std::time::Duration;

#[cfg(test)]
use crate::flaw::Flaw;
use crate::timer::Backoff;

/// When a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WritePolicy {
    /// Once main memory has it: nothing that was acknowledged is ever lost.
    #[default]
    WriteThrough,
    /// At once. What only a crashed node had is lost: at most the writes of the last `flush`, and
    /// only such as no other node has seen. Per line, not a cut across lines.
    WriteBack {
        /// How long a written line may go unwritten to main memory.
        flush: Duration,
    },
}

/// A part of a node has room for at least this many entries: of few, the wrong ones go.
#[cfg(feature = "tokio")]
const PART_ENTRIES_MIN: usize = 512;

/// A part of a node has room for at least this many of the longest values.
#[cfg(feature = "tokio")]
const PART_VALUES_MIN: usize = 8;

/// So many parts that two of as many threads as there are processors seldom meet, and so few that
/// what every hit reads of them stays in the processors' caches.
#[cfg(feature = "tokio")]
const PARTS_PER_PROCESSOR: usize = 4;

/// Every part surrenders by itself when the view changes.
#[cfg(feature = "tokio")]
const PARTS_MAX: usize = 64;

/// The knobs of one node's cache and home; a `CacheConfig` that exists is valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheConfig {
    pub(crate) policy: WritePolicy,
    pub(crate) entries_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) shards: Option<usize>,
    pub(crate) hash_seed: u64,
    pub(crate) write_backs_max: usize,
    pub(crate) directory_max: usize,
    pub(crate) backoff: Backoff,
    pub(crate) patience: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) memory_timeout: Duration,
    #[cfg(test)]
    pub(crate) flaw: Option<Flaw>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            policy: WritePolicy::WriteThrough,
            entries_max: 100_000,
            bytes_max: 256 << 20,
            value_bytes_max: 1 << 20,
            time_to_live: None,
            shards: None,
            hash_seed: 0,
            write_backs_max: 1_024,
            directory_max: 1_000_000,
            backoff: Backoff {
                first: Duration::from_millis(50),
                longest: Duration::from_millis(800),
            },
            patience: Duration::from_secs(3),
            operation_timeout: Duration::from_secs(5),
            memory_timeout: Duration::from_secs(2),
            #[cfg(test)]
            flaw: None,
        }
    }
}

impl CacheConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// When a write returns. Default: [`WritePolicy::WriteThrough`].
    #[must_use]
    pub fn policy(mut self, policy: WritePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How many lines the cache holds, and how many bytes of keys and values; past either a line
    /// goes that was not used lately. Defaults: 100,000 and 256 MiB.
    #[must_use]
    pub fn capacity(mut self, entries_max: NonZeroUsize, bytes_max: NonZeroUsize) -> Self {
        self.entries_max = entries_max.get();
        self.bytes_max = bytes_max.get();
        self
    }

    /// How long a value may be. Default: 1 MiB.
    #[must_use]
    pub fn value_bytes_max(mut self, value_bytes_max: usize) -> Self {
        self.value_bytes_max = value_bytes_max;
        self
    }

    /// For how long a line is held at most before it is dropped, and loaded anew when it is wanted:
    /// so that what others have changed in main memory, past all caches, is seen after that time.
    /// Between caches a line is never stale, with or without it. Default: no limit.
    ///
    /// A line goes up to an eighth of the time early, and a moment late where the node is busy.
    /// Zero counts as no limit.
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = (!time_to_live.is_zero()).then_some(time_to_live);
        self
    }

    /// In how many parts a node is divided, by the hash of keys, so that operations on different
    /// keys seldom wait for each other; what a node may hold is divided among them. Default: four
    /// for each processor, if that leaves each part 512 entries and room for eight of the longest
    /// values; never more than 64.
    #[must_use]
    pub fn shards(mut self, shards: NonZeroUsize) -> Self {
        self.shards = Some(shards.get());
        self
    }

    /// How many lines may wait to be written back before misses have to wait too: what bounds the
    /// memory of a cache that writes faster than main memory. Default: 1,024.
    #[must_use]
    pub fn write_backs_max(mut self, write_backs_max: NonZeroUsize) -> Self {
        self.write_backs_max = write_backs_max.get();
        self
    }

    /// How many lines this node's home keeps track of; past it, lines are recalled and forgotten.
    /// Default: 1,000,000. Should exceed the sum of what all caches hold of this home.
    #[must_use]
    pub fn directory_max(mut self, directory_max: NonZeroUsize) -> Self {
        self.directory_max = directory_max.get();
        self
    }

    /// In how many parts a node with this configuration is divided.
    #[cfg(feature = "tokio")]
    pub(crate) fn parts(&self) -> usize {
        let by_entries = self.entries_max / PART_ENTRIES_MIN;
        let by_bytes = self.bytes_max / self.value_bytes_max.max(1) / PART_VALUES_MIN;
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let useful = processors.saturating_mul(PARTS_PER_PROCESSOR);
        let wanted = self.shards.unwrap_or_else(|| by_entries.min(by_bytes).min(useful));
        wanted.clamp(1, PARTS_MAX)
    }

    /// What one of `parts` parts of the node may hold.
    #[cfg(feature = "tokio")]
    pub(crate) fn part(mut self, parts: usize, hash_seed: u64) -> Self {
        self.entries_max = self.entries_max.div_ceil(parts);
        self.bytes_max = self.bytes_max.div_ceil(parts);
        self.write_backs_max = self.write_backs_max.div_ceil(parts);
        self.directory_max = self.directory_max.div_ceil(parts);
        self.hash_seed = hash_seed;
        self
    }

    /// After how long an unanswered message is repeated for the first time, and the longest pause
    /// between repetitions. Defaults: 50 ms and 800 ms. Neither is taken below 1 ms.
    #[must_use]
    pub fn retry(mut self, first: Duration, longest: Duration) -> Self {
        let first = first.max(Duration::from_millis(1));
        self.backoff = Backoff { first, longest: longest.max(first) };
        self
    }

    /// How long an operation waits for a view and a lease before it fails with
    /// [`CacheError::NoView`](crate::CacheError::NoView) or
    /// [`CacheError::LeaseExpired`](crate::CacheError::LeaseExpired). Default: 3 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long an operation may take in all before it fails with
    /// [`CacheError::Unavailable`](crate::CacheError::Unavailable) or
    /// [`CacheError::Indeterminate`](crate::CacheError::Indeterminate). Default: 5 s.
    #[must_use]
    pub fn operation_timeout(mut self, operation_timeout: Duration) -> Self {
        self.operation_timeout = operation_timeout;
        self
    }

    /// How long one call of main memory may take before its outcome counts as unknown and it is
    /// repeated. Default: 2 s.
    #[must_use]
    pub fn memory_timeout(mut self, memory_timeout: Duration) -> Self {
        self.memory_timeout = memory_timeout;
        self
    }
}
