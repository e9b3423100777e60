//! What events are about.

/// What an event is about. Of each there is one newest state, and nothing else is ever sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// What every node says of itself, as far as it can be reached.
    Nodes,
    /// The locks that are held.
    Locks,
    /// Who waits for whom.
    Waits,
    /// Which deadlocks were prevented.
    Deadlocks,
    /// Which node owns which part of the ring.
    Ring,
    /// How much each topic holds.
    Queues,
    /// How the nodes hold the lines of the keys that the watcher has named.
    Lines,
    /// Which nodes were stopped or cut off on purpose.
    Demo,
}

impl Subject {
    /// What the event is called.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Locks => "locks",
            Self::Waits => "waits",
            Self::Deadlocks => "deadlocks",
            Self::Ring => "ring",
            Self::Queues => "queues",
            Self::Lines => "lines",
            Self::Demo => "demo",
        }
    }
}
