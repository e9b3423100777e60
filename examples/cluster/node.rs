//! One node: everything that it is made of, wired together, started and stopped.

mod cache;
mod clients;
mod groups;
mod inbox;
mod listen;
mod measured;
mod queues;
mod spread;
mod voters;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use dss_lock::{LockMachine, LockService};
use dss_mesi::{Incarnation, Memory};
use dss_queue::ReplicatedBroker;
use dss_raft::{FileStorage, GroupId, Identity, Node, NodeId, StartGroupError, StorageError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::cache::CacheParts;
use self::clients::Clients;
use self::groups::Groups;
use self::inbox::NodeInbox;
use self::measured::Measured;
pub(crate) use self::queues::FIRST_SHARD;
use self::queues::Queues;
use crate::app::{App, AppInner};
use crate::audit::{self, AuditLog};
use crate::auth::Authority;
use crate::cache_group::{CacheGroup, CacheMachine, Leases, Membership, RaftMemory};
use crate::config::{Address, ClusterConfig, NodeConfig};
use crate::control_group::{ControlGroup, ControlMachine, Standing};
use crate::demo::Demo;
use crate::http::{Histogram, Http};
use crate::life::{self, LifeError};
use crate::members::Members;
use crate::peer::Peers;
use crate::ready::{Probes, ReadyProbe};
use crate::redis::{RedisMemory, RedisNodes, Registry};
use crate::tls::{Tls, TlsError};
use crate::withdrawals::PeerCourier;

/// The Raft group of the locks.
pub(crate) const LOCKS: GroupId = GroupId::new(0);
/// The Raft group of the cache: its view and its main memory.
pub(crate) const CACHE: GroupId = GroupId::new(1);
/// The Raft group of what operators decide.
pub(crate) const CONTROL: GroupId = GroupId::new(2);
/// How long the cache may take to write back and leave.
const CACHE_LIMIT: Duration = Duration::from_secs(2);
/// How long the audit log may take to write what clients have left.
const AUDIT_LIMIT: Duration = Duration::from_secs(1);
/// How long handing over leadership and flushing the log may take.
const RAFT_LIMIT: Duration = Duration::from_secs(3);
/// How long a node that leaves the cluster waits until it is no voter any more.
const LEAVING_LIMIT: Duration = Duration::from_secs(30);
/// How often readiness is looked at while it is waited for.
const READY_POLL: Duration = Duration::from_millis(10);

/// Why a node does not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{origin}: {field}: cannot listen on {address}")]
    Listen { origin: String, field: String, address: Address, source: io::Error },
    #[error(
        "{origin}: {field}: {address} can be reached from other machines, and connections are not \
         encrypted: set tls.folder, or insecure = true"
    )]
    Exposed { origin: String, field: String, address: Address },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the data folder cannot be used")]
    Storage(#[from] StorageError),
    #[error("the data folder cannot be used")]
    Life(#[from] LifeError),
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    #[error("the log of {group} in {folder} cannot be used")]
    Group { group: String, folder: PathBuf, source: StartGroupError },
}

/// A node that has its ports and nothing else yet: its data folder is untouched.
pub(crate) struct BoundNode {
    config: Arc<ClusterConfig>,
    node: NodeConfig,
    client: TcpListener,
    peer: TcpListener,
    tls: Option<Tls>,
    demo: Option<Demo>,
}

impl BoundNode {
    /// Takes the node's ports, and what its connections are to be encrypted with.
    pub(crate) async fn bind(
        config: &Arc<ClusterConfig>,
        node: &NodeConfig,
    ) -> Result<Self, StartError> {
        let tls = Tls::load(config, node)?;
        let listen = async |which: &str, address: &Address, send_bytes: Option<u32>| {
            let (origin, field) = (config.origin().to_owned(), node.field(which));
            let address = address.clone();
            match listen::on(&address, send_bytes).await {
                Ok((_, false)) if !config.may_be_exposed() => {
                    Err(StartError::Exposed { origin, field, address })
                }
                Ok((listener, _)) => Ok(listener),
                Err(source) => Err(StartError::Listen { origin, field, address, source }),
            }
        };
        Ok(Self {
            client: listen("client", &node.client, Some(listen::CLIENT_SEND_BYTES)).await?,
            peer: listen("peer", &node.peer, None).await?,
            tls,
            config: config.clone(),
            node: node.clone(),
            demo: None,
        })
    }

    /// The same node, where clients may play with the cluster.
    pub(crate) fn with_demo(mut self, demo: Option<Demo>) -> Self {
        self.demo = demo;
        self
    }

    /// Opens the node's data folder and starts everything.
    pub(crate) async fn start(self) -> Result<RunningNode, StartError> {
        let folder = self.config.data_dir().join(&self.node.name);
        let identity = Identity {
            cluster: self.config.cluster().to_owned(),
            node: self.node.id,
            name: self.node.name.clone(),
        };
        // Looked at before the log is opened, which may change the folder.
        blocking(&folder, life::check).await?;
        let storage = FileStorage::open(&folder, identity).await?;
        let peers = Peers::new(&self.config, self.node.id, self.tls.clone());
        let log_writes = Arc::new(Histogram::of_writes());
        let storage = Measured::new(storage, Arc::clone(&log_writes));
        let raft = Node::start(storage, Arc::new(peers.clone()));
        let mut groups = Groups::new(&self.config, self.node.id, raft.clone(), folder);
        match self.assemble(&mut groups, peers, log_writes).await {
            Ok(running) => Ok(running),
            Err(error) => {
                raft.shutdown().await;
                Err(error)
            }
        }
    }

    async fn assemble(
        self,
        groups: &mut Groups,
        peers: Peers,
        log_writes: Arc<Histogram>,
    ) -> Result<RunningNode, StartError> {
        let Self { config, node, client, peer, tls, demo } = self;
        let (machine, lock_events) = LockMachine::new();
        let lock_group = groups.start("locks", LOCKS, machine).await?;
        let (machine, cache_events) = CacheMachine::new();
        let cache_group = groups.start("cache", CACHE, machine).await?;
        let control = start_control(groups, &peers, node.id).await?;
        let authority = Arc::new(Authority::new(
            config.auth(),
            &config.limits(),
            control.clone(),
            groups.last_caught_up(),
        ));
        let redis = config.redis();
        let servers = (!redis.is_empty()).then(|| RedisNodes::start(redis.to_vec()));
        let copied = servers.as_ref().map(|servers| (servers, config.redis_copies()));
        let queues = Queues::start(groups, config.cluster(), copied).await?;

        let group = CacheGroup::new(cache_group.clone(), peers.clone(), node.id);
        // Every log was readable: only now does the node change what is stored.
        let life = blocking(groups.folder(), |folder| life::begin(folder, 0)).await?;
        let life = (groups.folder().to_owned(), Incarnation::new(life));
        let courier = Arc::new(PeerCourier::new(peers.clone()));
        let registry: Arc<dyn Registry> = Arc::new(group.clone());
        let redis = servers.map(|servers| RedisMemory::start(config.cluster(), servers, &registry));
        let memory: Arc<dyn Memory> = match &redis {
            Some(redis) => Arc::new(redis.clone()),
            None => Arc::new(RaftMemory::new(group.clone())),
        };
        let (events, ports) = (cache_events, (memory, peers.clone()));
        let members = Members::new(config.clone(), control.follow(), groups.folder());
        tokio::spawn(members.clone().remember(groups.folder().to_owned()));
        let CacheParts { caches, leases, membership, placement, view } =
            CacheParts::start(&node, &config, &members, &group, ports, events, life);
        let (stopping, log) = (CancellationToken::new(), groups.raft.clone());
        let ready = ReadyProbe::new(Probes {
            groups: groups.take_probes(),
            view: view.clone(),
            standing: membership.standing(),
            stopping: stopping.clone(),
            log_failed: Box::new(move || log.storage_failure().is_some()),
            redis,
        });
        let audit = open_audit(&config, &node, groups.folder(), &control, &stopping)?;
        let app = App::from(AppInner {
            id: node.id,
            name: node.name,
            config,
            members,
            locks: LockService::start_with_courier(lock_group.clone(), lock_events, courier),
            queues: queues.broker,
            caches,
            lock_group,
            cache_group,
            control,
            authority,
            audit,
            queue_groups: queues.groups,
            log_writes,
            peers,
            ready,
            view,
            demo,
            placement,
        });
        let raft = groups.raft.clone();
        let node = RunningNode::serve(app, raft, membership, leases, tls, (client, peer));
        Ok(node.spreading(queues.spread))
    }
}

/// Starts the group of what operators decide.
async fn start_control(
    groups: &mut Groups,
    peers: &Peers,
    me: NodeId,
) -> Result<ControlGroup, StartError> {
    let (machine, state) = ControlMachine::new();
    let group = groups.start("control", CONTROL, machine).await?;
    Ok(ControlGroup::new(group, state, Arc::new(peers.clone()), me))
}

/// Goes on with the audit log, where the node is to write one.
fn open_audit(
    config: &ClusterConfig,
    node: &NodeConfig,
    folder: &Path,
    control: &ControlGroup,
    stopping: &CancellationToken,
) -> Result<Option<AuditLog>, StartError> {
    let Some(settings) = config.audit() else { return Ok(None) };
    let log = AuditLog::open(&folder.join(audit::FOLDER), &node.name, settings)?;
    let heads = audit::keep_heads(log.clone(), control.clone());
    let stopping = stopping.clone();
    tokio::spawn(async move { stopping.run_until_cancelled(heads).await });
    Ok(Some(log))
}

/// Does something with the data folder that may block.
async fn blocking<R: Send + 'static>(
    folder: &Path,
    work: fn(&Path) -> Result<R, LifeError>,
) -> Result<R, LifeError> {
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || work(&folder))
        .await
        .expect("what is done with a folder does not panic, and is not cancelled")
}

