//! What a log is made of.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{LogId, LogIndex, NodeId, Term};

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its term and index.
    pub id: LogId,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing: what a new leader commits first, so that it may commit what came before
    /// (section 5.4.2) and answer reads (section 8).
    Blank,
    /// A command for the state machine, opaque to Raft.
    Command(Bytes),
}

impl Entry {
    /// What the entry weighs in limits: its payload and a fixed share for the rest.
    #[must_use]
    pub fn weight(&self) -> usize {
        /// Term, index, kind and length of an entry, as the log and the wire carry them.
        const OVERHEAD: usize = 24;
        OVERHEAD
            + match &self.payload {
                Payload::Blank => 0,
                Payload::Command(command) => command.len(),
            }
    }
}

/// A run of consecutive entries that shares its memory: cloning it copies no entry.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Entries {
    chunk: Option<Arc<[Entry]>>,
}

impl Entries {
    /// No entries.
    pub const EMPTY: Self = Self { chunk: None };

    /// The last entry's index, where there is one.
    #[must_use]
    pub fn last_index(&self) -> Option<LogIndex> {
        self.last().map(|entry| entry.id.index)
    }

    /// The first entry's index, where there is one.
    #[must_use]
    pub fn first_index(&self) -> Option<LogIndex> {
        self.first().map(|entry| entry.id.index)
    }

    /// Whether indexes are consecutive and terms never fall: what every slice of a log is.
    #[must_use]
    pub fn is_consecutive(&self) -> bool {
        self.windows(2).all(|pair| {
            pair[1].id.index == pair[0].id.index.next() && pair[1].id.term >= pair[0].id.term
        })
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self { chunk: (!entries.is_empty()).then(|| entries.into()) }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.chunk.as_deref().unwrap_or(&[])
    }
}

impl std::fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deref().fmt(formatter)
    }
}

/// Who belongs to a group. Every voter has one vote; learners receive the log and have none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Configuration {
    /// The members whose majority elects and commits.
    pub voters: BTreeSet<NodeId>,
    /// The members that only follow.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// A group of these voters and no learners.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), learners: BTreeSet::new() }
    }

    /// How many voters make a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Every member but `node`.
    pub fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.voters.union(&self.learners).copied().filter(move |member| *member != node)
    }
}

/// Term and vote: what must be durable before either is acted on (figure 2, persistent state).
///
/// One record, written in one step: a term without its vote would let a node vote twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// The state machine after every entry up to `last` (section 7), and the configuration there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry that it replaces.
    pub last: LogId,
    /// The members at that entry.
    pub configuration: Configuration,
    /// The state machine's own bytes.
    pub data: Bytes,
}
