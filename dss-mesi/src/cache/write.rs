//! How an owned line is written, and how what was written reaches main memory while it stays.

use bytes::Bytes;

use super::lines::Through;
use super::operation::{Effect, Operation};
use super::{Cache, Timer};
use crate::config::WritePolicy;
use crate::line::LineState;
use crate::message::{Body, Dirty};
use crate::timer::Retry;
use crate::version::Version;
use crate::view::Timestamp;

impl Cache {
    /// Does a write on an owned line.
    pub(super) fn write(&mut self, now: Timestamp, key: &Bytes, operation: Operation) {
        match self.config.policy {
            WritePolicy::WriteBack { flush } => {
                if self.write_here(key, &operation) {
                    self.timers.arm(now + flush, Timer::Flush(key.clone()));
                }
                self.evict(now);
            }
            WritePolicy::WriteThrough => {
                let id = operation.id;
                let queued = self.lines.modify(key, |line| match line.through.as_mut() {
                    Some(through) => {
                        through.waiting.push(operation);
                        None
                    }
                    None => Some(operation),
                });
                match queued.flatten() {
                    None => {
                        self.register(now, id, key, self.config.operation_timeout);
                    }
                    Some(operation) => self.write_through(now, key, vec![operation]),
                }
            }
        }
    }

    /// Writes the line, and answers at once; whether the line was clean and no longer is.
    fn write_here(&mut self, key: &Bytes, operation: &Operation) -> bool {
        let answer = self.lines.modify(key, |line| {
            match operation.effect(line.version, line.value.as_ref()) {
                Effect::Unchanged(answer) => (answer, 0, false),
                Effect::Write(value) => {
                    let version = Version::next(line.version, line.seq);
                    line.version = Some(version);
                    line.value = value;
                    let clean = line.state == LineState::Exclusive;
                    line.state = LineState::Modified;
                    (operation.written(version), 1, clean)
                }
            }
        });
        let Some((answer, writes, now_dirty)) = answer else { return false };
        self.statistics.writes += writes;
        self.answer(operation.id, answer);
        now_dirty
    }

    /// Does the operations one after the other on a copy of the line's value, and sends what comes
    /// of it to main memory. Whatever was decided after the first change is answered only then.
    pub(super) fn write_through(
        &mut self,
        now: Timestamp,
        key: &Bytes,
        operations: Vec<Operation>,
    ) {
        let Some(line) = self.lines.peek(key) else { return };
        let (seq, mut version, mut value) = (line.seq, line.version, line.value.clone());
        let mut written = None;
        let mut answers = Vec::new();
        for operation in operations {
            let answer = match operation.effect(version, value.as_ref()) {
                Effect::Unchanged(answer) => answer,
                Effect::Write(new) => {
                    let next = Version::next(version, seq);
                    (version, value, written) = (Some(next), new, Some(next));
                    self.statistics.writes += 1;
                    operation.written(next)
                }
            };
            if written.is_some() {
                self.register(now, operation.id, key, self.config.operation_timeout);
                answers.push((operation.id, answer));
            } else {
                self.answer(operation.id, answer);
            }
        }
        if let Some(version) = written {
            let retry = Retry::new(now, self.config.backoff);
            let through = Through { version, value, answers, waiting: Vec::new(), retry };
            self.begin_through(key, through);
        }
    }

    fn begin_through(&mut self, key: &Bytes, through: Through) {
        self.timers.arm(through.retry.at(), Timer::Through(key.clone()));
        self.lines.modify(key, |line| line.through = Some(Box::new(through)));
        self.send_through(key);
    }

    /// Sends what is being written through to the key's home.
    pub(super) fn send_through(&mut self, key: &Bytes) {
        let (Some(home), Some(line)) = (self.home(key), self.lines.peek(key)) else { return };
        let Some(through) = line.through.as_ref() else { return };
        let (version, value) = (through.version, through.value.clone());
        let data = Dirty { grant: line.seq, version, value };
        self.send(home, Body::WriteThrough { key: key.clone(), data });
    }

    pub(super) fn repeat_through(&mut self, now: Timestamp, key: &Bytes) {
        let backoff = self.config.backoff;
        let due = self.lines.through_mut(key).and_then(|through| {
            let retry = &mut through.retry;
            retry.is_due(now, backoff).then(|| retry.at())
        });
        if let Some(at) = due {
            self.timers.arm(at, Timer::Through(key.clone()));
            self.statistics.repeats += 1;
            self.send_through(key);
        }
    }

    /// Begins to write a modified line to main memory, while it stays.
    pub(super) fn flush_line(&mut self, now: Timestamp, key: &Bytes) {
        let Some(line) = self.lines.peek(key) else { return };
        let (LineState::Modified, None, Some(version)) = (line.state, &line.through, line.version)
        else {
            return;
        };
        let value = line.value.clone();
        let retry = Retry::new(now, self.config.backoff);
        let (answers, waiting) = (Vec::new(), Vec::new());
        self.begin_through(key, Through { version, value, answers, waiting, retry });
    }

    /// Begins to write every modified line to main memory.
    pub fn flush(&mut self, now: Timestamp) {
        for key in self.lines.keys() {
            self.flush_line(now, &key);
        }
    }

    pub(super) fn handle_write_through_ack(
        &mut self,
        now: Timestamp,
        key: &Bytes,
        version: Version,
    ) {
        let stored = self.lines.modify(key, |line| {
            if line.through.as_ref().is_none_or(|through| through.version != version) {
                return None;
            }
            let through = line.through.take()?;
            if line.state == LineState::Modified {
                if line.version == Some(version) {
                    line.state = LineState::Exclusive;
                }
            } else {
                line.version = Some(version);
                line.value.clone_from(&through.value);
            }
            Some((line.state, *through))
        });
        let Some((state, through)) = stored.flatten() else { return };
        if let (LineState::Modified, WritePolicy::WriteBack { flush }) = (state, self.config.policy)
        {
            // It was written again while it was flushed.
            self.timers.arm(now + flush, Timer::Flush(key.clone()));
        }
        self.answer_stored(through.answers);
        if !through.waiting.is_empty() {
            self.write_through(now, key, through.waiting);
        }
        self.evict(now);
    }
}