/// A node that runs.
pub(crate) struct RunningNode {
    app: App,
    raft: Node,
    membership: Membership,
    clients: Clients,
    stopping: CancellationToken,
    /// Cancelled when the node does not take part in anything any more.
    ending: CancellationToken,
}

impl RunningNode {
    /// Lets clients and other nodes in.
    fn serve(
        app: App,
        raft: Node,
        membership: Membership,
        leases: Arc<Leases>,
        tls: Option<Tls>,
        (client, peer): (TcpListener, TcpListener),
    ) -> Self {
        let header = HeaderValue::from_str(&app.name)
            .expect("a node's name consists of letters, digits and a few marks");
        let http = Http::new(app.clone());
        let (router, recorder) = (http.router(), http.recorder());
        let stopping = app.ready.stopping().clone();
        let inbox = NodeInbox {
            raft: raft.clone(),
            caches: app.caches.clone(),
            leases,
            locks: app.locks.clone(),
            control: app.control.clone(),
            http: Arc::new(http),
        };
        app.peers.start(peer, Arc::new(inbox));
        app.peers.follow(app.members.clone());
        let ending = CancellationToken::new();
        voters::start(&app, &ending);
        let limits = app.config.limits();
        let answers = (router, header);
        let clients = Clients::serve(client, tls, answers, limits, recorder, stopping.clone());
        Self { app, raft, membership, clients, stopping, ending }
    }

