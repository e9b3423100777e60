//! How large a checked cluster is, and what may happen in it.

use std::time::Duration;

use crate::config::{CacheConfig, WritePolicy};
use crate::flaw::Flaw;

/// What befalls a cluster, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    None,
    /// Some node stops; then the others enter a view without it.
    Crash,
    /// Some node is cut off and goes on; when its lease is over, the others enter a view without
    /// it; then it may be heard again.
    Partition,
    /// The last node joins, and becomes the home of the line.
    Join,
}

/// A configuration of the checker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) nodes: u8,
    pub(super) write_back: bool,
    pub(super) writes: u8,
    pub(super) reads: u8,
    pub(super) evictions: u8,
    /// Messages that are lost, and that are delivered twice.
    pub(super) losses: u8,
    pub(super) duplicates: u8,
    /// How often a node may repeat what is not answered, answered or not.
    pub(super) repeats: u8,
    pub(super) fault: Fault,
    pub(super) flaw: Option<Flaw>,
}

impl Plan {
    /// Two writes, two reads, one eviction; no fault.
    pub(super) const fn new(nodes: u8, write_back: bool) -> Self {
        Self {
            nodes,
            write_back,
            writes: 2,
            reads: 2,
            evictions: 1,
            losses: 0,
            duplicates: 0,
            repeats: 0,
            fault: Fault::None,
            flaw: None,
        }
    }

    pub(super) const fn clients(mut self, writes: u8, reads: u8, evictions: u8) -> Self {
        self.writes = writes;
        self.reads = reads;
        self.evictions = evictions;
        self
    }

    pub(super) const fn losing(mut self, losses: u8, duplicates: u8, repeats: u8) -> Self {
        self.losses = losses;
        self.duplicates = duplicates;
        self.repeats = repeats;
        self
    }

    pub(super) const fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    pub(super) const fn flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self
    }

    /// Nothing ends by time: time passes only where the checker lets something be repeated.
    pub(super) fn config(&self) -> CacheConfig {
        let policy = if self.write_back {
            WritePolicy::WriteBack { flush: Duration::MAX }
        } else {
            WritePolicy::WriteThrough
        };
        let mut config = CacheConfig::new()
            .policy(policy)
            .retry(Duration::from_secs(1), Duration::from_secs(1))
            .patience(Duration::MAX)
            .operation_timeout(Duration::MAX);
        config.flaw = self.flaw;
        config
    }
}
