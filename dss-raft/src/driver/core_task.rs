//! The task that owns a group's [`Raft`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::applier::{Job, ProposalWaiter, Query};
use super::error::{ProposeError, ReadError, Stopped};
use super::group::Published;
use super::inbox::Inbox;
use super::log_writer::WriterRequest;
use super::outbox::Outbox;
use crate::core::{Raft, Rejected, TransferError};
use crate::entry::Entries;
use crate::output::{Leadership, Output, ProposalFate, RoleKind};
use crate::ports::{StateMachine, Transport};
use crate::types::{GroupId, LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Timestamp};
use crate::{Envelope, Message};

/// How many of each queue are taken in before the outputs are performed: the most that becomes one
/// write, and the longest that what came first waits for it.
const TURN: usize = 1024;

/// How long proposals wait for the ones before them to be committed. What comes in meanwhile becomes
/// one batch; with many clients, batches that are begun as soon as there is anything to put in them
/// shrink to a few entries each, and each costs every member a dozen wake-ups. Where a commit takes
/// longer (a slow disk, distant members), batches overtake each other this far apart.
const GATHERING_MAX: Duration = Duration::from_millis(1);

/// What other tasks of the node tell a core task. As many as are under way, and never dropped.
pub(super) enum Event {
    Persisted(PersistSeq),
    StorageFailed,
    Applied(LogIndex),
    SnapshotTaken {
        index: LogIndex,
        data: Bytes,
    },
    MachineFailed,
    /// Answered with the target and with how long it may take.
    Transfer {
        to: Option<NodeId>,
        answer: oneshot::Sender<Result<(NodeId, Duration), TransferError>>,
    },
    ShutDown,
}

/// What clients ask of a group.
pub(super) enum Request<M: StateMachine> {
    Propose { command: Bytes, waiter: ProposalWaiter<M::Reply> },
    Read(Query<M>),
    ReadLocal(Query<M>),
}

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
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) messages: Inbox,
    pub(super) requests: mpsc::Receiver<Request<M>>,
    pub(super) publisher: Publisher,
}

/// The core task: `run` it.
pub(super) struct CoreTask<M: StateMachine> {
    raft: Raft,
    wiring: Wiring<M>,
    outbox: Outbox<M>,
    storage_failed: bool,
    /// When requests are taken in again although proposals are not committed.
    gathered_at: Timestamp,
    /// Proposals that the core has taken in and not ended.
    proposed: BTreeMap<ProposalId, ProposalWaiter<M::Reply>>,
    /// Proposals that are committed and whose entry was not handed to the applier.
    committed: BTreeMap<LogIndex, ProposalWaiter<M::Reply>>,
    /// Reads taken in together share one number: the core's confirmation began after all of them.
    reads: BTreeMap<ReadId, Vec<Query<M>>>,
}

/// Shows the group's state to others; when the task ends, that it leads nothing any more.
pub(super) struct Publisher {
    pub(super) published: Arc<Published>,
    pub(super) leadership: watch::Sender<Leadership>,
}

impl Publisher {
    fn leadership(&self, leadership: Leadership) {
        self.leadership.send_if_modified(|current| {
            let changed = *current != leadership;
            *current = leadership;
            changed
        });
    }

    fn status(&self, status: crate::core::Status) {
        // Nothing panics under this lock.
        *self.published.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let mut status = self.published.status.lock().unwrap_or_else(PoisonError::into_inner);
        if status.role == RoleKind::Leader {
            status.role = RoleKind::Follower;
        }
        status.leader = None;
        let (role, term) = (status.role, status.term);
        drop(status);
        self.leadership(Leadership { role, term, leader: None, by_transfer: false });
    }
}

