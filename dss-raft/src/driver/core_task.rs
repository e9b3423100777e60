//! The task that owns a group's [`Raft`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::applier::{Job, ProposalWaiter, Query};
use super::error::{MembershipError, ProposeError, ReadError, Stopped};
use super::gathering::Gathering;
use super::heartbeats::Heartbeats;
use super::inbox::{Delivery, Inbox};
use super::inputs::{ChangeWaiter, Event, Request};
use super::log_writer::WriterRequest;
use super::outbox::Outbox;
use super::published::{Metrics, Publisher};
use super::requests::Requests;
use super::snapshot_waiters::SnapshotWaiters;
use super::snapshots::Snapshots;
use super::waiters::Waiters;
use crate::core::Raft;
use crate::entry::Entries;
use crate::output::{Output, Persist, ProposalFate};
use crate::ports::{StateMachine, Transport};
use crate::types::{GroupId, LogIndex, NodeId, ProposalId, ReadId, Timestamp};
use crate::{Envelope, Message};

/// How many of each queue are taken in before the outputs are performed: the most that becomes one
/// write, and the longest that what came first waits for it.
const TURN: usize = 1024;

/// What the core task is connected to.
pub(super) struct Wiring<M: StateMachine> {
    pub(super) group: GroupId,
    /// When the core's time began.
    pub(super) origin: Instant,
    /// How long a transfer of leadership may take.
    pub(super) transfer_limit: Duration,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) writer: mpsc::UnboundedSender<WriterRequest>,
    pub(super) jobs: mpsc::UnboundedSender<Job<M>>,
    pub(super) snapshots: Snapshots,
    pub(super) heartbeats: Heartbeats,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) messages: Inbox,
    pub(super) requests: Requests<M>,
    pub(super) publisher: Publisher,
}

/// The core task: `run` it.
pub(super) struct CoreTask<M: StateMachine> {
    raft: Raft,
    wiring: Wiring<M>,
    outbox: Outbox<M>,
    storage_failed: bool,
    gathering: Gathering,
    /// Proposals that the core has taken in and not ended.
    proposed: Waiters<ProposalId, ProposalWaiter<M::Reply>>,
    /// Changes of the members that have not ended.
    changes: BTreeMap<ProposalId, ChangeWaiter>,
    /// Proposals that are committed and whose entry was not handed to the applier.
    committed: Waiters<LogIndex, ProposalWaiter<M::Reply>>,
    /// Reads taken in together share one number: the core's confirmation began after all of them.
    reads: BTreeMap<ReadId, Vec<Query<M>>>,
    snapshots_awaited: SnapshotWaiters,
    metrics: Metrics,
    /// What was taken in since the last outputs.
    turn: Turn<M>,
}

/// Since the last outputs: what has to wait until the state is published, so that nobody who has
/// an answer sees a state from before it.
struct Turn<M: StateMachine> {
    /// Nothing but that time has passed, or messages that came together with others.
    is_routine: bool,
    refused: Vec<(ProposalWaiter<M::Reply>, ProposeError)>,
    local: Vec<Query<M>>,
}

impl<M: StateMachine> Default for Turn<M> {
    fn default() -> Self {
        Self { is_routine: true, refused: Vec::new(), local: Vec::new() }
    }
}

impl<M: StateMachine> CoreTask<M> {
    pub(super) fn new(raft: Raft, wiring: Wiring<M>) -> Self {
        Self {
            raft,
            wiring,
            outbox: Outbox::new(),
            storage_failed: false,
            gathering: Gathering::default(),
            proposed: Waiters::default(),
            changes: BTreeMap::new(),
            committed: Waiters::default(),
            reads: BTreeMap::new(),
            snapshots_awaited: SnapshotWaiters::default(),
            metrics: Metrics::default(),
            turn: Turn::default(),
        }
    }

    /// Drives the core until the node is shut down or the state machine fails.
    pub(super) async fn run(mut self) {
        let stopped = loop {
            self.perform_outputs();
            let holding = self.is_holding();
            if let ControlFlow::Break(stopped) = self.wait(holding).await {
                break stopped;
            }
            self.gather(holding).await;
            if let ControlFlow::Break(stopped) = self.drain(holding) {
                break stopped;
            }
            let now = self.now();
            if self.raft.poll_timeout().is_some_and(|deadline| deadline <= now) {
                self.raft.handle_timeout(now);
            }
        };
        self.stop(stopped);
    }

