//! Data that was given up and is not known to be in main memory, and lines dropped to make room.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::dropped::Cause;
use super::lines::SWEEPS;
use super::operation::{Answer, Operation, OperationId};
use super::{Cache, Timer};
use crate::flaw::Flaw;
use crate::message::{Body, Dirty};
use crate::timer::{Backoff, Retry};
use crate::version::Seq;
use crate::view::{NodeId, Timestamp};

/// How long dropped lines are collected before their homes are told. Only saves recalls.
const HINTS_EVERY: Duration = Duration::from_millis(100);

/// How many dropped lines one message tells of at most: what fits a few kilobytes.
const HINTS_MAX: usize = 64;

/// Dropped lines by home.
pub(super) type Hints = BTreeMap<NodeId, Vec<(Bytes, Seq)>>;

/// Data of a line that this cache owned, kept until the home says that main memory has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct WriteBack {
    pub(super) data: Dirty,
    /// The downgrade whose answer carries the data. While it is unconfirmed that answer is
    /// repeated, never a `Put`: a `Put` says that nothing was kept.
    pub(super) downgrade: Option<Seq>,
    /// Who is answered what once it is stored: writes through that a recall overtook.
    pub(super) answers: Vec<(OperationId, Answer)>,
    /// What wants the line again.
    pub(super) waiting: Vec<Operation>,
    pub(super) retry: Retry,
}

impl WriteBack {
    pub(super) fn given_up(data: Dirty, now: Timestamp, backoff: Backoff) -> Self {
        let (answers, waiting) = (Vec::new(), Vec::new());
        Self { data, downgrade: None, answers, waiting, retry: Retry::new(now, backoff) }
    }

    pub(super) fn downgraded(data: Dirty, by: Seq, now: Timestamp, backoff: Backoff) -> Self {
        Self { downgrade: Some(by), ..Self::given_up(data, now, backoff) }
    }

    /// The grant under which the data was written.
    pub(super) const fn grant(&self) -> Seq {
        self.data.grant
    }
}

impl Cache {
    /// Keeps the data until it is confirmed. The caller sends it.
    pub(super) fn begin_write_back(&mut self, key: &Bytes, write_back: WriteBack) {
        self.statistics.write_backs += 1;
        self.timers.arm(write_back.retry.at(), Timer::WriteBack(key.clone()));
        self.write_backs.insert(key.clone(), write_back);
    }

    /// Sends a write-back, as the answer that it first was, or by itself.
    pub(super) fn send_write_back(&mut self, key: &Bytes) {
        let (Some(home), Some(write_back)) = (self.home(key), self.write_backs.get(key)) else {
            return;
        };
        let downgrade = write_back.downgrade;
        match downgrade.filter(|_| !self.flawed(Flaw::DowngradeRepeatedAsPut)) {
            Some(recall) => self.send_ack(home, key, recall),
            None => {
                let data = write_back.data.clone();
                self.send(home, Body::Put { key: key.clone(), data });
            }
        }
    }

    pub(super) fn repeat_write_back(&mut self, now: Timestamp, key: &Bytes) {
        let backoff = self.config.backoff;
        let Some(write_back) = self.write_backs.get_mut(key) else { return };
        if write_back.retry.is_due(now, backoff) {
            let at = write_back.retry.at();
            self.timers.arm(at, Timer::WriteBack(key.clone()));
            self.statistics.repeats += 1;
            self.send_write_back(key);
        }
    }

    pub(super) fn handle_put_ack(&mut self, now: Timestamp, key: &Bytes, grant: Seq) {
        if self.write_backs.get(key).is_none_or(|write_back| write_back.grant() != grant) {
            return;
        }
        let Some(write_back) = self.write_backs.remove(key) else { return };
        self.answer_stored(write_back.answers);
        for operation in write_back.waiting {
            self.start(now, key.clone(), operation, false);
        }
        self.surrender_key(now, key);
        self.unstall(now);
    }

    /// Lets misses go on that waited for fewer write-backs.
    pub(super) fn unstall(&mut self, now: Timestamp) {
        while self.write_backs.len() < self.config.write_backs_max {
            let Some((key, operation)) = self.stalled.pop_front() else { return };
            self.start(now, key, operation, false);
        }
    }

    /// The line that goes next, if any may.
    fn victim(&mut self) -> Option<Bytes> {
        let Self { lines, pending, holds, .. } = self;
        lines.victim(|key| pending.contains_key(key) || holds.contains_key(key))
    }

    /// Drops lines that were not used lately until the rest fits.
    pub(super) fn evict(&mut self, now: Timestamp) {
        while self.lines.len() > self.config.entries_max
            || self.lines.bytes() > self.config.bytes_max
        {
            let Some(key) = self.victim() else { return };
            self.statistics.evictions += 1;
            self.drop_line(now, &key, Cause::Capacity);
        }
    }

    /// Looks for old lines some time later, if lines may become too old.
    pub(super) fn arm_sweep(&mut self, now: Timestamp) {
        if let (Some(time_to_live), None) = (self.config.time_to_live, self.next_sweep) {
            let at = now + time_to_live / u32::from(SWEEPS);
            self.next_sweep = Some(at);
            self.timers.arm(at, Timer::Sweep);
        }
    }

    /// Drops the lines that have been held for as long as lines may be.
    pub(super) fn sweep(&mut self, now: Timestamp) {
        if self.next_sweep.is_none_or(|at| at > now) {
            return;
        }
        self.next_sweep = None;
        self.arm_sweep(now);
        for key in self.lines.sweep() {
            let pinned = self.pending.contains_key(&key)
                || self.holds.contains_key(&key)
                || self.lines.is_being_written(&key);
            if !pinned {
                self.statistics.expirations += 1;
                self.drop_line(now, &key, Cause::Expired);
            }
        }
    }

    /// Drops a line and tells the home: surely where it is dirty, else when there is time.
    pub(super) fn drop_line(&mut self, now: Timestamp, key: &Bytes, cause: Cause) {
        let Some(seq) = self.lines.peek(key).map(|line| line.seq) else { return };
        let written_back = self.write_backs.contains_key(key);
        self.give_up(now, key, cause);
        if !written_back && self.write_backs.contains_key(key) {
            self.send_write_back(key);
            return;
        }
        let Some(home) = self.home(key) else { return };
        if self.hints.is_empty() {
            self.timers.arm(now + HINTS_EVERY, Timer::Hints);
        }
        let lines = self.hints.entry(home).or_default();
        lines.push((key.clone(), seq));
        if lines.len() >= HINTS_MAX {
            let lines = std::mem::take(lines);
            self.send(home, Body::Hint { lines });
        }
    }

    pub(super) fn send_hints(&mut self) {
        for (home, lines) in std::mem::take(&mut self.hints) {
            if !lines.is_empty() {
                self.send(home, Body::Hint { lines });
            }
        }
    }
}
