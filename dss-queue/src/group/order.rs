//! Messages of one key: in order, one at a time.
//!
//! The head is the one that is leased or comes next. What the cursor passes meanwhile stays where
//! it is, in the log: the group remembers only from where to where, so a long backlog of one key
//! costs nothing per message.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Exception, Group, Surroundings};
use crate::name::Key;

/// A key with an unsettled message before the cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Busy {
    /// The message that goes first: an exception, or one whose publish delay is not over.
    pub(crate) head: u64,
    /// The log's messages of the key in `from..end` are parked: passed by the cursor and never
    /// delivered. Invariant: `from <= end <= cursor`, and no exception of the key lies in it.
    pub(crate) from: u64,
    pub(crate) end: u64,
    /// Redriven messages that wait for the head: exceptions with a message of their own.
    pub(crate) redriven: BTreeSet<u64>,
}

impl Group {
    /// The cursor passes a message of `key`. Whether it is at the head.
    pub(super) fn pass(&mut self, sequence: u64, key: &Key) -> bool {
        if let Some(busy) = self.busy.get_mut(key) {
            busy.end = sequence + 1;
            return false;
        }
        let end = sequence + 1;
        let busy = Busy { head: sequence, from: end, end, redriven: BTreeSet::new() };
        self.busy.insert(key.clone(), busy);
        true
    }

    /// A redriven message of `key` comes back. Whether it is at the head: it goes before what was
    /// never delivered, and waits for what was.
    pub(super) fn rejoin(&mut self, sequence: u64, key: &Key) -> bool {
        let end = self.cursor;
        let Some(busy) = self.busy.get_mut(key) else {
            let busy = Busy { head: sequence, from: end, end, redriven: BTreeSet::new() };
            self.busy.insert(key.clone(), busy);
            return true;
        };
        let head = self.exceptions.get(&busy.head);
        if head.is_some_and(|head| head.attempts > 0 || head.own.is_some()) {
            busy.redriven.insert(sequence);
            return false;
        }
        self.exceptions.remove(&busy.head);
        self.returned.remove(&busy.head);
        busy.from = busy.head;
        busy.head = sequence;
        true
    }

    /// Whether the message lies behind an earlier one of its key.
    pub(super) fn is_parked(&self, sequence: u64, key: Option<&Key>) -> bool {
        key.and_then(|key| self.busy.get(key))
            .is_some_and(|busy| (busy.from..busy.end).contains(&sequence))
    }

    /// The message is done with: where it was the head of its key, the next one follows.
    pub(super) fn release_key(
        &mut self,
        sequence: u64,
        key: Option<&Key>,
        around: &mut Surroundings<'_, '_>,
    ) {
        let Some(key) = key else { return };
        let Some(busy) = self.busy.get_mut(key).filter(|busy| busy.head == sequence) else {
            return;
        };
        if let Some(next) = busy.redriven.pop_first() {
            busy.head = next;
            self.returned.insert(next);
            self.announce(1, around.step);
            return;
        }
        let Some(next) = around.log.of_key(key, busy.from, busy.end).next() else {
            self.busy.remove(key);
            return;
        };
        busy.head = next;
        busy.from = next + 1;
        let delayed = around.log.get(next).is_some_and(|stored| stored.delayed_until().is_some());
        if !delayed {
            self.exceptions.insert(next, Exception::untouched(Some(key.clone())));
            self.returned.insert(next);
            self.announce(1, around.step);
        }
    }
}