impl<M: StateMachine> CoreTask<M> {
    pub(super) fn new(raft: Raft, wiring: Wiring<M>) -> Self {
        Self {
            raft,
            wiring,
            outbox: Outbox::new(),
            storage_failed: false,
            gathered_at: Timestamp::ZERO,
            proposed: BTreeMap::new(),
            committed: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Drives the core until the node is shut down or the state machine fails.
    pub(super) async fn run(mut self) {
        let stopped = loop {
            self.perform_outputs();
            self.wiring.publisher.status(self.raft.status());
            let gathering = self.is_gathering();
            if let ControlFlow::Break(stopped) = self.wait(gathering).await {
                break stopped;
            }
            // Whoever woke this task is often one of many that are about to: tokio runs the woken
            // task next, so without this each of them would become a batch of its own.
            tokio::task::yield_now().await;
            if let ControlFlow::Break(stopped) = self.drain(gathering) {
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

    /// Whether requests are left in their queue for now.
    fn is_gathering(&self) -> bool {
        !self.proposed.is_empty() && self.now() < self.gathered_at
    }

    /// Waits for the next input or deadline, and handles the input.
    async fn wait(&mut self, gathering: bool) -> ControlFlow<Stopped> {
        let origin = self.wiring.origin;
        let gathered_at = gathering.then_some(self.gathered_at);
        let deadline = self.raft.poll_timeout().into_iter().chain(gathered_at).min();
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
            Some((from, message)) = self.wiring.messages.recv() => {
                let now = self.now();
                self.raft.handle_message(now, from, message);
            }
            Some(request) = self.wiring.requests.recv(), if !gathering => {
                let mut reads = Vec::new();
                self.handle_request(self.now(), request, &mut reads);
                self.begin_reads(reads);
            }
            () = timer => {}
        }
        ControlFlow::Continue(())
    }

    /// Handles what else has come in.
    fn drain(&mut self, gathering: bool) -> ControlFlow<Stopped> {
        for _ in 0..TURN {
            match self.wiring.events.try_recv() {
                Ok(event) => self.handle_event(event)?,
                Err(_) => break,
            }
        }
        let now = self.now();
        for _ in 0..TURN {
            match self.wiring.messages.try_recv() {
                Some((from, message)) => self.raft.handle_message(now, from, message),
                None => break,
            }
        }
        // What was waited for may have committed the last of them.
        if !gathering || !self.is_gathering() {
            let mut reads = Vec::new();
            for _ in 0..TURN {
                match self.wiring.requests.try_recv() {
                    Ok(request) => self.handle_request(now, request, &mut reads),
                    Err(_) => break,
                }
            }
            self.begin_reads(reads);
            self.gathered_at = now + GATHERING_MAX;
        }
        ControlFlow::Continue(())
    }

    fn handle_event(&mut self, event: Event) -> ControlFlow<Stopped> {
        let now = self.now();
        match event {
            Event::Persisted(seq) => {
                self.outbox.persisted(seq);
                self.release();
                self.raft.handle_persisted(now, seq);
            }
            Event::StorageFailed => {
                self.storage_failed = true;
                self.raft.handle_storage_failed(now);
            }
            Event::Applied(index) => self.raft.handle_applied(now, index),
            Event::SnapshotTaken { index, data } => {
                self.raft.handle_snapshot_taken(now, index, data);
            }
            Event::MachineFailed => return ControlFlow::Break(Stopped::MachineFailed),
            Event::Transfer { to, answer } => {
                let limit = self.wiring.transfer_limit;
                let target = self.raft.transfer_leadership(now, to);
                // Whoever asked may have given up; the transfer goes on.
                let _ = answer.send(target.map(|target| (target, limit)));
            }
            Event::ShutDown => return ControlFlow::Break(Stopped::ShutDown),
        }
        ControlFlow::Continue(())
    }

    fn handle_request(&mut self, now: Timestamp, request: Request<M>, reads: &mut Vec<Query<M>>) {
        match request {
            Request::Propose { command, waiter } => match self.raft.propose(now, command) {
                Ok(proposal) => {
                    self.proposed.insert(proposal, waiter);
                }
                Err(rejected) => waiter.end(Err(rejected.into())),
            },
            Request::Read(query) => reads.push(query),
            Request::ReadLocal(query) => {
                // Not behind jobs that wait for a write: it asks for the state as it is.
                self.send_job(Job::Query { after: LogIndex::ZERO, query });
            }
        }
    }

    fn begin_reads(&mut self, queries: Vec<Query<M>>) {
        if !queries.is_empty() {
            let read = self.raft.read(self.now());
            self.reads.insert(read, queries);
        }
    }

    fn perform_outputs(&mut self) {
        while let Some(output) = self.raft.poll_output() {
            match output {
                Output::Persist(persist) => {
                    let group = self.wiring.group;
                    // Where the writer has gone, its end was told as an event, or the node ends.
                    let _ = self.wiring.writer.send(WriterRequest::Persist { group, persist });
                }
                Output::Send { to, message, after } => {
                    if let Some((to, message)) = self.outbox.hold_message(to, message, after) {
                        self.send(to, message);
                    }
                }
                Output::Apply(entries) => {
                    let waiters = self.take_committed(&entries);
                    self.outbox.push_job(Job::Apply { entries, waiters }, None);
                }
                Output::Restore { snapshot, after } => {
                    self.forget_committed(snapshot.last.index);
                    self.outbox.push_job(Job::Restore(snapshot), Some(after));
                }
                Output::TakeSnapshot { index } => {
                    self.outbox.push_job(Job::TakeSnapshot(index), None);
                }
                Output::Proposal { proposal, fate } => self.end_proposal(proposal, fate),
                Output::Read { read, index } => self.end_reads(read, index),
                Output::Leadership(leadership) => {
                    // With the status first, so that whoever is woken sees both.
                    self.wiring.publisher.status(self.raft.status());
                    self.wiring.publisher.leadership(leadership);
                }
            }
        }
        self.release();
    }

    /// Does what waited for writes that are durable by now.
    fn release(&mut self) {
        while let Some(messages) = self.outbox.next_messages() {
            for (to, message) in messages {
                self.send(to, message);
            }
        }
        while let Some(job) = self.outbox.next_job() {
            self.send_job(job);
        }
    }

    fn send(&self, to: NodeId, message: Message) {
        self.wiring.transport.send(to, Envelope { group: self.wiring.group, message });
    }

    fn send_job(&self, job: Job<M>) {
        // Where the applier has gone it has said why, or panicked: `run` is told by the event that
        // its own end sends.
        let _ = self.wiring.jobs.send(job);
    }

    fn end_proposal(&mut self, proposal: ProposalId, fate: ProposalFate) {
        let Some(waiter) = self.proposed.remove(&proposal) else { return };
        match fate {
            ProposalFate::Committed(index) => {
                self.committed.insert(index, waiter);
            }
            ProposalFate::Unknown => waiter.end(Err(ProposeError::OutcomeUnknown)),
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

    fn take_committed(
        &mut self,
        entries: &Entries,
    ) -> BTreeMap<LogIndex, ProposalWaiter<M::Reply>> {
        let Some(last) = entries.last_index() else { return BTreeMap::new() };
        let later = self.committed.split_off(&last.next());
        std::mem::replace(&mut self.committed, later)
    }

    /// A snapshot stands for these entries now: they are applied, and their replies lost.
    fn forget_committed(&mut self, last: LogIndex) {
        let later = self.committed.split_off(&last.next());
        for waiter in std::mem::replace(&mut self.committed, later).into_values() {
            waiter.end(Err(ProposeError::OutcomeUnknown));
        }
    }

    /// Ends everything that is under way. What the applier holds it still answers.
    fn stop(mut self, stopped: Stopped) {
        // Nobody else sets it.
        let _ = self.wiring.publisher.published.stopped.set(stopped);
        self.wiring.requests.close();
        while let Ok(request) = self.wiring.requests.try_recv() {
            match request {
                Request::Propose { waiter, .. } => waiter.end(Err(stopped.into())),
                Request::Read(query) | Request::ReadLocal(query) => query.end(Err(stopped.into())),
            }
        }
        for waiter in self.proposed.into_values().chain(self.committed.into_values()) {
            waiter.end(Err(ProposeError::OutcomeUnknown));
        }
        for query in self.reads.into_values().flatten() {
            query.end(Err(stopped.into()));
        }
    }
}

impl From<Rejected> for ProposeError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::NotLeader { leader } => Self::NotLeader { leader },
            Rejected::Transferring { to } => Self::NotLeader { leader: Some(to) },
            Rejected::Overloaded => Self::Overloaded,
            Rejected::StorageFailed => Self::StorageFailed,
        }
    }
}
