//! What may happen, and how often.

use crate::core::PlantedBug;
use crate::entry::Configuration;
use crate::types::{NodeId, Term};

/// The bounds of an exploration.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// How many nodes there are, numbered from 1.
    pub(super) nodes: u64,
    /// The first of them, which are voters at first.
    pub(super) voters: u64,
    /// Nobody campaigns for a later term.
    pub(super) last_term: Term,
    pub(super) budget: Budget,
    /// Whom a leader is asked for, once, where the budget has a change.
    pub(super) target: Configuration,
    pub(super) planted_bug: Option<PlantedBug>,
}

/// How often what may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
    pub(super) commands: u8,
    pub(super) crashes: u8,
    pub(super) duplicates: u8,
    /// How often a leader's time passes: it repeats itself, and tells of commits.
    pub(super) ticks: u8,
    pub(super) changes: u8,
}

impl Plan {
    /// Three voters, so many terms and commands, and nothing that goes wrong.
    pub(super) fn new(terms: u64, commands: u8) -> Self {
        Self {
            nodes: 3,
            voters: 3,
            last_term: Term::new(terms),
            budget: Budget { commands, ..Budget::default() },
            target: Configuration::default(),
            planted_bug: None,
        }
    }

    pub(super) fn crashes(mut self, crashes: u8) -> Self {
        self.budget.crashes = crashes;
        self
    }

    pub(super) fn duplicates(mut self, duplicates: u8) -> Self {
        self.budget.duplicates = duplicates;
        self
    }

    pub(super) fn ticks(mut self, ticks: u8) -> Self {
        self.budget.ticks = ticks;
        self
    }

    /// The first `from` nodes are voters at first, and somebody asks for those in `to`.
    pub(super) fn change(mut self, from: u64, to: &[u64]) -> Self {
        self.voters = from;
        self.budget.changes = 1;
        self.target = Configuration::of_voters(to.iter().copied().map(NodeId::new));
        self
    }

    pub(super) fn bug(mut self, bug: PlantedBug) -> Self {
        self.planted_bug = Some(bug);
        self
    }

    /// The members at first.
    pub(super) fn members(&self) -> Configuration {
        Configuration::of_voters((1..=self.voters).map(NodeId::new))
    }
}
