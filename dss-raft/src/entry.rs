//! What a log is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{LogId, LogIdentity, LogIndex, NodeId, Term};

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
    /// Who the members are from here on (dissertation 4.1): in force as soon as it is in a log,
    /// committed or not.
    Configuration(Box<Configuration>),
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
                Payload::Configuration(configuration) => configuration.weight(),
            }
    }
}

/// A run of entries that shares its memory: cloning it, or cutting a part out of it, copies no
/// entry.
#[derive(Clone, Default)]
pub struct Entries {
    run: Option<Arc<Run>>,
    // The part of the run that this is. Invariant: start <= end <= the run's length.
    start: usize,
    end: usize,
}

/// Entries, and what every node asks about them, found out once.
struct Run {
    entries: RunEntries,
    weight: usize,
    is_consecutive: bool,
    has_configuration: bool,
}

/// Where proposals come one by one, every run is of one entry: it takes no memory of its own.
enum RunEntries {
    One([Entry; 1]),
    Many(Vec<Entry>),
}

impl Deref for RunEntries {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        match self {
            Self::One(entry) => entry,
            Self::Many(entries) => entries,
        }
    }
}

impl Run {
    fn new(entries: RunEntries) -> Self {
        let (mut weight, mut has_configuration) = (0, false);
        for entry in &*entries {
            weight += entry.weight();
            has_configuration |= matches!(entry.payload, Payload::Configuration(_));
        }
        let is_consecutive = is_consecutive(&entries);
        Self { entries, weight, is_consecutive, has_configuration }
    }
}

fn is_consecutive(entries: &[Entry]) -> bool {
    entries.windows(2).all(|pair| {
        let (one, other) = (pair[0].id, pair[1].id);
        // Not `next`, which overflows at the end of all indexes.
        other.index.since(one.index) == 1 && one.term <= other.term
    })
}

impl Entries {
    /// No entries.
    pub const EMPTY: Self = Self { run: None, start: 0, end: 0 };

    /// The last entry's index, where there is one.
    #[must_use]
    #[inline]
    pub fn last_index(&self) -> Option<LogIndex> {
        self.last().map(|entry| entry.id.index)
    }

    /// The first entry's index, where there is one.
    #[must_use]
    #[inline]
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
        Self { run: self.run.clone(), start: self.start + start, end: self.start + end }
    }

    /// Whether indexes are consecutive and terms never fall: what every slice of a log is. At no
    /// cost, where they are.
    #[must_use]
    #[inline]
    pub fn is_consecutive(&self) -> bool {
        self.run.as_ref().is_none_or(|run| run.is_consecutive || is_consecutive(self))
    }

    /// What they weigh together; at no cost, where they are a whole run.
    #[inline]
    pub(crate) fn weight(&self) -> usize {
        match &self.run {
            Some(run) if self.len() == run.entries.len() => run.weight,
            _ => self.iter().map(Entry::weight).sum(),
        }
    }

    /// Whether one of them may be a configuration.
    pub(crate) fn may_hold_configuration(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.has_configuration)
    }

    /// The entries of `staged`, which is left empty.
    pub(crate) fn drained_from(staged: &mut Vec<Entry>) -> Self {
        if staged.len() == 1 {
            return staged.pop().map(Self::from).unwrap_or_default();
        }
        // A few entries do not take the memory of many with them: the next ones find it again.
        if 2 * staged.len() < staged.capacity() {
            let mut few = Vec::with_capacity(staged.len());
            few.append(staged);
            few.into()
        } else {
            std::mem::take(staged).into()
        }
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        let end = entries.len();
        let run = (end > 0).then(|| Arc::new(Run::new(RunEntries::Many(entries))));
        Self { run, start: 0, end }
    }
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        let run = Run::new(RunEntries::One([entry]));
        Self { run: Some(Arc::new(run)), start: 0, end: 1 }
    }
}

impl Deref for Entries {
    type Target = [Entry];

    #[inline]
    fn deref(&self) -> &[Entry] {
        self.run.as_deref().map_or(&[], |run| &run.entries[self.start..self.end])
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
///
/// While voters change, there are two sets of them, and whatever needs a majority needs one of each
/// (joint consensus, section 6 and dissertation 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Configuration {
    /// The members whose majority elects and commits.
    pub voters: BTreeSet<NodeId>,
    /// The voters of the configuration that is being left, whose majority is needed too; empty
    /// where there is no such configuration.
    pub outgoing: BTreeSet<NodeId>,
    /// The members that only follow. One that is in `outgoing` too still votes there.
    pub learners: BTreeSet<NodeId>,
    /// Whose log is whose: a member that shows up with another log than it is listed with has lost
    /// its storage, and with it its promises. Written by leaders; what a caller puts here is
    /// ignored.
    pub logs: BTreeMap<NodeId, LogIdentity>,
}

impl Configuration {
    /// A group of these voters and no learners.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Self { voters: voters.into_iter().collect(), ..Self::default() }
    }

    /// The same with these learners.
    #[must_use]
    pub fn with_learners(mut self, learners: impl IntoIterator<Item = NodeId>) -> Self {
        self.learners = learners.into_iter().collect();
        self
    }

    /// Whether `node` has a vote, in either of the sets.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether `node` is a voter or a learner.
    #[must_use]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.contains(&node)
    }

    /// Whether one set of voters is being replaced by another.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// How many of the voters make a majority. In a joint configuration as many of the outgoing
    /// ones as make a majority of them are needed too: see [`is_quorum`](Self::is_quorum).
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether the nodes for which `supports` holds can decide: a majority of the voters, and of
    /// the outgoing ones where there are any.
    #[must_use]
    pub fn is_quorum(&self, supports: impl Fn(NodeId) -> bool) -> bool {
        let has_majority = |voters: &BTreeSet<NodeId>| {
            voters.iter().filter(|voter| supports(**voter)).count() > voters.len() / 2
        };
        has_majority(&self.voters) && (self.outgoing.is_empty() || has_majority(&self.outgoing))
    }

    /// Every member but `node`, each once.
    pub fn others(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let learners = self.learners.iter().filter(|learner| !self.is_voter(**learner));
        let voters = self.voters.union(&self.outgoing);
        voters.chain(learners).copied().filter(move |member| *member != node)
    }

    /// Whether the members are the same, in the same parts.
    #[must_use]
    pub fn has_same_members(&self, other: &Self) -> bool {
        self.voters == other.voters
            && self.outgoing == other.outgoing
            && self.learners == other.learners
    }

    /// Whether `node` may be who writes the log `log`, as far as is known here.
    pub(crate) fn recognises(&self, node: NodeId, log: LogIdentity) -> bool {
        log == LogIdentity::UNKNOWN || self.logs.get(&node).is_none_or(|listed| *listed == log)
    }

    /// About how many bytes it takes in a log.
    pub(crate) fn weight(&self) -> usize {
        /// A node's number, and the identity of its log, as the log carries them at most.
        const NUMBER: usize = 10;
        let members = self.voters.len() + self.outgoing.len() + self.learners.len();
        NUMBER * (4 + members + 2 * self.logs.len())
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
    /// Which log this is: drawn when it began, kept for as long as the storage is. By it the others
    /// notice that a member has lost its storage.
    pub log: LogIdentity,
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
