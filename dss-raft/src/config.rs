//! How a group is tuned.

use std::time::Duration;

use crate::types::NodeId;

/// The knobs of one group on one node; a `Config` that exists is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) node: NodeId,
    pub(crate) seed: u64,
    pub(crate) election_timeout: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) append_bytes_max: usize,
    pub(crate) in_flight_messages_max: usize,
    pub(crate) uncommitted_bytes_max: usize,
    pub(crate) compact_after_entries: u64,
    pub(crate) compact_after_bytes: usize,
}

impl Config {
    /// The defaults for `node`.
    ///
    /// `seed` decides what is random: election timeouts, and how reads are named. It must differ
    /// between nodes and between the starts of one (take it from the operating system): an answer
    /// on its way to an earlier life of the node must not be taken for one to this.
    #[must_use]
    pub fn new(node: NodeId, seed: u64) -> Self {
        Self {
            node,
            seed,
            election_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_millis(100),
            append_bytes_max: 1 << 20,
            in_flight_messages_max: 16,
            uncommitted_bytes_max: 64 << 20,
            compact_after_entries: 20_000,
            compact_after_bytes: 32 << 20,
        }
    }

    /// How long a follower waits for its leader before it campaigns, drawn anew each time from one
    /// to two times this (section 5.2), and how often a leader says that it is there.
    ///
    /// Defaults: 1 s and 100 ms. Shorter fails over faster and takes a slow disk or a busy machine
    /// for a dead one sooner.
    ///
    /// # Errors
    ///
    /// Where either is zero, or the election timeout is not at least three heartbeats, or it is
    /// more than a day.
    pub fn timing(
        mut self,
        election_timeout: Duration,
        heartbeat_interval: Duration,
    ) -> Result<Self, ConfigError> {
        /// Nobody waits longer for a failover; multiples of a timeout do not overflow.
        const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
        let shortest = heartbeat_interval.saturating_mul(3);
        if heartbeat_interval.is_zero() || !(shortest..=LONGEST).contains(&election_timeout) {
            return Err(ConfigError::Timing);
        }
        self.election_timeout = election_timeout;
        self.heartbeat_interval = heartbeat_interval;
        Ok(self)
    }

    /// After how many applied entries, or how many bytes of them, a snapshot is taken and the log
    /// cut. Defaults: 20,000 entries and 32 MiB. Both at least 1.
    #[must_use]
    pub fn compaction(mut self, after_entries: u64, after_bytes: usize) -> Self {
        self.compact_after_entries = after_entries.max(1);
        self.compact_after_bytes = after_bytes.max(1);
        self
    }
}

/// What a [`Config`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Elections would start before a heartbeat could arrive.
    #[error("the election timeout must be from three heartbeat intervals to a day, neither zero")]
    Timing,
}
