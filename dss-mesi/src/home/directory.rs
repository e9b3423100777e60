//! What a home knows about its lines.

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use super::Home;
use super::holds::Holds;
use super::request::Request;
use super::transaction::{Job, Transaction};
use crate::version::{RequestId, Seq};
use crate::view::{NodeId, Timestamp};

/// One line. A line that nobody holds or wants has no entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Entry {
    /// Who may hold it. A node that is here may hold nothing; one that is not surely does not.
    pub(super) holds: Holds,
    /// The one holder may have written it. Invariant: then there is exactly one.
    pub(super) exclusive: bool,
    pub(super) busy: Option<Box<Transaction>>,
    /// At most one of each node.
    pub(super) queue: VecDeque<Request>,
}

/// By what a node holds a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    pub(super) request: RequestId,
    /// The grant, or the recall that downgraded it.
    pub(super) seq: Seq,
}

impl Entry {
    /// Whether `node` holds the line exclusively, by this grant.
    pub(super) fn is_owner(&self, node: NodeId, grant: Seq) -> bool {
        self.exclusive && self.holds.get(node).is_some_and(|hold| hold.seq == grant)
    }

    /// The owner has been downgraded by this recall.
    pub(super) fn share(&mut self, node: NodeId, recall: Seq) {
        if let Some(hold) = self.holds.get_mut(node) {
            hold.seq = recall;
        }
        self.exclusive = false;
    }

    pub(super) fn release(&mut self, node: NodeId) {
        self.holds.remove(node);
        self.exclusive = self.exclusive && !self.holds.is_empty();
    }
}

impl Home {
    pub(super) fn handle_hint(&mut self, from: NodeId, key: &Bytes, seq: Seq) {
        let Some(entry) = self.directory.get_mut(key) else { return };
        if entry.busy.is_none() && entry.holds.get(from).is_some_and(|hold| hold.seq == seq) {
            entry.release(from);
            self.tidy(key);
        }
    }

    /// Forgets the line if there is nothing to know about it. The sequence is the home's, not the
    /// line's, so nothing starts anew.
    pub(super) fn tidy(&mut self, key: &Bytes) {
        let idle = self.directory.get(key).is_some_and(|entry| {
            entry.holds.is_empty() && entry.busy.is_none() && entry.queue.is_empty()
        });
        if idle {
            self.directory.remove(key);
        }
    }

    /// Where there are too many lines, recalls one that nothing is under way with.
    pub(super) fn bound_directory(&mut self, now: Timestamp) {
        if self.directory.len() <= self.config.directory_max {
            return;
        }
        let after = (Bound::Excluded(self.cursor.clone()), Bound::Unbounded);
        let idle = |(_, entry): &(&Bytes, &Entry)| entry.busy.is_none() && entry.queue.is_empty();
        let victim = self.directory.range(after).find(idle).map(|(key, _)| key.clone());
        let victim =
            victim.or_else(|| self.directory.iter().find(idle).map(|(key, _)| key.clone()));
        let Some(key) = victim else { return };
        self.cursor = key.clone();
        let recalled = self.directory[&key].holds.nodes().collect();
        let seq = self.next_seq();
        self.begin(now, &key, Transaction::recalling(seq, Job::Forget, recalled, false));
    }
}
