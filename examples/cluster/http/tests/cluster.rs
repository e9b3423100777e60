//! Clusters for tests: as many nodes as one likes, in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::Bytes;
use dss_lock::{LockMachine, LockService};
use dss_mesi::{
    CacheConfig, CacheNode, Epoch, InMemoryMemory, InMemoryNetwork, Incarnation, Member, View,
};
use dss_queue::{QueueMachine, ReplicatedBroker};
use dss_raft::{
    Config, Configuration, Group, GroupId, MemoryNetwork, MemoryStorage, Node, NodeId, StateMachine,
};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::app::{App, AppInner};
use crate::audit::testing::{Disk, Trouble};
use crate::audit::{AuditLog, keep_heads};
use crate::auth::{Authority, Credential};
use crate::cache_group::{CacheMachine, CurrentCache, Standing, cache_id};
use crate::config::{Bootstrap, ClusterConfig};
use crate::control_group::{ControlCourier, ControlGroup, ControlMachine};
use crate::forward::ForwardError;
use crate::http::routing::Forward;
use crate::http::{Histogram, Http};
use crate::members::Members;
use crate::peer::Peers;
use crate::placement::ViewPlacement;
use crate::ready::{Probes, ReadyProbe};

/// Nodes `n1` to `n3`, or fewer. Time must be paused: elections then cost none.
pub(super) struct Cluster {
    nodes: Arc<Vec<Running>>,
    raft: MemoryNetwork,
    wire: Arc<Wire>,
}

struct Running {
    /// Where its audit log is, where it has one.
    folder: TempDir,
    /// The disk of that log.
    trouble: Arc<Mutex<Trouble>>,
    http: Http,
    app: App,
    /// Runs the groups for as long as it lives.
    _raft: Node,
}

/// What the nodes of a cluster have in common.
struct World {
    config: Arc<ClusterConfig>,
    size: usize,
    raft: MemoryNetwork,
    cache: InMemoryNetwork,
    memory: Arc<InMemoryMemory>,
    wire: Arc<Wire>,
}

/// Carries requests between the nodes.
struct Wire {
    nodes: OnceLock<Vec<(NodeId, Http)>>,
    controls: OnceLock<Vec<(NodeId, ControlGroup)>>,
    /// Nodes that are dead: what they were asked is lost.
    dead: watch::Sender<BTreeSet<NodeId>>,
    /// How many answers will be lost on their way.
    lost: AtomicUsize,
}

impl Wire {
    fn new() -> Self {
        let (dead, lost) = (watch::Sender::default(), AtomicUsize::new(0));
        Self { nodes: OnceLock::new(), controls: OnceLock::new(), dead, lost }
    }
}

#[async_trait]
impl Forward for Wire {
    fn knows(&self, node: NodeId) -> bool {
        self.nodes.get().is_some_and(|nodes| nodes.iter().any(|(known, _)| *known == node))
    }

    async fn forward(
        &self,
        to: NodeId,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ForwardError> {
        let nodes = self.nodes.get().ok_or(ForwardError::Unreachable)?;
        let (_, http) =
            nodes.iter().find(|(node, _)| *node == to).ok_or(ForwardError::Unreachable)?;
        let mut dead = self.dead.subscribe();
        if dead.borrow().contains(&to) {
            return Err(ForwardError::Unreachable);
        }
        let answer = tokio::select! {
            answer = http.forwarded(request) => answer,
            _ = dead.wait_for(|dead| dead.contains(&to)) => return Err(ForwardError::Lost),
        };
        let is_lost = |left: usize| left.checked_sub(1);
        match self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_lost) {
            Ok(_) => Err(ForwardError::Lost),
            Err(_) => Ok(answer),
        }
    }
}

#[async_trait]
impl ControlCourier for Wire {
    async fn carry(&self, leader: NodeId, command: Bytes) -> Option<Bytes> {
        let (_, control) = self.controls.get()?.iter().find(|(node, _)| *node == leader)?;
        if self.dead.borrow().contains(&leader) {
            return None;
        }
        Some(control.answer(command).await)
    }
}

impl Cluster {
    pub(super) async fn start(size: usize) -> Self {
        Self::start_configured(size, ClusterConfig::local()).await
    }

