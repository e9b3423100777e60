//! What a Raft group promises to membership and no more: terms, a committed log, reads that are
//! confirmed, and elections as early as the voters' clocks allow.

use super::random::Random;
use crate::membership::{ViewCommand, ViewTable};
use crate::view::View;

/// The group. Time is real time, in microseconds.
pub(super) struct Raft {
    pub(super) leader: usize,
    pub(super) term: u64,
    /// Whether the leader's first own entry is committed: before, it confirms no read.
    pub(super) established: bool,
    /// Whether the leader is cut off from the others, who will elect another.
    pub(super) cut: bool,
    /// The last time at which a majority heard of a leader and a read was confirmed by it.
    pub(super) confirmed_at: u64,
    log: Vec<ViewCommand>,
    /// In the leader's log and not committed.
    pending: Vec<ViewCommand>,
    table: ViewTable,
}

impl Raft {
    pub(super) fn new() -> Self {
        Self {
            leader: 0,
            term: 1,
            established: false,
            cut: false,
            confirmed_at: 0,
            log: Vec::new(),
            pending: Vec::new(),
            table: ViewTable::new(),
        }
    }

    pub(super) fn leads(&self, node: usize, term: u64) -> bool {
        (self.leader, self.term) == (node, term)
    }

    /// Whether a round that reaches the voters now is answered by a majority.
    pub(super) fn confirms(&self, node: usize, term: u64) -> bool {
        self.leads(node, term) && self.established && !self.cut
    }

    /// Appends to the log of the leader; nothing where `node` is not the leader of `term`.
    pub(super) fn propose(&mut self, node: usize, term: u64, command: ViewCommand) {
        if self.leads(node, term) {
            self.pending.push(command);
        }
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

    /// The view that is in force in truth.
    pub(super) fn view(&self) -> &View {
        self.table.view()
    }
}
