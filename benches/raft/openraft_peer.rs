//! openraft on tokio, as fast as its interface allows: entries of no size, a log in a ring buffer,
//! followers called directly, appends streamed to them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{Stream, StreamExt, TryStreamExt};
use openraft::alias::{
    CommittedLeaderIdOf, EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::base::{BoxFuture, BoxStream};
use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::{
    Config, EntryPayload, OptionalSend, Raft, RaftTypeConfig, SnapshotPolicy, StoredMembership,
    impls,
};

use crate::cluster::COMPACT_AFTER;
use crate::driver::Service;

/// Commands and replies without content, answered in the plainest way; else openraft's defaults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Nothing;
    type R = ();
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = impls::leader_id_adv::LeaderId<u64, u64>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Nothing, u64, ()>;
    type Entry = openraft::Entry<CommittedLeaderIdOf<Self>, Self::Payload>;
    type Responder<T>
        = impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type AsyncRuntime = impls::TokioRuntime;
    type ErrorSource = impls::BoxedErrorSource;
}

/// The empty command.
#[derive(Debug, Clone)]
pub(crate) struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing")
    }
}

type Node = Raft<Types, Machine>;

/// The leader of three nodes of openraft, and what keeps the others.
#[derive(Clone)]
pub(crate) struct OpenRaft {
    leader: Node,
    _network: Network,
}

impl Service for OpenRaft {
    const NAME: &'static str = "openraft";

    async fn start() -> Self {
        let config = Config {
            // The times of dss-raft.
            heartbeat_interval: 100,
            election_timeout_min: 1_000,
            election_timeout_max: 2_000,
            max_payload_entries: 4096,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(COMPACT_AFTER),
            // A quarter stays, as with dss-raft; cutting many at once is cheaper.
            max_in_snapshot_log_to_keep: COMPACT_AFTER / 4,
            purge_batch_size: COMPACT_AFTER / 4,
            enable_pre_vote: Some(true),
            ..Config::default()
        };
        let config = Arc::new(config.validate().expect("the configuration is valid"));
        let network = Network::default();
        for id in 1..=3 {
            let (log, machine) = (Log::default(), Machine::default());
            let node = Raft::new(id, Arc::clone(&config), network.clone(), log, machine).await;
            lock(&network.nodes).insert(id, node.expect("a new node has nothing to fail on"));
        }
        let leader = network.node(1);
        leader
            .initialize((1..=3).map(|id| (id, ())).collect::<BTreeMap<_, _>>())
            .await
            .expect("it is new");
        // With an entry of its own applied, a leader knows that it leads.
        let led = leader.wait(None).applied_index_at_least(Some(1), "led").await;
        led.expect("nobody else runs for it");
        Self { leader, _network: network }
    }

    async fn write(&self) {
        self.leader.client_write(Nothing).await.expect("it leads");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who can be called.
#[derive(Clone, Default)]
pub(crate) struct Network {
    nodes: Arc<Mutex<BTreeMap<u64, Node>>>,
}

impl Network {
    fn node(&self, id: u64) -> Node {
        lock(&self.nodes)[&id].clone()
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Line;

    async fn new_client(&mut self, target: u64, _node: &()) -> Line {
        Line { target: self.node(target) }
    }
}

/// To one node.
pub(crate) struct Line {
    target: Node,
}

fn unreachable<E: std::error::Error + 'static>(error: &E) -> RPCError<Types> {
    Unreachable::new(error).into()
}

impl RaftNetworkV2<Types> for Line {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.target.append_entries(request).await.map_err(|error| unreachable(&error))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let answers = self.target.stream_append(requests);
        let answers = answers.map_err(|error| unreachable(&error));
        Box::pin(async move { Ok(answers.boxed()) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.target.vote(request).await.map_err(|error| unreachable(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.target.pre_vote(request).await.map_err(|error| unreachable(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let installed = self.target.install_full_snapshot(vote, snapshot).await;
        installed.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
    }
}

/// A log in memory; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    inner: Arc<Mutex<Stored>>,
}

#[derive(Default)]
struct Stored {
    vote: Option<VoteOf<Types>>,
    purged: Option<LogIdOf<Types>>,
    /// The index of the first entry.
    first: u64,
    entries: VecDeque<EntryOf<Types>>,
}

impl Stored {
    fn position(&self, index: u64) -> usize {
        let position = usize::try_from(index.saturating_sub(self.first));
        position.expect("memory holds it").min(self.entries.len())
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<EntryOf<Types>>, io::Error> {
        let stored = lock(&self.inner);
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let positions = stored.position(start)..stored.position(end);
        Ok(stored.entries.range(positions).cloned().collect())
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<Types>>, io::Error> {
        Ok(lock(&self.inner).vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let stored = lock(&self.inner);
        let last_log_id = stored.entries.back().map(RaftEntry::log_id).or(stored.purged);
        Ok(LogState { last_purged_log_id: stored.purged, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> Result<(), io::Error> {
        lock(&self.inner).vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        lock(&self.inner).entries.extend(entries);
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> Result<(), io::Error> {
        let mut stored = lock(&self.inner);
        let end = stored.position(last.map_or(0, |last| last.index() + 1));
        stored.entries.truncate(end);
        Ok(())
    }

    async fn purge(&mut self, last: LogIdOf<Types>) -> Result<(), io::Error> {
        let mut stored = lock(&self.inner);
        let end = stored.position(last.index() + 1);
        stored.entries.drain(..end);
        stored.first = last.index() + 1;
        stored.purged = Some(last);
        Ok(())
    }
}

/// The state machine: it counts for nothing. Clones share it, since one builds snapshots.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    inner: Arc<Mutex<Applied>>,
}

#[derive(Default)]
struct Applied {
    last: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
    snapshot: Option<SnapshotMetaOf<Types>>,
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>), io::Error> {
        let applied = lock(&self.inner);
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut last = None;
        while let Some((entry, responder)) = entries.try_next().await? {
            last = Some(entry.log_id);
            if let EntryPayload::Membership(members) = entry.payload {
                let members = StoredMembership::new(Some(entry.log_id), members);
                lock(&self.inner).membership = members;
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        let mut applied = lock(&self.inner);
        applied.last = last.or(applied.last);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        _snapshot: (),
    ) -> Result<(), io::Error> {
        let mut applied = lock(&self.inner);
        applied.last = meta.last_log_id;
        applied.membership = meta.last_membership.clone();
        applied.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, ()>>, io::Error> {
        let meta = lock(&self.inner).snapshot.clone();
        Ok(meta.map(|meta| openraft::Snapshot { meta, snapshot: () }))
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, ()>, io::Error> {
        let mut applied = lock(&self.inner);
        let last_membership = applied.membership.clone();
        let meta = SnapshotMetaOf::<Types> { last_log_id: applied.last, last_membership };
        applied.snapshot = Some(meta.clone());
        Ok(openraft::Snapshot { meta, snapshot: () })
    }
}
