//! What a Raft group promises to membership and no more: terms, a committed log, reads that are
//! confirmed, and elections as early as the voters' clocks allow.

use super::random::Random;
use crate::membership::{ViewCommand, ViewTable};
use crate::view::View;

/// The group as it is in truth. Time is real time, in microseconds.
pub(super) struct Raft {
    pub(super) leader: usize,
    pub(super) term: u64,
    /// Whether the leader's first own entry is committed: before, it confirms no read.
    established: bool,
    /// Whether the leader is cut off from the others, who will elect another.
    pub(super) cut: bool,
    /// The last time at which a majority heard of a leader and a read was confirmed by it.
    confirmed_at: u64,
    log: Vec<ViewCommand>,
    /// In the leader's log and not committed.
    pending: Vec<ViewCommand>,
    table: ViewTable,
    /// Whether removals are taken for the leader's own, whoever had proposed them.
    any_removal_counts: bool,
}

impl Raft {
    pub(super) fn new(any_removal_counts: bool) -> Self {
        Self {
            leader: 0,
            term: 1,
            established: false,
            cut: false,
            confirmed_at: 0,
            log: Vec::new(),
            pending: Vec::new(),
            table: ViewTable::new(),
            any_removal_counts,
        }
    }

    pub(super) fn leads(&self, node: usize, term: u64) -> bool {
        (self.leader, self.term) == (node, term)
    }

    /// The voters hear of a read at this time. Returns up to which index the reader must apply, if
    /// they confirm that their leader leads.
    pub(super) fn confirm(&mut self, now: u64) -> Option<usize> {
        if !self.established || self.cut {
            return None;
        }
        self.confirmed_at = now;
        Some(self.log.len())
    }

    /// Appends to the leader's log.
    pub(super) fn append(&mut self, mut command: ViewCommand) {
        if let (ViewCommand::Remove { term, .. }, true) = (&mut command, self.any_removal_counts) {
            *term = self.term;
        }
        self.pending.push(command);
    }

    /// The voters answer: everything in the leader's log commits.
    pub(super) fn commit(&mut self) {
        if !self.cut {
            self.established = true;
            for command in self.pending.drain(..) {
                self.table.apply(command);
                self.log.push(command);
            }
        }
    }

    /// When a majority can elect another leader, if nothing more is heard of this one and clocks
    /// run faster by this much.
    pub(super) fn electable_at(&self, election_timeout: u64, drift_permille: u64) -> u64 {
        self.confirmed_at + election_timeout * 1_000 / (1_000 + drift_permille) + 1
    }

    /// Another leader, or the same again. Its log may have some of what was not committed.
    pub(super) fn change(&mut self, leader: usize, random: &mut Random) {
        let survive = random.below(self.pending.len() as u64 + 1);
        self.pending.truncate(usize::try_from(survive).unwrap());
        self.leader = leader;
        self.term += 1;
        self.established = false;
        self.cut = false;
    }

    pub(super) fn log(&self) -> &[ViewCommand] {
        &self.log
    }

    /// The view in force.
    pub(super) fn view(&self) -> &View {
        self.table.view()
    }

    /// The term in office.
    pub(super) fn office(&self) -> u64 {
        self.table.office()
    }
}
