//! Deadlines of a core, and when to repeat what was not answered.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::view::Timestamp;

/// What is to be looked at, and when.
///
/// An entry is not taken out when its reason goes away: it fires, finds nothing due, and that is
/// all. Only what is armed for nearly every operation is worth disarming.
///
/// Neither these nor a [`Retry`] go into hashes. A hash may be coarser than equality; by this one the
/// checker of the tests tells states apart, and to it only what is waited for matters, not since
/// when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timers<K: Ord> {
    deadlines: BTreeSet<(Timestamp, K)>,
}

impl<K: Ord> Hash for Timers<K> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<K: Ord> Timers<K> {
    pub(crate) const fn new() -> Self {
        Self { deadlines: BTreeSet::new() }
    }

    pub(crate) fn arm(&mut self, at: Timestamp, what: K) {
        self.deadlines.insert((at, what));
    }

    pub(crate) fn disarm(&mut self, at: Timestamp, what: K) {
        self.deadlines.remove(&(at, what));
    }

    pub(crate) fn clear(&mut self) {
        self.deadlines.clear();
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.deadlines.pop_first().map(|(_, what)| what)
    }
}

/// When something unanswered is repeated next: at first soon, then ever more rarely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    at: Timestamp,
    pause: Duration,
}

impl Hash for Retry {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// The first and the longest pause between repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Retry {
    /// The first repetition of what is done at `now`.
    pub(crate) fn new(now: Timestamp, backoff: Backoff) -> Self {
        Self { at: now + backoff.first, pause: backoff.first }
    }

    pub(crate) const fn at(&self) -> Timestamp {
        self.at
    }

    /// Whether to repeat at `now`; if so, the next time is set.
    pub(crate) fn is_due(&mut self, now: Timestamp, backoff: Backoff) -> bool {
        if self.at > now {
            return false;
        }
        self.pause = (self.pause * 2).min(backoff.longest);
        self.at = now + self.pause;
        true
    }
}
