//! A deterministic simulation of a cluster.

/// A bug that can be switched on, to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A leader commits an entry of an older term once it is on a majority (section 5.4.2 forbids
    /// it, figure 8 shows why).
    CommitOlderTermByCounting,
    /// A voter grants its vote to a candidate whose log is behind its own (section 5.4.1).
    VoteWithoutComparingLogs,
    /// A follower acknowledges entries that its disk may still lose.
    AcknowledgeBeforeDurable,
}
