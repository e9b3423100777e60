//! One thing at a time for each line: recall, store, load, grant.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::directory::{Entry, Hold};
use super::request::Request;
use super::{Home, HomeOutput, MemoryCall, Purpose, Timer};
use crate::flaw::Flaw;
use crate::message::{Body, Dirty, Payload, Want};
use crate::ports::{StoreOutcome, Stored};
use crate::timer::Retry;
use crate::version::Seq;
use crate::view::{NodeId, Timestamp};

/// What a home is doing with a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Transaction {
    seq: Seq,
    job: Job,
    /// Whose answer to the recall is awaited.
    recalled: BTreeSet<NodeId>,
    /// The recall leaves the line shared.
    downgrade: bool,
    storing: Option<Storing>,
    loading: Option<MemoryCall>,
    /// What main memory has, once that is known and cannot change.
    value: Option<Option<Stored>>,
    retry: Option<Retry>,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// To grant the line.
    Grant(Request),
    /// To repeat a grant.
    Repeat(Request),
    /// To store what a holder gave up.
    WriteBack,
    /// To store what a holder wrote and keeps.
    WriteThrough,
    /// To have nobody hold the line.
    Forget,
}

/// Data on its way to main memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Storing {
    from: NodeId,
    data: Dirty,
    /// The call under way; `None` where it failed and is to be repeated.
    call: Option<MemoryCall>,
}

impl Transaction {
    pub(super) const fn recalling(
        seq: Seq,
        job: Job,
        recalled: BTreeSet<NodeId>,
        downgrade: bool,
    ) -> Self {
        let (storing, loading, value, retry) = (None, None, None, None);
        Self { seq, job, recalled, downgrade, storing, loading, value, retry }
    }

    pub(super) fn storing(seq: Seq, job: Job, from: NodeId, data: Dirty) -> Self {
        let storing = Some(Storing { from, data, call: None });
        Self { storing, ..Self::recalling(seq, job, BTreeSet::new(), false) }
    }

    /// Whether `node` has yet to answer.
    pub(super) fn awaits(&self, node: NodeId) -> bool {
        self.recalled.contains(&node)
    }

    /// Whether `node` has yet to answer the recall with this number.
    pub(super) fn awaits_answer(&self, node: NodeId, recall: Seq) -> bool {
        self.seq == recall && self.awaits(node)
    }

    pub(super) const fn is_downgrade(&self) -> bool {
        self.downgrade
    }

    pub(super) const fn is_storing(&self) -> bool {
        self.storing.is_some()
    }

    /// `node` has answered; `data` is stored before anything else happens.
    pub(super) fn answered(&mut self, node: NodeId, data: Option<Dirty>) {
        self.recalled.remove(&node);
        if let Some(data) = data {
            self.value = None;
            self.storing = Some(Storing { from: node, data, call: None });
        }
    }

    /// Takes data for stored that is not.
    pub(super) fn presume(&mut self) {
        self.value = self.storing.as_ref().map(|storing| {
            let (version, value) = (storing.data.version, storing.data.value.clone());
            Some(Stored { version, value })
        });
    }

    /// The request that is served, if one is.
    pub(super) const fn request(&self) -> Option<&Request> {
        match &self.job {
            Job::Grant(request) | Job::Repeat(request) => Some(request),
            Job::WriteBack | Job::WriteThrough | Job::Forget => None,
        }
    }
}

impl Home {
    /// Begins a transaction on a line that is free.
    pub(super) fn begin(&mut self, now: Timestamp, key: &Bytes, mut transaction: Transaction) {
        let retry = Retry::new(now, self.config.backoff);
        self.timers.arm(retry.at(), Timer::Line(key.clone()));
        transaction.retry = Some(retry);
        let entry = self.directory.entry(key.clone()).or_default();
        debug_assert!(entry.busy.is_none());
        entry.busy = Some(Box::new(transaction));
        self.send_recalls(key);
        self.advance(now, key);
    }

    fn send_recalls(&mut self, key: &Bytes) {
        let Some(transaction) = self.busy(key) else { return };
        let (recall, downgrade) = (transaction.seq, transaction.downgrade);
        for node in transaction.recalled.clone() {
            let key = key.clone();
            let body = if downgrade {
                Body::Downgrade { key, recall }
            } else {
                Body::Invalidate { key, recall }
            };
            self.send(node, body);
        }
    }

    fn busy(&mut self, key: &Bytes) -> Option<&mut Transaction> {
        self.directory.get_mut(key)?.busy.as_deref_mut()
    }

    /// Goes on as far as is possible without waiting.
    pub(super) fn advance(&mut self, now: Timestamp, key: &Bytes) {
        let hasty = self.flawed(Flaw::GrantBeforeStore);
        let Some(transaction) = self.busy(key) else { return };
        if let Some(storing) = &transaction.storing {
            if storing.call.is_none() {
                self.store(key);
            }
            if !hasty {
                return;
            }
        }
        let Some(transaction) = self.busy(key) else { return };
        if !transaction.recalled.is_empty() || transaction.loading.is_some() {
            return;
        }
        match (&transaction.job, transaction.value.is_some()) {
            (Job::Grant(_) | Job::Repeat(_), false) => self.load(key),
            _ => self.finish(now, key),
        }
    }

