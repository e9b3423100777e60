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

/// The knobs of one node's cache and home; a `CacheConfig` that exists is valid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheConfig {
    pub(crate) policy: WritePolicy,
    pub(crate) entries_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) value_bytes_max: usize,
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

    /// How many lines the cache holds, and how many bytes of keys and values; past either the
    /// line that was not used for longest goes. Defaults: 100,000 and 256 MiB.
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
