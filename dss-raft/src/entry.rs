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

/// A run of consecutive entries that shares its memory: cloning it, or cutting a part out of it,
/// copies no entry.
#[derive(Clone, Default)]
pub struct Entries {
    chunk: Option<Arc<[Entry]>>,
    // The part of the chunk that this is. Invariant: start <= end <= the chunk's length.
    start: usize,
    end: usize,
}

impl Entries {
    /// No entries.
    pub const EMPTY: Self = Self { chunk: None, start: 0, end: 0 };

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

    /// The entries at these positions (counted from 0, not log indexes), sharing the memory; what
    /// lies outside is left out.
    #[must_use]
    pub fn slice(&self, positions: std::ops::Range<usize>) -> Self {
        let length = self.len();
        let (start, end) = (positions.start.min(length), positions.end.min(length));
        if start >= end {
            return Self::EMPTY;
        }
        Self { chunk: self.chunk.clone(), start: self.start + start, end: self.start + end }
    }

    /// Whether indexes are consecutive and terms never fall: what every slice of a log is.
    #[must_use]
    pub fn is_consecutive(&self) -> bool {
        self.windows(2).all(|pair| {
            let (one, other) = (pair[0].id, pair[1].id);
            // Not `next`, which overflows at the end of all indexes.
            one.index < other.index && other.index.since(one.index) == 1 && one.term <= other.term
        })
    }

    /// The entries of `staged`, which is left empty and keeps its memory.
    pub(crate) fn drained_from(staged: &mut Vec<Entry>) -> Self {
        let end = staged.len();
        Self { chunk: (end > 0).then(|| staged.drain(..).collect()), start: 0, end }
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(mut entries: Vec<Entry>) -> Self {
        Self::drained_from(&mut entries)
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        self.chunk.as_deref().map_or(&[], |chunk| &chunk[self.start..self.end])
    }
}

// Two runs are equal if their entries are, wherever they lie.
impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Entries {}

impl std::hash::Hash for Entries {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
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

    /// Whether `node` has a vote.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node)
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
    /// How whoever keeps the state machine's bytes finds them: never looked into here.
    pub data: Bytes,
}