    fn load(&mut self, key: &Bytes) {
        let call = self.next_call(Purpose::Line(key.clone()));
        let Some(transaction) = self.busy(key) else { return };
        transaction.loading = Some(call);
        self.outputs.push_back(HomeOutput::Load { call, key: key.clone() });
    }

    fn store(&mut self, key: &Bytes) {
        let writer = self.view.epoch;
        let call = self.next_call(Purpose::Line(key.clone()));
        let Some(storing) = self.busy(key).and_then(|busy| busy.storing.as_mut()) else { return };
        storing.call = Some(call);
        let (version, value) = (storing.data.version, storing.data.value.clone());
        let (from, grant) = (storing.from, storing.data.grant);
        if self.flawed(Flaw::PutAckedEarly) {
            self.send(from, Body::PutAck { key: key.clone(), grant });
        }
        self.outputs.push_back(HomeOutput::Store {
            call,
            writer,
            key: key.clone(),
            version,
            value,
        });
    }

    pub(super) fn line_loaded(
        &mut self,
        now: Timestamp,
        key: &Bytes,
        loaded: Option<Option<Stored>>,
    ) {
        let Some(transaction) = self.busy(key) else { return };
        let seq = transaction.seq;
        // Main memory cannot have what is granted later, but where it is another cluster's.
        let foreign = |stored: &Option<Stored>| {
            stored.as_ref().is_some_and(|stored| stored.version.seq() > seq)
        };
        if let Some(stored) = loaded.filter(|stored| !foreign(stored)) {
            transaction.loading = None;
            transaction.value = Some(stored);
            self.advance(now, key);
        } else {
            // The timer of the line loads again.
            transaction.loading = None;
        }
    }

    pub(super) fn line_stored(
        &mut self,
        now: Timestamp,
        key: &Bytes,
        outcome: Option<StoreOutcome>,
    ) {
        let Some(transaction) = self.busy(key) else { return };
        let Some(storing) = transaction.storing.as_mut() else { return };
        match outcome {
            // The timer of the line stores again: an unknown outcome because the same write twice
            // is one write, a fenced one because only a new view can end it.
            None | Some(StoreOutcome::Fenced { .. }) => {
                storing.call = None;
                return;
            }
            Some(StoreOutcome::Stored) => {
                let (version, value) = (storing.data.version, storing.data.value.clone());
                transaction.value = Some(Some(Stored { version, value }));
            }
            // Newer data of the same owner was stored already.
            Some(StoreOutcome::Stale { .. }) => transaction.value = None,
        }
        let through = transaction.job == Job::WriteThrough;
        let Some(Storing { from, data, .. }) = transaction.storing.take() else { return };
        let key_sent = key.clone();
        let body = if through {
            Body::WriteThroughAck { key: key_sent, version: data.version }
        } else {
            Body::PutAck { key: key_sent, grant: data.grant }
        };
        self.send(from, body);
        self.advance(now, key);
    }

    /// Ends the transaction with whatever it was for, and begins the next.
    fn finish(&mut self, now: Timestamp, key: &Bytes) {
        let Some(entry) = self.directory.get_mut(key) else { return };
        let Some(transaction) = entry.busy.take() else { return };
        let value = transaction.value.flatten();
        match transaction.job {
            Job::Grant(request) => {
                let exclusive = entry.is_granted_exclusively(&request);
                entry.exclusive = exclusive;
                let hold = Hold { request: request.request, seq: transaction.seq };
                entry.holds.insert(request.node, hold);
                self.statistics.grants += 1;
                self.send_grant(key, &request, transaction.seq, exclusive, value);
            }
            Job::Repeat(request) => {
                let exclusive = entry.exclusive;
                self.statistics.repeats += 1;
                self.send_grant(key, &request, transaction.seq, exclusive, value);
            }
            Job::WriteBack | Job::WriteThrough | Job::Forget => {}
        }
        self.next_in_queue(now, key);
    }

    fn send_grant(
        &mut self,
        key: &Bytes,
        to: &Request,
        seq: Seq,
        exclusive: bool,
        value: Option<Stored>,
    ) {
        let version = value.as_ref().map(|stored| stored.version);
        let payload = if version.is_some() && to.have == version {
            Payload::Same
        } else {
            Payload::Value(value.and_then(|stored| stored.value))
        };
        let (key, request) = (key.clone(), to.request);
        self.send(to.node, Body::Grant { key, request, seq, exclusive, version, payload });
    }

    /// Repeats what a transaction waits for.
    pub(super) fn repeat_line(&mut self, now: Timestamp, key: &Bytes) {
        let backoff = self.config.backoff;
        let Some(retry) = self.busy(key).and_then(|busy| busy.retry.as_mut()) else { return };
        if retry.is_due(now, backoff) {
            let at = retry.at();
            self.timers.arm(at, Timer::Line(key.clone()));
            self.statistics.repeats += 1;
            self.send_recalls(key);
            self.advance(now, key);
        }
    }
}

impl Entry {
    /// Whether the line, of which everybody has given up what had to be, goes to this request
    /// alone. A reader gets it so too where no other one waits, for it may write next.
    fn is_granted_exclusively(&self, request: &Request) -> bool {
        let alone = self.holds.nodes().all(|node| node == request.node);
        match request.want {
            Want::Exclusive => {
                assert!(alone, "a line is not granted for writing while others hold it");
                true
            }
            Want::Shared => alone && self.queue.iter().all(|queued| queued.want == Want::Exclusive),
        }
    }
}
