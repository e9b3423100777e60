//! Bugs that a test can switch on, to prove that the checks find them. Without the feature
//! `testing` every question about them is the constant `false`.

use super::Raft;

/// A bug that can be switched on, to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(
    not(feature = "testing"),
    allow(dead_code, unreachable_pub, reason = "only tests name bugs")
)]
pub enum PlantedBug {
    /// A leader commits an entry of an older term once it is on a majority (section 5.4.2 forbids
    /// it, figure 8 shows why).
    CommitOlderTermByCounting,
    /// A leader commits what it has itself, as if half of two voters were enough.
    QuorumOfHalf,
    /// A voter grants its vote to a candidate whose log is behind its own (section 5.4.1).
    VoteWithoutComparingLogs,
    /// Term and vote are acted on, and not stored.
    VoteNotPersisted,
    /// A follower acknowledges entries that its disk may still lose.
    AcknowledgeBeforeDurable,
    /// A follower keeps its own entries where the leader's contradict them.
    KeepConflictingEntries,
    /// A follower drops everything behind what it is sent, even where it matches: a late message
    /// takes back what was acknowledged (section 5.3).
    TruncateOnMatch,
    /// A follower commits as far as the leader has, not only as far as its log matches.
    CommitWithoutMatch,
    /// A snapshot carries the configuration of the one before.
    SnapshotWithoutConfiguration,
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutRound,
    /// A leader trusts its lease for twice as long as it lasts.
    LeaseDoubled,
    /// Messages of lower terms are obeyed.
    ObeyLowerTerms,
    /// A pre-vote makes the receiver wait anew, as if it had heard from a leader.
    PreVoteTouchesTimers,
    /// Forwarded reads are named alike, life after life.
    ReadNamesReused,
    /// Two configurations decide one after the other, without a joint one between them.
    ChangeWithoutJoint,
    /// A truncated configuration stays in force.
    KeepTruncatedConfiguration,
    /// A member that lost its storage is trusted like before.
    TrustAnyLog,
    /// What was applied before a restart is applied once more.
    ApplyTwiceAfterRestart,
}

impl Raft {
    /// Whether this bug is switched on.
    #[cfg(feature = "testing")]
    pub(super) fn has(&self, bug: PlantedBug) -> bool {
        self.planted_bug == Some(bug)
    }

    /// Whether this bug is switched on: never.
    #[cfg(not(feature = "testing"))]
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(super) const fn has(&self, _: PlantedBug) -> bool {
        false
    }
}