    /// The same, doing its part in spreading these queues.
    fn spreading(self, queues: Option<Arc<ReplicatedBroker>>) -> Self {
        if let Some(queues) = queues {
            spread::start(&self.app, queues, &self.ending);
        }
        self
    }

    /// What its handlers see.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Waits until the node can serve.
    pub(crate) async fn ready(&self) {
        while self.app.ready.check().is_err() {
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// Waits until an operator has decided that the node is to leave the cluster.
    pub(crate) async fn removed(&self) {
        let mut decided = self.app.members.decided();
        loop {
            decided.mark_unchanged();
            if self.app.members.standing(&self.app.name) == Some(Standing::Leaves) {
                tracing::warn!(node = %self.app.name, "leaves the cluster, as was decided");
                return;
            }
            if decided.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Leaves the cluster for good: stops serving, and stops as a whole once it votes nowhere, so
    /// that the others need not do without a voter meanwhile.
    pub(crate) async fn leave(mut self) {
        self.stop_serving().await;
        if tokio::time::timeout(LEAVING_LIMIT, voters::let_go(&self.app)).await.is_err() {
            tracing::warn!(node = %self.app.name, "still votes somewhere, as far as it knows");
        }
        self.stop().await;
    }

    /// Stops cleanly: no new clients, the cache written back and out of the view, leadership
    /// handed over, the log flushed. Every step has a limit; what is not done by then is what a
    /// crash would have left undone.
    pub(crate) async fn shutdown(mut self) {
        self.stop_serving().await;
        self.stop().await;
    }

    /// The first part of [`shutdown`](Self::shutdown): clients and cache. The node still votes
    /// and leads: others can do the same with its help.
    pub(crate) async fn stop_serving(&mut self) {
        let name = &self.app.name;
        self.stopping.cancel();
        if !self.clients.finish().await {
            tracing::warn!(%name, "some clients were cut off");
        }
        if let Some(log) = &self.app.audit {
            let flushed = tokio::time::timeout(AUDIT_LIMIT, log.flush()).await;
            if !matches!(flushed, Ok(Ok(()))) {
                tracing::error!(%name, "the end of the audit log could not be written");
            }
        }
        if tokio::time::timeout(CACHE_LIMIT, self.membership.leave()).await.is_err() {
            tracing::warn!(%name, "the cache could not take its leave");
        }
    }

    /// The second part: Raft, its log, and the connections to the other nodes.
    pub(crate) async fn stop(self) {
        self.ending.cancel();
        if tokio::time::timeout(RAFT_LIMIT, self.raft.shutdown()).await.is_err() {
            tracing::warn!(name = %self.app.name, "leadership could not be handed over");
        }
        self.app.peers.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
