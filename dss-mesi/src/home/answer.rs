//! What holders send of their own accord or because they were asked: answers and data.

use bytes::Bytes;

use super::Home;
use super::transaction::{Job, Transaction};
use crate::flaw::Flaw;
use crate::message::{Body, Dirty};
use crate::version::Seq;
use crate::view::{NodeId, Timestamp};

/// What a [`Body::Ack`] says of its line.
#[derive(Debug)]
pub(super) struct Ack {
    pub(super) recall: Seq,
    pub(super) kept: bool,
    pub(super) data: Option<Dirty>,
}

impl Home {
    pub(super) fn handle_ack(&mut self, now: Timestamp, from: NodeId, key: &Bytes, ack: Ack) {
        let hasty = self.flawed(Flaw::GrantBeforeStore);
        let Some(entry) = self.directory.get_mut(key) else {
            self.confirm_absorbed(from, key, ack.data);
            return;
        };
        let Some(busy) = entry.busy.as_mut() else {
            self.confirm_absorbed(from, key, ack.data);
            return;
        };
        // One piece of data at a time: this one comes again.
        if !busy.awaits_answer(from, ack.recall) || (ack.data.is_some() && busy.is_storing()) {
            return;
        }
        let kept = ack.kept && busy.is_downgrade();
        busy.answered(from, ack.data);
        if hasty {
            busy.presume();
        }
        if kept {
            entry.share(from, ack.recall);
        } else {
            entry.release(from);
        }
        self.advance(now, key);
    }

    /// Data for which nothing is under way was stored already, unless it is of the present owner,
    /// who must not be told so: what it has may be newer.
    fn confirm_absorbed(&mut self, from: NodeId, key: &Bytes, data: Option<Dirty>) {
        let Some(data) = data else { return };
        let owner = self.directory.get(key).is_some_and(|entry| entry.is_owner(from, data.grant));
        if self.is_open() && !owner {
            self.send(from, Body::PutAck { key: key.clone(), grant: data.grant });
        }
    }

    pub(super) fn handle_put(&mut self, now: Timestamp, from: NodeId, key: &Bytes, data: Dirty) {
        if !self.is_open() {
            self.handle_surrendered(now, from, key, data);
            return;
        }
        let Some(entry) = self.directory.get_mut(key).filter(|it| it.is_owner(from, data.grant))
        else {
            if self.directory.get(key).is_none_or(|entry| entry.busy.is_none()) {
                self.confirm_absorbed(from, key, Some(data));
            }
            return;
        };
        match entry.busy.as_mut() {
            None => {
                entry.release(from);
                let seq = self.next_seq();
                self.begin(now, key, Transaction::storing(seq, Job::WriteBack, from, data));
            }
            // It crossed the recall, and answers it.
            Some(busy) if busy.awaits(from) && !busy.is_storing() => {
                busy.answered(from, Some(data));
                entry.release(from);
                self.advance(now, key);
            }
            Some(_) => {}
        }
    }

    /// In a view that is not open yet, whatever is given up is stored, whoever granted it.
    fn handle_surrendered(&mut self, now: Timestamp, from: NodeId, key: &Bytes, data: Dirty) {
        if !self.is_fenced() || self.directory.get(key).is_some_and(|it| it.busy.is_some()) {
            return;
        }
        if let Some(entry) = self.directory.get_mut(key)
            && entry.holds.get(from).is_some_and(|hold| hold.seq == data.grant)
        {
            entry.release(from);
        }
        let seq = self.next_seq();
        self.begin(now, key, Transaction::storing(seq, Job::WriteBack, from, data));
    }

    pub(super) fn handle_write_through(
        &mut self,
        now: Timestamp,
        from: NodeId,
        key: &Bytes,
        data: Dirty,
    ) {
        let free_owner = self
            .directory
            .get(key)
            .is_some_and(|entry| entry.busy.is_none() && entry.is_owner(from, data.grant));
        if free_owner && self.is_fenced() {
            let seq: Seq = self.next_seq();
            self.begin(now, key, Transaction::storing(seq, Job::WriteThrough, from, data));
        }
    }
}
