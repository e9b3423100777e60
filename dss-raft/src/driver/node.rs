//! A node: what its groups share.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::applier::Applier;
use super::core_task::{CoreTask, Wiring};
use super::error::StartGroupError;
use super::group::{Group, Shared, transfer};
use super::group_snapshots::GroupSnapshots;
use super::heartbeats::{self, Heartbeats};
use super::inbox::{Delivery, InboxSender, inbox};
use super::inputs::Event;
use super::log_writer::{LogWriter, WriterRequest};
use super::published::{Published, Publisher};
use super::requests::Requests;
use super::snapshot_server::{RequestSender, SnapshotServer};
use super::snapshots::Snapshots;
use crate::config::Config;
use crate::core::Raft;
use crate::entry::{Configuration, Snapshot};
use crate::message::Envelope;
use crate::output::Leadership;
use crate::ports::{Restored, SnapshotStore, StateMachine, Storage, StorageError, Transport};
use crate::types::{GroupId, LogIndex, NodeId, Timestamp};

/// How long a shutdown waits for another node to take over a group: a few election timeouts of a
/// fast network. Without it the others elect one by themselves, an election timeout later.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// One node of a cluster: the groups it takes part in share its transport and its storage.
///
/// Cheap to clone. When the last clone is dropped without a [`shutdown`](Node::shutdown), every
/// group stops at once, as in a crash; a [`Group`] does not keep the node alive.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    origin: Instant,
    transport: Arc<dyn Transport>,
    state: Mutex<State>,
    storage_failure: Arc<OnceLock<StorageError>>,
    /// Every task holds a receiver while it runs.
    alive: watch::Sender<()>,
}

struct State {
    /// `None` once the node was shut down.
    writer: Option<mpsc::UnboundedSender<WriterRequest>>,
    groups: BTreeMap<GroupId, RunningGroup>,
    /// `None` once the node was shut down: whoever has it may keep the storage in use.
    snapshots: Option<Arc<dyn SnapshotStore>>,
    snapshot_requests: Option<RequestSender>,
    heartbeats: Option<Heartbeats>,
    tasks: Vec<AbortHandle>,
}

/// A group as its node sees it, whatever its state machine.
struct RunningGroup {
    inbox: InboxSender,
    events: mpsc::UnboundedSender<Event>,
    leadership: watch::Receiver<Leadership>,
}

