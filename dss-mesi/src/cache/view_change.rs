//! What a cache does when the view changes, its lease is renewed, or its node leaves.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::dropped::Cause;
use super::operation::{Answer, Operation, OperationId};
use super::{Cache, Timer};
use crate::error::CacheError;
use crate::flaw::Flaw;
use crate::line::LineState;
use crate::message::Body;
use crate::timer::{Retry, Timers};
use crate::view::{NodeId, Timestamp, View};

/// What one home has yet to be told in this view: that this node has surrendered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Surrendering {
    /// The write-backs that the home must have stored first.
    awaited: BTreeSet<Bytes>,
    retry: Retry,
}

impl Cache {
    /// The node's lease lasts until `until`. A lease never becomes shorter.
    pub fn handle_lease(&mut self, now: Timestamp, until: Timestamp) {
        self.lease = self.lease.max(Some(until));
        self.set_short_way(now);
        self.unpark(now);
    }

    /// Enters a view. One that is not newer is ignored.
    ///
    /// Lines stay where the same life of the same node is their home in the old and in the new
    /// view, and the new one is the next after the old: then the home knows of them. All others
    /// are given up, and every member is told once its share of what was dirty is stored. A node
    /// that is not in the new view has lost everything.
    pub fn handle_view(&mut self, now: Timestamp, view: View) {
        if view.epoch <= self.view.epoch {
            return;
        }
        let old = std::mem::replace(&mut self.view, view);
        self.surrenders.clear();
        self.hints.clear();
        self.holds.clear();
        self.is_member = self.view.contains(self.member);
        self.set_short_way(now);
        self.arm_sweep(now);
        if !self.is_member {
            self.forfeit(now);
            return;
        }
        for key in self.lines.keys() {
            let stays = self.stays(&old, &key) && !self.write_backs.contains_key(&key);
            if stays || self.flawed(Flaw::LineKeptWhenHomeMoved) {
                self.send_through(&key);
            } else {
                self.give_up(now, &key, Cause::Moved);
            }
        }
        let mut awaited: BTreeMap<NodeId, BTreeSet<Bytes>> = BTreeMap::new();
        let backoff = self.config.backoff;
        for (key, write_back) in &mut self.write_backs {
            // The recall that a downgraded line answered is void, and the line is gone.
            write_back.downgrade = None;
            write_back.retry = Retry::new(now, backoff);
            self.timers.arm(write_back.retry.at(), Timer::WriteBack(key.clone()));
            if let Some(home) = self.placed.home(key, &self.view) {
                awaited.entry(home).or_default().insert(key.clone());
            }
        }
        for key in self.write_backs.keys().cloned().collect::<Vec<_>>() {
            self.send_write_back(&key);
        }
        for node in self.view.nodes().collect::<Vec<_>>() {
            let awaited = awaited.remove(&node).unwrap_or_default();
            let retry = Retry::new(now, backoff);
            self.timers.arm(retry.at(), Timer::Surrender(node));
            self.surrenders.insert(node, Surrendering { awaited, retry });
            self.send_surrender(node);
        }
        for key in self.pending.keys().cloned().collect::<Vec<_>>() {
            self.send_get(&key);
        }
        self.unpark(now);
    }

    /// Whether the home of `key` in the old view still is, and knows what is held here.
    fn stays(&self, old: &View, key: &Bytes) -> bool {
        let place = |view: &View| {
            let home = self.placed.home(key, view)?;
            Some((home, view.incarnation(home)?))
        };
        let follows = self.view.epoch == old.epoch.next() && old.contains(self.member);
        follows && place(old).is_some() && place(old) == place(&self.view)
    }

    fn send_surrender(&mut self, home: NodeId) {
        let ready = self.surrenders.get(&home).is_some_and(|home| home.awaited.is_empty());
        if ready {
            self.send(home, Body::Surrender);
        }
    }

    /// A write-back is stored: its home may now be told.
    pub(super) fn surrender_key(&mut self, now: Timestamp, key: &Bytes) {
        let Some(home) = self.home(key) else { return };
        let backoff = self.config.backoff;
        let Some(surrender) = self.surrenders.get_mut(&home) else { return };
        if surrender.awaited.remove(key) && surrender.awaited.is_empty() {
            surrender.retry = Retry::new(now, backoff);
            self.timers.arm(surrender.retry.at(), Timer::Surrender(home));
            self.send_surrender(home);
        }
    }

    pub(super) fn repeat_surrender(&mut self, now: Timestamp, home: NodeId) {
        let backoff = self.config.backoff;
        let Some(surrender) = self.surrenders.get_mut(&home) else { return };
        if surrender.retry.is_due(now, backoff) {
            let at = surrender.retry.at();
            self.timers.arm(at, Timer::Surrender(home));
            self.send_surrender(home);
        }
    }

    /// Lets operations go on that waited for a view and a lease.
    fn unpark(&mut self, now: Timestamp) {
        if !self.is_serving(now) {
            return;
        }
        for (key, operation) in std::mem::take(&mut self.parked) {
            self.unregister(operation.id);
            self.start(now, key, operation, false);
        }
    }

    /// This life of the node is over for the others: they go on without it, and have not waited.
    ///
    /// What was dirty is lost. Writes on their way may or may not have been stored.
    fn forfeit(&mut self, now: Timestamp) {
        let mut waiting: Vec<(Bytes, Operation)> = std::mem::take(&mut self.parked);
        let mut unknown: Vec<(OperationId, Answer)> = Vec::new();
        waiting.extend(std::mem::take(&mut self.stalled));
        for key in self.lines.keys() {
            let Some(line) = self.lines.remove(&key) else { continue };
            self.report(&key, line.state, Cause::Forfeited);
            self.statistics.lost += u64::from(line.state == LineState::Modified);
            if let Some(through) = line.through {
                unknown.extend(through.answers);
                waiting.extend(through.waiting.into_iter().map(|wait| (key.clone(), wait)));
            }
        }
        for (key, write_back) in std::mem::take(&mut self.write_backs) {
            self.statistics.lost += 1;
            unknown.extend(write_back.answers);
            waiting.extend(write_back.waiting.into_iter().map(|wait| (key.clone(), wait)));
        }
        for (key, pending) in std::mem::take(&mut self.pending) {
            waiting.extend(pending.waiting.into_iter().map(|wait| (key.clone(), wait.operation)));
        }
        for (_, answer) in &mut unknown {
            *answer = Answer::Failed(CacheError::Indeterminate);
        }
        self.answer_stored(unknown);
        self.inspections.clear();
        let open: Vec<OperationId> = waiting.iter().map(|(_, operation)| operation.id).collect();
        for id in self.open.keys().copied().filter(|id| !open.contains(id)).collect::<Vec<_>>() {
            self.fail(id, CacheError::NoView);
        }
        self.open.clear();
        self.timers = Timers::new();
        self.next_sweep = None;
        for (key, operation) in waiting {
            self.begin(now, key, operation);
        }
    }

    /// Begins to leave: no new operation is taken, those that wait for a view or a lease fail,
    /// every line is given up, and what is dirty stored. To be called again, for lines that were
    /// busy, until the cache [is clean](Cache::is_clean).
    pub fn leave(&mut self, now: Timestamp) {
        self.leaving = true;
        self.close_short_way();
        for (_, operation) in std::mem::take(&mut self.parked) {
            self.fail(operation.id, CacheError::ShutDown);
        }
        for key in self.lines.keys() {
            let busy = self.pending.contains_key(&key) || self.lines.is_being_written(&key);
            if !busy {
                self.drop_line(now, &key, Cause::Left);
            }
        }
        self.send_hints();
    }
}
