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
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) uncommitted_bytes_max: usize,
    pub(crate) compact_after_entries: u64,
    pub(crate) compact_after_bytes: usize,
    pub(crate) priority: Priority,
    /// By how much clocks may differ; `None` where reads are always confirmed.
    pub(crate) lease_drift_permille: Option<u32>,
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
            in_flight_bytes_max: 8 << 20,
            uncommitted_bytes_max: 64 << 20,
            compact_after_entries: 20_000,
            compact_after_bytes: 32 << 20,
            priority: Priority::Normal,
            lease_drift_permille: None,
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

    /// How much is sent to a follower ahead of its answers: messages, bytes in them, and bytes in
    /// one. Defaults: 16 messages, 8 MiB, 1 MiB. Each at least 1; one entry may exceed the bytes.
    ///
    /// More hides longer round trips and costs more memory on the way; a follower that is down costs
    /// none, since nothing is sent ahead to one that does not answer.
    #[must_use]
    pub fn in_flight(mut self, messages: usize, bytes: usize, append_bytes: usize) -> Self {
        self.in_flight_messages_max = messages.max(1);
        self.in_flight_bytes_max = bytes.max(1);
        self.append_bytes_max = append_bytes.max(1);
        self
    }

    /// How many bytes of proposals may wait to be committed before the leader answers
    /// [`Rejected::Overloaded`](crate::Rejected::Overloaded). Default: 64 MiB. One proposal may
    /// exceed it.
    #[must_use]
    pub fn uncommitted_bytes(mut self, bytes: usize) -> Self {
        self.uncommitted_bytes_max = bytes;
        self
    }

    /// Who should lead, where several could. Default: [`Priority::Normal`].
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Lets a leader answer reads without asking anybody, for as long as nobody else can have been
    /// elected (dissertation 6.4.1). Off by default: it trusts every member's clock.
    ///
    /// `drift_permille` bounds by how many thousandths any two members' clocks may run at different
    /// speeds, from 0 to 499. Where they differ by more, reads may be stale.
    ///
    /// # Errors
    ///
    /// Where the bound leaves no lease.
    pub fn lease_reads(mut self, drift_permille: u32) -> Result<Self, ConfigError> {
        if drift_permille >= 500 {
            return Err(ConfigError::Drift);
        }
        self.lease_drift_permille = Some(drift_permille);
        Ok(self)
    }

    /// How long a confirmed round keeps others from being elected, by this node's clock.
    ///
    /// Members that answered the round support nobody else for an election timeout of theirs. Where
    /// clocks drift by `d`, theirs may take that for `1 - d` of the time on this one's.
    pub(crate) fn lease(&self) -> Option<Duration> {
        let drift = self.lease_drift_permille?;
        Some(self.election_timeout * 1000u32.saturating_sub(2 * drift) / 1000)
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

/// Who should lead, where several could.
///
/// A node of higher priority campaigns sooner, and keeps nodes of lower priority whose logs are no
/// better from being elected in its place. It does not depose a leader: elections cost, and a log
/// that is behind cannot win one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// Leads where nobody else will.
    Low,
    /// As every other.
    #[default]
    Normal,
    /// Leads wherever it can.
    High,
}

impl Priority {
    /// All of them, ascending.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// Its place among them.
    pub(crate) const fn level(self) -> u8 {
        self as u8
    }

    pub(crate) fn of_level(level: u8) -> Option<Self> {
        Self::ALL.get(usize::from(level)).copied()
    }

    /// How long a node of this priority waits for its leader, at least and at most, in quarters of
    /// the election timeout: never less than the timeout, within which nobody would vote for it.
    pub(crate) const fn patience_quarters(self) -> (u32, u32) {
        match self {
            Self::High => (4, 6),
            Self::Normal => (4, 8),
            Self::Low => (8, 12),
        }
    }
}

/// What a [`Config`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Elections would start before a heartbeat could arrive.
    #[error("the election timeout must be from three heartbeat intervals to a day, neither zero")]
    Timing,
    /// Clocks that differ so much leave no time in which a lease is sure.
    #[error("clocks may differ by less than 500 thousandths")]
    Drift,
}
