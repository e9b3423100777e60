//! How a line is asked for and installed.

use bytes::Bytes;

use super::lines::Line;
use super::operation::{Action, Answer, Effect, Operation, Read};
use super::{Cache, Timer};
use crate::flaw::Flaw;
use crate::line::LineState;
use crate::message::{Body, Payload, Want};
use crate::timer::Retry;
use crate::version::{RequestId, Seq, Version};
use crate::view::{NodeId, Timestamp};

/// A request that the home has not granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) request: RequestId,
    pub(super) want: Want,
    /// The newest recall that was answered since the request was opened. A grant below it was
    /// revoked before it came, and others may have written since.
    pub(super) floor: Seq,
    pub(super) waiting: Vec<Waiting>,
    pub(super) retry: Retry,
}

/// An operation that waits for a grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Waiting {
    pub(super) operation: Operation,
    /// The floor of the request when the operation joined it.
    floor: Seq,
}

/// What a [`Body::Grant`] says of its line.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) request: RequestId,
    pub(super) seq: Seq,
    pub(super) exclusive: bool,
    pub(super) version: Option<Version>,
    pub(super) payload: Payload,
}

impl Cache {
    /// Does the operation with what is held, or asks the home. `hit`: nothing was asked for yet.
    pub(super) fn start(&mut self, now: Timestamp, key: Bytes, operation: Operation, hit: bool) {
        let Some(line) = self.lines.touch(&key) else {
            self.request(now, key, operation);
            return;
        };
        if operation.is_read() {
            if operation.want() == Want::Exclusive && !line.state.is_owned() {
                self.request(now, key, operation);
                return;
            }
            if let (Action::Own { hold: Some(until) }, None) = (&operation.action, &line.value) {
                self.hold(&key, *until);
            }
            let answer = line.value.zip(line.version).map(|(value, version)| Read {
                value,
                version,
                state: line.state,
                hit,
            });
            self.statistics.hits += u64::from(hit);
            self.answer(operation.id, Answer::Read(answer));
            return;
        }
        if line.state.is_owned() {
            self.write(now, &key, operation);
            return;
        }
        // What changes nothing needs no more than a read does.
        match operation.effect(line.version, line.value.as_ref()) {
            Effect::Unchanged(answer) => self.answer(operation.id, answer),
            Effect::Write(_) => self.request(now, key, operation),
        }
    }

    fn request(&mut self, now: Timestamp, key: Bytes, operation: Operation) {
        let new = self.register(now, operation.id, &key, self.config.operation_timeout);
        self.statistics.misses += u64::from(new && operation.is_read());
        let early = self.flawed(Flaw::GetDuringWriteBack);
        // A request while a write-back is out would read main memory before the data is there.
        if let Some(write_back) = self.write_backs.get_mut(&key).filter(|_| !early) {
            write_back.waiting.push(operation);
        } else if let Some(pending) = self.pending.get_mut(&key) {
            let floor = pending.floor;
            pending.waiting.push(Waiting { operation, floor });
        } else if self.write_backs.len() >= self.config.write_backs_max {
            self.stalled.push_back((key, operation));
        } else {
            self.open_request(now, &key, operation);
        }
    }

    fn open_request(&mut self, now: Timestamp, key: &Bytes, operation: Operation) {
        let floor = Seq::default();
        let pending = Pending {
            request: self.next_request(),
            want: operation.want(),
            floor,
            waiting: vec![Waiting { operation, floor }],
            retry: Retry::new(now, self.config.backoff),
        };
        self.timers.arm(pending.retry.at(), Timer::Get(key.clone()));
        self.pending.insert(key.clone(), pending);
        self.send_get(key);
    }

