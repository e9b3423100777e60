//! How a line is given up when its home asks.

use bytes::Bytes;

use super::Cache;
use super::hold::Recall;
use super::write_back::WriteBack;
use crate::flaw::Flaw;
use crate::line::LineState;
use crate::message::Body;
use crate::version::Seq;
use crate::view::{NodeId, Timestamp};

use super::dropped::Cause;

impl Cache {
    pub(super) fn handle_invalidate(
        &mut self,
        now: Timestamp,
        from: NodeId,
        key: &Bytes,
        recall: Seq,
    ) {
        if self.is_deferred(now, from, key, recall, Recall::Invalidate)
            || !self.is_obeyed(from, key, recall)
        {
            return;
        }
        self.give_up(now, key, Cause::Recalled);
        self.send_ack(from, key, recall);
    }

    pub(super) fn handle_downgrade(
        &mut self,
        now: Timestamp,
        from: NodeId,
        key: &Bytes,
        recall: Seq,
    ) {
        if self.is_deferred(now, from, key, recall, Recall::Downgrade)
            || !self.is_obeyed(from, key, recall)
        {
            return;
        }
        let modified = self.lines.peek(key).and_then(|line| {
            let dirty = line.dirty()?;
            Some((line.state == LineState::Modified, dirty))
        });
        match modified {
            // A write that nobody may read yet: it cannot stay in a line that others share.
            Some((false, _)) => self.give_up(now, key, Cause::Recalled),
            Some((true, data)) => {
                let through = self.share(key, recall);
                debug_assert!(through.is_none_or(|through| through.answers.is_empty()));
                let write_back = WriteBack::downgraded(data, recall, now, self.config.backoff);
                self.begin_write_back(key, write_back);
            }
            None => {
                self.share(key, recall);
            }
        }
        self.send_ack(from, key, recall);
    }

    fn share(&mut self, key: &Bytes, recall: Seq) -> Option<Box<super::lines::Through>> {
        self.lines.modify(key, |line| {
            line.state = LineState::Shared;
            line.seq = recall;
            line.through.take()
        })?
    }

    /// Notes the recall for a pending request; whether the line that is held, or its write-back,
    /// is what it recalls, and not newer: then this is an old repetition.
    fn is_obeyed(&mut self, from: NodeId, key: &Bytes, recall: Seq) -> bool {
        if self.home(key) != Some(from) {
            return false;
        }
        if let Some(pending) = self.pending.get_mut(key) {
            pending.floor = pending.floor.max(recall);
        }
        let line_newer = self.lines.peek(key).is_some_and(|line| recall < line.seq);
        let data_newer = self.write_backs.get(key).is_some_and(|data| recall < data.grant());
        let obeyed = !(line_newer || data_newer) || self.flawed(Flaw::StaleRecallObeyed);
        self.statistics.recalls += u64::from(obeyed);
        obeyed
    }

    /// Drops the line; what is dirty of it becomes a write-back, which is not yet sent.
    pub(super) fn give_up(&mut self, now: Timestamp, key: &Bytes, cause: Cause) {
        let Some(line) = self.lines.remove(key) else { return };
        self.report(key, line.state, cause);
        let Some(data) = line.dirty() else { return };
        if line.state != LineState::Modified && self.flawed(Flaw::WriteThroughCancelled) {
            return;
        }
        let mut write_back = WriteBack::given_up(data, now, self.config.backoff);
        if let Some(through) = line.through {
            write_back.answers = through.answers;
            write_back.waiting = through.waiting;
        }
        self.begin_write_back(key, write_back);
    }

    /// Answers a recall with what is held of the line now.
    pub(super) fn send_ack(&mut self, home: NodeId, key: &Bytes, recall: Seq) {
        let kept = self.lines.contains(key);
        let data = self.write_backs.get(key).map(|write_back| write_back.data.clone());
        self.send(home, Body::Ack { key: key.clone(), recall, kept, data });
        if self.flawed(Flaw::WriteBackDroppedEarly)
            && let Some(write_back) = self.write_backs.remove(key)
        {
            self.answer_stored(write_back.answers);
        }
    }
}