    fn now(&self) -> Timestamp {
        Timestamp::since_origin(self.wiring.origin.elapsed())
    }

    /// Whether requests are left in their queue for now, because proposals are not committed.
    fn is_holding(&self) -> bool {
        !self.proposed.is_empty() && self.now() < self.gathering.held_until()
    }

    /// Clients that were answered together propose together: those that are ready to run do it
    /// before the proposals become a write.
    async fn gather(&mut self, holding: bool) {
        // Of those that are held back it does not matter how many are here.
        if self.proposed.is_empty() || holding {
            return;
        }
        loop {
            tokio::task::yield_now().await;
            let here = self.proposed.len() + self.wiring.requests.len();
            if !self.gathering.lingers(self.now(), here) {
                return;
            }
        }
    }

    /// Waits for the next input or deadline, and handles the input.
    async fn wait(&mut self, holding: bool) -> ControlFlow<Stopped> {
        if !holding && let Some(request) = self.wiring.requests.take_held() {
            self.handle_first_request(request);
            return ControlFlow::Continue(());
        }
        let origin = self.wiring.origin;
        // A deadline that is nearer than what the runtime sleeps for wakes it, by calls of the
        // system that take as long as all that is done here: it is set only for who is there.
        let held_until = self.wiring.requests.has_held().then(|| self.gathering.held_until());
        let deadline = self.raft.poll_timeout().into_iter().chain(held_until).min();
        let timer = async {
            match deadline {
                Some(deadline) => {
                    tokio::time::sleep_until(origin + deadline.since(Timestamp::ZERO)).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(event) = self.wiring.events.recv() => return self.handle_event(event),
            Some((from, delivery)) = self.wiring.messages.recv() => {
                self.handle_delivery(self.now(), from, delivery);
            }
            Some(request) = self.wiring.requests.recv(), if !self.wiring.requests.has_held() => {
                if holding {
                    self.wiring.requests.hold(request);
                } else {
                    self.handle_first_request(request);
                }
            }
            () = timer => {}
        }
        ControlFlow::Continue(())
    }

    fn handle_first_request(&mut self, request: Request<M>) {
        let mut reads = Vec::new();
        self.handle_request(self.now(), request, &mut reads);
        self.begin_reads(reads);
    }

    /// Handles what else has come in.
    fn drain(&mut self, holding: bool) -> ControlFlow<Stopped> {
        for _ in 0..TURN {
            match self.wiring.events.try_recv() {
                Ok(event) => self.handle_event(event)?,
                Err(_) => break,
            }
        }
        let now = self.now();
        for _ in 0..TURN {
            match self.wiring.messages.try_recv() {
                Some((from, delivery)) => self.handle_delivery(now, from, delivery),
                None => break,
            }
        }
        // What was waited for may have committed the last of them.
        if !holding || !self.is_holding() {
            let mut reads = Vec::new();
            for _ in 0..TURN {
                match self.wiring.requests.pop() {
                    Some(request) => self.handle_request(now, request, &mut reads),
                    None => break,
                }
            }
            self.begin_reads(reads);
            self.gathering.begin(now);
        }
        ControlFlow::Continue(())
    }

    fn handle_event(&mut self, event: Event) -> ControlFlow<Stopped> {
        let now = self.now();
        self.turn.is_routine = false;
        match event {
            Event::Persisted(seq) => {
                self.outbox.persisted(seq);
                self.snapshots_awaited.persisted(seq);
                self.raft.handle_persisted(now, seq);
            }
            Event::StorageFailed => {
                self.storage_failed = true;
                self.raft.handle_storage_failed(now);
            }
            Event::Applied(index) => self.raft.handle_applied(now, index),
            Event::SnapshotTaken { index, descriptor } => {
                self.wiring.snapshots.finished(descriptor.clone());
                self.metrics.snapshots_taken += 1;
                self.raft.handle_snapshot_taken(now, index, descriptor);
            }
            Event::SnapshotFailed { index } => {
                self.metrics.snapshots_failed += 1;
                self.snapshots_awaited.failed(index);
                self.raft.handle_snapshot_failed(now, index);
            }
            Event::TakeSnapshot { answer } => match self.raft.take_snapshot(now) {
                Some(index) => self.snapshots_awaited.push(index, answer),
                None => {
                    let _ = answer.send(Ok(None));
                }
            },
            Event::SnapshotFetched { from, descriptor, fetched } => {
                let offer = self.wiring.snapshots.fetched(from, &descriptor, fetched);
                if let Some(offer) = offer {
                    self.raft.handle_message(now, from, offer);
                }
            }
            Event::MachineFailed => return ControlFlow::Break(Stopped::MachineFailed),
            Event::Transfer { to, answer } => {
                let limit = self.wiring.transfer_limit;
                let target = self.raft.transfer_leadership(now, to);
                // Whoever asked may have given up; the transfer goes on.
                let _ = answer.send(target.map(|target| (target, limit)));
            }
            Event::Change { expected, target, answer } => {
                match self.raft.change(now, &expected, target) {
                    Ok(proposal) => {
                        self.changes.insert(proposal, answer);
                    }
                    Err(refused) => {
                        let _ = answer.send(Err(refused.into()));
                    }
                }
            }
            Event::ShutDown => return ControlFlow::Break(Stopped::ShutDown),
        }
        ControlFlow::Continue(())
    }

    fn handle_delivery(&mut self, now: Timestamp, from: NodeId, delivery: Delivery) {
        self.metrics.messages_received += 1;
        let message = match delivery {
            Delivery::Batched(message) => message,
            Delivery::Message(message) => {
                self.turn.is_routine = false;
                message
            }
            Delivery::Part(part) => return self.wiring.snapshots.take_in(from, part),
        };
        if let Some(message) = self.wiring.snapshots.hold_offer(&self.raft, from, message) {
            self.raft.handle_message(now, from, message);
        }
    }

    fn handle_request(&mut self, now: Timestamp, request: Request<M>, reads: &mut Vec<Query<M>>) {
        self.turn.is_routine = false;
        match request {
            // Nobody wants it any more, and nobody has it yet.
            Request::Propose { waiter, .. } if waiter.is_abandoned() => {}
            Request::Propose { command, waiter } => match self.raft.propose(now, command) {
                Ok(proposal) => {
                    self.metrics.proposals += 1;
                    self.proposed.push(proposal, waiter);
                }
                Err(rejected) => {
                    self.metrics.proposals_refused += 1;
                    self.turn.refused.push((waiter, rejected.into()));
                }
            },
            Request::Read(query) => reads.push(query),
            Request::ReadLocal(query) => self.turn.local.push(query),
        }
    }

    fn begin_reads(&mut self, queries: Vec<Query<M>>) {
        if !queries.is_empty() {
            self.metrics.reads += queries.len() as u64;
            let read = self.raft.read(self.now());
            self.reads.insert(read, queries);
        }
    }

    /// Publishes what the inputs have come to, and does what the core wants done: in this order,
    /// so that whoever is answered finds a state that is no older than the answer.
    fn perform_outputs(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        let under_way = self.proposed.len();
        self.metrics.turns += 1;
        self.wiring.publisher.published.update(&self.raft, &self.metrics);
        for (waiter, error) in turn.refused {
            waiter.end(Err(error));
        }
        for query in turn.local {
            // Not behind jobs that wait for a write: it asks for the state as it is.
            self.send_job(Job::Query { after: LogIndex::ZERO, query });
        }
        while let Some(output) = self.raft.poll_output() {
            match output {
                Output::Persist(persist) => {
                    self.note_write(&persist);
                    let group = self.wiring.group;
                    // Where the writer has gone, its end was told as an event, or the node ends.
                    let _ = self.wiring.writer.send(WriterRequest::Persist { group, persist });
                }
                Output::Send { to, message, after } => {
                    let Some((to, message)) = self.outbox.hold_message(to, message, after) else {
                        continue;
                    };
                    let message = if turn.is_routine {
                        self.wiring.heartbeats.take_along(to, self.wiring.group, message)
                    } else {
                        Some(message)
                    };
                    self.metrics.messages_sent += 1;
                    if let Some(message) = message {
                        self.send(to, message);
                    }
                }
                Output::Apply(entries) => {
                    self.metrics.entries_applied += entries.len() as u64;
                    let waiters = self.take_committed(&entries);
                    self.outbox.push_job(Job::Apply { entries, waiters }, None);
                }
                Output::Restore { snapshot, after } => {
                    self.metrics.snapshots_installed += 1;
                    self.forget_committed(snapshot.last.index);
                    self.outbox.push_job(Job::Restore(snapshot), Some(after));
                }
                Output::TakeSnapshot { index } => {
                    self.outbox.push_job(Job::TakeSnapshot(index), None);
                }
                Output::Proposal { proposal, fate } => self.end_proposal(proposal, fate),
                Output::Read { read, index } => self.end_reads(read, index),
                Output::Leadership(leadership) => {
                    self.wiring.snapshots.led_by(leadership.leader);
                    // The state first, so that whoever is woken sees both.
                    self.wiring.publisher.published.update(&self.raft, &self.metrics);
                    self.wiring.publisher.leadership(leadership);
                }
            }
        }
        let answered = under_way - self.proposed.len();
        if answered > 0 {
            self.gathering.answered(self.now(), answered, self.wiring.requests.len());
        }
        self.wiring.snapshots.discard_unnamed();
        self.release();
    }

    fn note_write(&mut self, persist: &Persist) {
        self.metrics.writes += 1;
        self.metrics.entries_written += persist.entries.len() as u64;
        self.wiring.snapshots.named_in(persist);
        if let Some(snapshot) = &persist.snapshot {
            self.snapshots_awaited.named(snapshot.last.index, persist.seq);
        }
    }

    /// Does what waited for writes that are durable by now.
    fn release(&mut self) {
        while let Some(messages) = self.outbox.next_messages() {
            for (to, message) in messages {
                self.metrics.messages_sent += 1;
                self.send(to, message);
            }
        }
        while let Some(job) = self.outbox.next_job() {
            self.send_job(job);
        }
    }

    fn send(&self, to: NodeId, message: Message) {
        self.wiring.transport.send(to, Envelope::Message { group: self.wiring.group, message });
    }

    fn send_job(&self, job: Job<M>) {
        // Where the applier has gone it has said why, or panicked: `run` is told by the event that
        // its own end sends.
        let _ = self.wiring.jobs.send(job);
    }

    fn end_proposal(&mut self, proposal: ProposalId, fate: ProposalFate) {
        if let Some(waiter) = self.changes.remove(&proposal) {
            // Whoever waited may have given up.
            let _ = waiter.send(match fate {
                ProposalFate::Committed(index) => Ok(index),
                ProposalFate::Rejected => Err(MembershipError::NotCaughtUp),
                ProposalFate::Unknown => Err(MembershipError::OutcomeUnknown),
            });
        }
        let Some(waiter) = self.proposed.take(proposal) else { return };
        match fate {
            ProposalFate::Committed(index) => {
                self.committed.push(index, waiter);
            }
            // A command is never rejected once it has a number.
            ProposalFate::Unknown | ProposalFate::Rejected => {
                waiter.end(Err(ProposeError::OutcomeUnknown));
            }
        }
    }

    fn end_reads(&mut self, read: ReadId, index: Option<LogIndex>) {
        for query in self.reads.remove(&read).into_iter().flatten() {
            match index {
                Some(after) => self.outbox.push_job(Job::Query { after, query }, None),
                None => query.end(Err(ReadError::NoLeader)),
            }
        }
    }

    fn take_committed(&mut self, entries: &Entries) -> Waiters<LogIndex, ProposalWaiter<M::Reply>> {
        entries.last_index().map(|last| self.committed.split_to(last)).unwrap_or_default()
    }

    /// A snapshot stands for these entries now: they are applied, and their replies lost.
    fn forget_committed(&mut self, last: LogIndex) {
        for waiter in self.committed.split_to(last).into_values() {
            waiter.end(Err(ProposeError::OutcomeUnknown));
        }
    }

    /// Ends everything that is under way. What the applier holds it still answers.
    fn stop(mut self, stopped: Stopped) {
        // Nobody else sets it.
        let _ = self.wiring.publisher.published.stopped.set(stopped);
        self.wiring.requests.close();
        while let Some(request) = self.wiring.requests.pop() {
            match request {
                Request::Propose { waiter, .. } => waiter.end(Err(stopped.into())),
                Request::Read(query) | Request::ReadLocal(query) => query.end(Err(stopped.into())),
            }
        }
        for waiter in self.proposed.into_values().chain(self.committed.into_values()) {
            waiter.end(Err(ProposeError::OutcomeUnknown));
        }
        for (waiter, error) in self.turn.refused {
            waiter.end(Err(error));
        }
        for query in self.reads.into_values().flatten().chain(self.turn.local) {
            query.end(Err(stopped.into()));
        }
        for waiter in self.changes.into_values() {
            let _ = waiter.send(Err(MembershipError::OutcomeUnknown));
        }
        self.snapshots_awaited.stop(stopped);
    }
}