    /// Sends the pending request of `key` to the key's home.
    pub(super) fn send_get(&mut self, key: &Bytes) {
        let (Some(home), Some(pending)) = (self.home(key), self.pending.get(key)) else { return };
        let have = self.lines.state(key).and_then(|(_, version)| version);
        let (request, want) = (pending.request, pending.want);
        self.send(home, Body::Get { key: key.clone(), request, want, have });
    }

    pub(super) fn repeat_get(&mut self, now: Timestamp, key: &Bytes) {
        let Some(pending) = self.pending.get_mut(key) else { return };
        if pending.waiting.is_empty() {
            // Nobody waits any more. If the home has granted, it learns at the next recall.
            self.pending.remove(key);
            return;
        }
        if pending.retry.is_due(now, self.config.backoff) {
            let at = pending.retry.at();
            self.timers.arm(at, Timer::Get(key.clone()));
            self.statistics.repeats += 1;
            self.send_get(key);
        }
    }

    pub(super) fn handle_grant(&mut self, now: Timestamp, from: NodeId, key: &Bytes, grant: Grant) {
        let Some(pending) = self.pending.get(key) else { return };
        let is_answer = pending.request == grant.request || self.flawed(Flaw::AnyGrantAccepted);
        if !is_answer || self.home(key) != Some(from) {
            return;
        }
        if grant.seq < pending.floor && !self.flawed(Flaw::NoRecallFloor) {
            self.refuse_grant(now, key, grant);
            return;
        }
        let value = match grant.payload {
            Payload::Value(value) => value,
            Payload::Same => match self.lines.peek(key) {
                Some(line) if line.version == grant.version => line.value,
                // The copy that the home relied on is gone: only the value itself will do.
                _ => {
                    self.ask_anew(now, key);
                    return;
                }
            },
        };
        let waiting = self.pending.remove(key).map_or(Vec::new(), |pending| pending.waiting);
        let state = if grant.exclusive { LineState::Exclusive } else { LineState::Shared };
        let (seq, version) = (grant.seq, grant.version);
        let line = Line { state, seq, version, value, through: None };
        self.lines.insert(key, line, self.config.entries_max);
        let (reads, writes): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|waiting| waiting.operation.is_read());
        for waiting in reads.into_iter().chain(writes) {
            self.start(now, key.clone(), waiting.operation, false);
        }
        self.evict(now);
    }

    /// The line was recalled after this grant: others may have it, and may have written it.
    ///
    /// But whoever asked before that recall was answered may take the value once: it was current
    /// then, since the home waited for that answer.
    fn refuse_grant(&mut self, now: Timestamp, key: &Bytes, grant: Grant) {
        self.statistics.grants_refused += 1;
        if let Payload::Value(value) = grant.payload {
            let Some(pending) = self.pending.get_mut(key) else { return };
            let (served, others): (Vec<_>, Vec<_>) = std::mem::take(&mut pending.waiting)
                .into_iter()
                .partition(|waiting| waiting.operation.is_read() && waiting.floor < grant.seq);
            pending.waiting = others;
            let read = value.zip(grant.version).map(|(value, version)| Read {
                value,
                version,
                state: LineState::Shared,
                hit: false,
            });
            for waiting in served {
                self.answer(waiting.operation.id, Answer::Read(read.clone()));
            }
        }
        self.ask_anew(now, key);
    }

    /// Asks under a new request id, so that the home does not repeat the grant that was refused.
    fn ask_anew(&mut self, now: Timestamp, key: &Bytes) {
        let request = self.next_request();
        let backoff = self.config.backoff;
        let Some(pending) = self.pending.get_mut(key) else { return };
        if pending.waiting.is_empty() {
            self.pending.remove(key);
            return;
        }
        let wants = pending.waiting.iter().map(|waiting| waiting.operation.want());
        pending.want = wants.max().unwrap_or(Want::Shared);
        pending.request = request;
        pending.retry = Retry::new(now, backoff);
        let at = pending.retry.at();
        self.timers.arm(at, Timer::Get(key.clone()));
        self.send_get(key);
    }
}