    /// The same of nodes that want tokens, with more settings, and the first token.
    pub(super) async fn start_guarded(size: usize, more: &[&str]) -> (Self, Credential) {
        let admin = Credential::generate().expect("there is randomness");
        let bootstrap = Bootstrap { id: admin.id().to_owned(), secret: admin.hash() };
        let settings = ["auth.enabled=true".to_owned(), format!("auth.bootstrap={bootstrap}")];
        let more = more.iter().map(|setting| (*setting).to_owned());
        let settings = settings.into_iter().chain(more);
        let settings = settings.map(|setting| setting.parse().expect("a setting"));
        let config = ClusterConfig::local().with_settings(settings).expect("good settings");
        (Self::start_configured(size, config).await, admin)
    }

    /// A node, and a client of it that may do everything.
    pub(super) async fn start_with_admin() -> Client {
        let (cluster, admin) = Self::start_guarded(1, &[]).await;
        cluster.client(0).with_token(admin.reveal())
    }

    /// The same of nodes that are configured like this.
    pub(super) async fn start_configured(size: usize, config: ClusterConfig) -> Self {
        let world = World {
            config: Arc::new(config),
            size,
            raft: MemoryNetwork::new(),
            cache: InMemoryNetwork::new(),
            memory: Arc::new(InMemoryMemory::new()),
            wire: Arc::new(Wire::new()),
        };
        let mut nodes = Vec::new();
        for place in 0..size {
            nodes.push(world.start_node(place).await);
        }
        let wired = nodes.iter().map(|node| (node.app.id, node.http.clone())).collect();
        assert!(world.wire.nodes.set(wired).is_ok(), "a cluster is wired once");
        let controls = nodes.iter().map(|node| (node.app.id, node.app.control.clone())).collect();
        assert!(world.wire.controls.set(controls).is_ok(), "a cluster is wired once");
        Self { nodes: Arc::new(nodes), raft: world.raft, wire: world.wire }
    }

    /// From here on the node at this place hears nobody, and its answers on their way are kept up.
    pub(super) fn cut_off(&self, place: usize) {
        self.raft.isolate(self.nodes[place].app.id);
    }

    /// The node at this place is dead for all others.
    pub(super) fn kill(&self, place: usize) {
        self.cut_off(place);
        self.wire.dead.send_modify(|dead| {
            dead.insert(self.nodes[place].app.id);
        });
    }

    /// The next request that is forwarded is done, and its answer lost.
    pub(super) fn lose_an_answer(&self) {
        self.wire.lost.store(1, Ordering::Relaxed);
    }

    /// The cache of a life that is in no view.
    pub(super) fn lifeless_cache(&self) -> CacheNode {
        let member = Member { node: cache_id(NodeId::new(1)), incarnation: Incarnation::new(1) };
        let config = CacheConfig::default();
        let transport = InMemoryNetwork::new().transport(member.node);
        let placement = self.nodes[0].app.placement.clone();
        CacheNode::start(config, member, Arc::new(InMemoryMemory::new()), transport, placement)
    }

    /// The caches of the node at this place.
    pub(super) fn caches(&self, place: usize) -> &CurrentCache {
        &self.nodes[place].app.caches
    }

    /// The queues of the node at this place, without HTTP before them.
    pub(super) fn queues(&self, place: usize) -> Arc<dyn dss_queue::Broker> {
        Arc::clone(&self.nodes[place].app.queues)
    }

    /// A client of the node at this place; the cluster runs for as long as it has one.
    pub(super) fn client(&self, place: usize) -> Client {
        let node = &self.nodes[place];
        Client::new(node.http.router(), &node.app.name, Arc::clone(&self.nodes) as _)
    }

    /// Where the node at this place keeps its audit log.
    pub(super) fn audit_folder(&self, place: usize) -> &Path {
        self.nodes[place].folder.path()
    }

    /// The disk that this log is on.
    pub(super) fn audit_disk(&self, place: usize) -> MutexGuard<'_, Trouble> {
        self.nodes[place].trouble.lock().unwrap()
    }

    /// What operators have decided, as the node at this place knows it.
    pub(super) fn control(&self, place: usize) -> &ControlGroup {
        &self.nodes[place].app.control
    }

    /// The place of the node that leads the locks, once there is one.
    pub(super) async fn leader_of_locks(&self) -> usize {
        let mut leadership = self.nodes[0].app.lock_group.leadership();
        let led = leadership.wait_for(|leadership| leadership.leader.is_some());
        let leader = led.await.expect("the group runs").leader;
        let is_leader = |node: &Running| Some(node.app.id) == leader;
        self.nodes.iter().position(is_leader).expect("a member leads")
    }
}

