//! Which configuration is in force, and which were before it.

use std::collections::VecDeque;

use crate::entry::{Configuration, Entry, Payload};
use crate::types::{LogIdentity, LogIndex, NodeId};

/// The configurations of the log, each with the index from which on it is in force.
///
/// The newest one in the log is in force, committed or not (dissertation 4.1). Those before it are
/// kept, so that a truncation brings them back, and so that a snapshot holds the one of its own
/// last entry.
///
/// Invariants: never empty; indexes rise; the first one is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    own: Member,
    history: VecDeque<(LogIndex, Configuration)>,
    /// Whether the configuration in force gives `own` a vote: asked for with every message, and
    /// looked up only when the configuration changes.
    is_voter: bool,
}

/// A node, and which log it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) node: NodeId,
    pub(super) log: LogIdentity,
}

impl Membership {
    /// As `own` sees it.
    pub(super) fn new(own: Member, since: LogIndex, configuration: Configuration) -> Self {
        let history = VecDeque::from([(since, configuration)]);
        let mut membership = Self { own, history, is_voter: false };
        membership.look_up();
        membership
    }

    fn look_up(&mut self) {
        let Member { node, log } = self.own;
        let current = self.current();
        self.is_voter = current.is_voter(node) && current.recognises(node, log);
    }

    /// Replaces all of it by what a snapshot says.
    pub(super) fn restart(&mut self, since: LogIndex, configuration: Configuration) {
        *self = Self::new(self.own, since, configuration);
    }

    /// Whether this node has a vote, and has the log that it has it with.
    pub(super) fn is_voter(&self) -> bool {
        self.is_voter
    }

    fn newest(&self) -> &(LogIndex, Configuration) {
        self.history.back().expect("there is always a configuration")
    }

    /// The configuration in force.
    pub(super) fn current(&self) -> &Configuration {
        &self.newest().1
    }

    /// From which entry on it is in force.
    pub(super) fn since(&self) -> LogIndex {
        self.newest().0
    }

    /// The configuration that is in force after the entry at `index`.
    pub(super) fn at(&self, index: LogIndex) -> &Configuration {
        let found = self.history.iter().rev().find(|(since, _)| *since <= index);
        found.map_or_else(|| &self.history[0].1, |(_, configuration)| configuration)
    }

    /// Whether `node` has had a vote in a configuration that was in force at `index` or later.
    pub(super) fn was_voter_since(&self, index: LogIndex, node: NodeId) -> bool {
        self.since() > index && self.at(index).is_voter(node)
            || (self.history.iter())
                .any(|(since, configuration)| *since > index && configuration.is_voter(node))
    }

    /// Takes note of entries that were added to the log. Says whether one was a configuration.
    pub(super) fn append(&mut self, entries: &[Entry]) -> bool {
        let before = self.history.len();
        for entry in entries {
            if let Payload::Configuration(configuration) = &entry.payload {
                self.history.push_back((entry.id.index, (**configuration).clone()));
            }
        }
        let changes = self.history.len() > before;
        if changes {
            self.look_up();
        }
        changes
    }

    /// Takes note that the entries from `index` on are gone.
    pub(super) fn truncate_from(&mut self, index: LogIndex) {
        while self.history.len() > 1 && self.since() >= index {
            self.history.pop_back();
        }
        self.look_up();
    }

    /// Forgets what was in force only before the entry at `index`.
    pub(super) fn compact_to(&mut self, index: LogIndex) {
        while self.history.get(1).is_some_and(|(since, _)| *since <= index) {
            self.history.pop_front();
        }
    }
}

impl Configuration {
    /// The configuration in which both these voters and those of `target` decide.
    pub(super) fn joint_with(&self, target: &Self) -> Self {
        Self { outgoing: self.voters.clone(), ..target.clone() }
    }

    /// What a joint configuration leads to.
    pub(super) fn left(&self) -> Self {
        let mut left = Self { outgoing: std::collections::BTreeSet::new(), ..self.clone() };
        left.logs.retain(|node, _| left.voters.contains(node) || left.learners.contains(node));
        left
    }

    /// Whether every majority of these voters has a member in common with every majority of
    /// `target`'s, as it is when one voter comes or goes (dissertation 4.1): then the change takes
    /// no joint configuration.
    pub(super) fn overlaps(&self, target: &Self) -> bool {
        self.voters.symmetric_difference(&target.voters).count() <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LogId, Term};

    fn members(voters: &[u64]) -> Configuration {
        Configuration::of_voters(voters.iter().copied().map(NodeId::new))
    }

    fn membership(voters: &[u64]) -> Membership {
        let own = Member { node: NodeId::new(3), log: LogIdentity::UNKNOWN };
        Membership::new(own, LogIndex::ZERO, members(voters))
    }

    fn entry(index: u64, voters: &[u64]) -> Entry {
        let payload = Payload::Configuration(Box::new(members(voters)));
        Entry { id: LogId::new(Term::new(1), LogIndex::new(index)), payload }
    }

    #[test]
    fn the_newest_in_the_log_is_in_force_and_a_truncation_brings_back_the_one_before() {
        let mut membership = membership(&[1]);
        assert!(membership.append(&[entry(3, &[1, 2]), entry(5, &[1, 2, 3])]));
        assert_eq!(membership.current(), &members(&[1, 2, 3]));
        assert!(membership.is_voter());
        assert_eq!(membership.at(LogIndex::new(4)), &members(&[1, 2]));
        assert_eq!(membership.at(LogIndex::new(2)), &members(&[1]));
        membership.truncate_from(LogIndex::new(5));
        assert!(!membership.is_voter());
        assert_eq!(
            (membership.since(), membership.current()),
            (LogIndex::new(3), &members(&[1, 2]))
        );
        membership.compact_to(LogIndex::new(4));
        membership.truncate_from(LogIndex::ZERO);
        assert_eq!(membership.current(), &members(&[1, 2]));
    }

    #[test]
    fn compaction_keeps_what_is_in_force_where_it_ends() {
        let mut membership = membership(&[1]);
        membership.append(&[entry(3, &[1, 2]), entry(5, &[1, 2, 3])]);
        membership.compact_to(LogIndex::new(4));
        assert_eq!(membership.at(LogIndex::new(4)), &members(&[1, 2]));
        assert_eq!(membership.current(), &members(&[1, 2, 3]));
        membership.compact_to(LogIndex::new(5));
        assert_eq!(membership.at(LogIndex::new(5)), &members(&[1, 2, 3]));
    }
}