impl Node {
    /// Starts a node without groups.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(storage: impl Storage, transport: Arc<dyn Transport>) -> Self {
        let (writer, requests) = mpsc::unbounded_channel();
        let storage_failure = Arc::new(OnceLock::new());
        let snapshots = storage.snapshots();
        let (snapshot_requests, server) =
            SnapshotServer::new(Arc::clone(&snapshots), Arc::clone(&transport));
        let (heartbeats, queued) = Heartbeats::new();
        let log_writer = LogWriter::new(storage, requests, Arc::clone(&storage_failure));
        let inner = Inner {
            origin: Instant::now(),
            transport,
            state: Mutex::new(State {
                writer: Some(writer),
                groups: BTreeMap::new(),
                snapshots: Some(snapshots),
                snapshot_requests: Some(snapshot_requests),
                heartbeats: Some(heartbeats),
                tasks: Vec::new(),
            }),
            storage_failure,
            alive: watch::Sender::new(()),
        };
        inner.spawn(&mut inner.state(), log_writer.run());
        inner.spawn(&mut inner.state(), server.run());
        let transport = Arc::clone(&inner.transport);
        inner.spawn(&mut inner.state(), heartbeats::run(queued, transport));
        Self { inner: Arc::new(inner) }
    }

    /// Starts this node's part in a group, from what the storage has of it.
    ///
    /// `members` counts until a snapshot says otherwise: give every node of the group the same.
    /// The machine is `machine` as given, or restored from the stored snapshot; the entries behind
    /// that are applied once they are known to be committed (a [`Group::read`] waits for it).
    ///
    /// # Errors
    ///
    /// Where nothing was started; see [`StartGroupError`].
    pub async fn start_group<M: StateMachine>(
        &self,
        group: GroupId,
        config: Config,
        members: Configuration,
        machine: M,
    ) -> Result<Group<M>, StartGroupError> {
        let restored = self.restore(group).await?;
        let store = self.inner.state().snapshots.clone().ok_or(StartGroupError::ShutDown)?;
        let of_group = GroupSnapshots { group, store };
        let applied = restored.snapshot.as_ref().map_or(LogIndex::ZERO, |it| it.last.index);
        let machine = restore_machine(&of_group, restored.snapshot.clone(), machine).await?;
        let transfer_limit = config.election_timeout * 2;
        let now = Timestamp::since_origin(self.inner.origin.elapsed());
        let raft = Raft::new(config, members, restored, now)?;

        let status = raft.status();
        let leadership = Leadership {
            role: status.role,
            term: status.term,
            leader: status.leader,
            by_transfer: false,
        };
        let (leadership_sender, leadership) = watch::channel(leadership);
        let (events_sender, events) = mpsc::unbounded_channel();
        let (requests_sender, requests) = mpsc::unbounded_channel();
        let (jobs_sender, jobs) = mpsc::unbounded_channel();
        let (inbox_sender, messages) = inbox();
        let published = Arc::new(Published::new(status));

        let mut state = self.inner.state();
        let writer = state.writer.clone().ok_or(StartGroupError::ShutDown)?;
        let heartbeats = state.heartbeats.clone().ok_or(StartGroupError::ShutDown)?;
        if state.groups.contains_key(&group) {
            return Err(StartGroupError::AlreadyStarted { group });
        }
        let running = RunningGroup {
            inbox: inbox_sender,
            events: events_sender.clone(),
            leadership: leadership.clone(),
        };
        state.groups.insert(group, running);
        heartbeats.join();
        let register = WriterRequest::Register { group, events: events_sender.clone() };
        writer.send(register).map_err(|_| StorageError::Poisoned)?;
        let wiring = Wiring {
            group,
            origin: self.inner.origin,
            transfer_limit,
            transport: Arc::clone(&self.inner.transport),
            writer,
            jobs: jobs_sender,
            snapshots: Snapshots::new(
                of_group.clone(),
                Arc::clone(&self.inner.transport),
                events_sender.clone(),
            ),
            heartbeats,
            events,
            messages,
            requests: Requests::new(requests),
            publisher: Publisher {
                published: Arc::clone(&published),
                leadership: leadership_sender,
            },
        };
        let applier = Applier::new(machine, applied, of_group, jobs, events_sender.clone());
        self.inner.spawn(&mut state, applier.run());
        self.inner.spawn(&mut state, CoreTask::new(raft, wiring).run());
        drop(state);
        Ok(Group::new(Shared::new(requests_sender, events_sender, published, leadership)))
    }

    async fn restore(&self, group: GroupId) -> Result<Restored, StartGroupError> {
        let (answer, answered) = oneshot::channel();
        {
            let state = self.inner.state();
            let writer = state.writer.as_ref().ok_or(StartGroupError::ShutDown)?;
            writer
                .send(WriterRequest::Restore { group, answer })
                .map_err(|_| StorageError::Poisoned)?;
        }
        // A writer that ends without an answer has panicked in the storage.
        Ok(answered.await.unwrap_or(Err(StorageError::Poisoned))?)
    }

    /// Takes in what arrived from a peer.
    ///
    /// Never blocks: for a group that does not run here, or whose queue is full, the envelope is
    /// dropped, as the network might have done. `from` must be who sent it: Raft believes its
    /// peers, so whoever may call this is one.
    pub fn deliver(&self, from: NodeId, envelope: Envelope) {
        self.inner.deliver(from, envelope);
    }

    pub(super) fn downgrade(&self) -> std::sync::Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    /// Why the storage failed, if it has: the node then leads nothing and votes for nobody, and
    /// only a new start, with a storage that works, changes that.
    #[must_use]
    pub fn storage_failure(&self) -> Option<&StorageError> {
        self.inner.storage_failure.get()
    }

    /// Stops in order: every group that this node leads is handed to another member (within about
    /// two seconds, where one can take it), every proposal and read ends, what was handed to the
    /// storage is written, and the tasks end.
    ///
    /// May be dropped and called again; a repeated call waits for the same end.
    pub async fn shutdown(&self) {
        let mut hand_overs = JoinSet::new();
        for group in self.inner.state().groups.values() {
            let (events, leadership) = (group.events.clone(), group.leadership.clone());
            hand_overs.spawn(async move {
                // A group that nobody else can lead (a single node, no majority) ends as it is.
                let hand_over = transfer(&events, leadership, None);
                let _ = tokio::time::timeout(HAND_OVER_MAX, hand_over).await;
            });
        }
        while hand_overs.join_next().await.is_some() {}
        {
            let mut state = self.inner.state();
            state.writer = None;
            state.snapshots = None;
            state.snapshot_requests = None;
            state.heartbeats = None;
            for group in state.groups.values() {
                // A group that has stopped already needs no telling.
                let _ = group.events.send(Event::ShutDown);
            }
        }
        self.inner.alive.closed().await;
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under this lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, state: &mut State, task: impl Future<Output = ()> + Send + 'static) {
        let alive = self.alive.subscribe();
        let handle = tokio::spawn(async move {
            task.await;
            drop(alive);
        });
        state.tasks.push(handle.abort_handle());
    }

    pub(super) fn deliver(&self, from: NodeId, envelope: Envelope) {
        let deliver = |group, delivery| {
            if let Some(group) = self.state().groups.get(&group) {
                group.inbox.offer(from, delivery);
            }
        };
        match envelope {
            Envelope::Message { group, message } => deliver(group, Delivery::Message(message)),
            Envelope::Messages(messages) => {
                for (group, message) in messages {
                    deliver(group, Delivery::Batched(message));
                }
            }
            Envelope::SnapshotPart(part) => deliver(part.group, Delivery::Part(part)),
            Envelope::SnapshotRequest(request) => {
                if let Some(requests) = &self.state().snapshot_requests {
                    // Where there is no room for it, it is asked again.
                    let _ = requests.try_send((from, request));
                }
            }
        }
    }
}

/// The machine as after the snapshot.
async fn restore_machine<M: StateMachine>(
    snapshots: &GroupSnapshots,
    snapshot: Option<Snapshot>,
    mut machine: M,
) -> Result<M, StartGroupError> {
    let Some(snapshot) = snapshot else { return Ok(machine) };
    let snapshots = snapshots.clone();
    let restored = tokio::task::spawn_blocking(move || {
        snapshots.restore(&snapshot.data, &mut machine)?;
        Ok(machine)
    });
    match restored.await {
        Ok(restored) => restored,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending.
            Err(_) => Err(StartGroupError::ShutDown),
        },
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.state().tasks {
            task.abort();
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let groups: Vec<GroupId> = self.inner.state().groups.keys().copied().collect();
        formatter.debug_struct("Node").field("groups", &groups).finish_non_exhaustive()
    }
}
