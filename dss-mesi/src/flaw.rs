//! Mistakes that the simulation's tests make on purpose, to see that it finds them.

/// One rule of the protocol that a core built for tests can be told to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// A grant is installed though a newer recall was answered meanwhile.
    NoRecallFloor,
    /// A grant is installed whatever request it answers.
    AnyGrantAccepted,
    /// A write-back buffer is dropped when it is sent, not when it is stored.
    WriteBackDroppedEarly,
    /// A line is requested while its write-back is not confirmed.
    GetDuringWriteBack,
    /// A recall makes a pending write-through disappear.
    WriteThroughCancelled,
    /// A recall is obeyed even where the line was granted after it.
    StaleRecallObeyed,
    /// A home grants before the recalled data is stored.
    GrantBeforeStore,
    /// A home serves a new view before all members have surrendered.
    NoSurrenderWait,
    /// A cache keeps lines whose home has moved.
    LineKeptWhenHomeMoved,
    /// Messages of another view are taken.
    NoEpochCheck,
    /// The data of a downgraded line is repeated as if the line had been given up.
    DowngradeRepeatedAsPut,
    /// An exclusive line is taken for clean: its holder is not asked.
    ExclusiveTakenForClean,
    /// A home says that data is stored before it is.
    PutAckedEarly,
    /// A home does not compare the ids of requests: it serves old ones too.
    RequestIdsIgnored,
    /// The membership goes on without a node whose lease is not over.
    #[cfg(test)]
    NoLeaseWait,
    /// What is read and written past the lease is answered all the same.
    NoLeaseCheck,
    /// Main memory takes whatever comes last.
    #[cfg(test)]
    MemoryWithoutVersions,
    /// Main memory has no fence.
    #[cfg(test)]
    MemoryWithoutFence,
}