impl World {
    async fn start_node(&self, place: usize) -> Running {
        let (id, name) = {
            let node = &self.config.nodes()[place];
            (node.id, node.name.clone())
        };
        let raft = Node::start(MemoryStorage::new(), self.raft.transport(id));
        self.raft.attach(id, &raft);
        let (machine, lock_events) = LockMachine::new();
        let lock_group = self.start_group(&raft, id, 0, machine).await;
        let (machine, _) = CacheMachine::new();
        let cache_group = self.start_group(&raft, id, 1, machine).await;
        let (machine, state) = ControlMachine::new();
        let control = self.start_group(&raft, id, 2, machine).await;
        let courier = Arc::clone(&self.wire) as Arc<dyn ControlCourier>;
        let control = ControlGroup::new(control, state, courier, id);
        let authority = Arc::new(Authority::new(
            self.config.auth(),
            &self.config.limits(),
            control.clone(),
            Arc::new(AtomicBool::new(true)),
        ));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (audit, trouble) = self.open_audit(folder.path(), &name, &control);
        let (machine, events) = QueueMachine::new();
        let queue_group = self.start_group(&raft, id, 16, machine).await;
        let shards = vec![("shard-0".to_owned(), queue_group.clone(), events)];
        let placement = Arc::new(ViewPlacement::new(Members::of_file(Arc::clone(&self.config))));
        let (cache, member, view) = self.start_cache(id, Arc::clone(&placement));
        let standing = Standing { member, until: Some(far()) };
        let app = App::from(AppInner {
            id,
            name,
            config: Arc::clone(&self.config),
            members: Members::following(Arc::clone(&self.config), control.follow()),
            locks: LockService::start(lock_group.clone(), lock_events),
            queues: Arc::new(ReplicatedBroker::start(shards)),
            caches: Arc::new(CurrentCache::new(cache)),
            lock_group,
            cache_group,
            control: control.clone(),
            authority,
            audit,
            queue_groups: vec![queue_group],
            log_writes: Arc::new(Histogram::of_writes()),
            peers: Peers::new(&self.config, id, None),
            ready: ReadyProbe::new(Probes {
                groups: Vec::new(),
                view: view.clone(),
                standing: watch::channel(standing).1,
                stopping: CancellationToken::new(),
                log_failed: Box::new(|| false),
                redis: None,
            }),
            view,
            demo: None,
            placement,
        });
        let wire = Arc::clone(&self.wire) as Arc<dyn Forward>;
        Running { http: Http::with_peers(app.clone(), wire), app, folder, trouble, _raft: raft }
    }

    fn open_audit(
        &self,
        folder: &Path,
        node: &str,
        control: &ControlGroup,
    ) -> (Option<AuditLog>, Arc<Mutex<Trouble>>) {
        if self.config.audit().is_none() {
            return Default::default();
        }
        let (log, trouble) = Disk::open(folder, node);
        tokio::spawn(keep_heads(log.clone(), control.clone()));
        (Some(log), trouble)
    }

    async fn start_group<M: StateMachine>(
        &self,
        raft: &Node,
        node: NodeId,
        group: u32,
        machine: M,
    ) -> Group<M> {
        let members = self.config.nodes()[..self.size].iter().map(|node| node.id);
        let config = Config::new(node, node.get());
        let members = Configuration::of_voters(members);
        let started = raft.start_group(GroupId::new(group), config, members, machine);
        started.await.expect("an empty storage starts")
    }

    fn start_cache(
        &self,
        node: NodeId,
        placement: Arc<ViewPlacement>,
    ) -> (CacheNode, Member, watch::Receiver<View>) {
        let member = |node| Member { node: cache_id(node), incarnation: Incarnation::new(1) };
        let nodes = &self.config.nodes()[..self.size];
        let mut members: Vec<_> = nodes.iter().map(|node| member(node.id)).collect();
        members.sort();
        let view = View { epoch: Epoch::new(1), members };
        let transport = self.cache.transport(cache_id(node));
        let memory = Arc::clone(&self.memory) as Arc<dyn dss_mesi::Memory>;
        let config = CacheConfig::default();
        let cache = CacheNode::start(config, member(node), memory, transport, placement);
        self.cache.attach(cache_id(node), &cache);
        cache.set_lease(far());
        cache.set_view(view.clone());
        (cache, member(node), watch::channel(view).1)
    }
}

/// Later than any test ends.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(365 * 24 * 60 * 60)
}
