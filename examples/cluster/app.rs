//! What every handler gets.

use std::ops::Deref;
use std::sync::Arc;

use dss_lock::{LockMachine, LockService};
use dss_mesi::{CacheNode, View};
use dss_queue::{Broker, QueueMachine};
use dss_raft::{Group, NodeId};
use dss_ring::HashRing;
use tokio::sync::watch;

use crate::audit::AuditLog;
use crate::auth::Authority;
use crate::cache_group::{CacheMachine, CurrentCache};
use crate::config::ClusterConfig;
use crate::control_group::ControlGroup;
use crate::demo::Demo;
use crate::http::Histogram;
use crate::members::Members;
use crate::peer::Peers;
use crate::placement::ViewPlacement;
use crate::ready::ReadyProbe;

/// A running node, as its handlers see it.
#[derive(Clone)]
pub(crate) struct App(Arc<AppInner>);

/// The parts of a running node.
pub(crate) struct AppInner {
    /// What Raft calls this node.
    pub(crate) id: NodeId,
    /// What people call it.
    pub(crate) name: String,
    /// The cluster that it is part of, as its file describes it.
    pub(crate) config: Arc<ClusterConfig>,
    /// Who belongs to the cluster now.
    pub(crate) members: Members,
    /// Locks; only their group's leader answers.
    pub(crate) locks: LockService,
    /// Queues; only the leader of a topic's shard answers.
    pub(crate) queues: Arc<dyn Broker>,
    /// The coherent cache of this node's current life.
    pub(crate) caches: Arc<CurrentCache>,
    /// The Raft group behind the locks.
    pub(crate) lock_group: Group<LockMachine>,
    /// The Raft group behind the cache: its view, and main memory where that is embedded.
    pub(crate) cache_group: Group<CacheMachine>,
    /// What operators have decided.
    pub(crate) control: ControlGroup,
    /// Who may call.
    pub(crate) authority: Arc<Authority>,
    /// Where it is written down who did what, where it is.
    pub(crate) audit: Option<AuditLog>,
    /// The Raft groups behind the queues; none where those are in Redis.
    pub(crate) queue_groups: Vec<Group<QueueMachine>>,
    /// How long the log takes to make writes durable.
    pub(crate) log_writes: Arc<Histogram>,
    /// The other nodes.
    pub(crate) peers: Peers,
    /// Whether the node can serve.
    pub(crate) ready: ReadyProbe,
    /// The cache's view, as this node knows it.
    pub(crate) view: watch::Receiver<View>,
    /// Where nodes are stopped and cut off on purpose, if that is what the cluster is for.
    pub(crate) demo: Option<Demo>,
    /// Where the cache's keys live.
    pub(crate) placement: Arc<ViewPlacement>,
}

impl App {
    /// The cache to use for one operation.
    pub(crate) fn cache(&self) -> CacheNode {
        self.caches.get()
    }

    /// The ring over node names by which the cache is placed at this moment, where that is known.
    pub(crate) fn ring(&self) -> Option<Arc<HashRing<String>>> {
        let view = self.view.borrow().clone();
        self.placement.ring(&view)
    }
}

impl From<AppInner> for App {
    fn from(inner: AppInner) -> Self {
        Self(Arc::new(inner))
    }
}

impl Deref for App {
    type Target = AppInner;

    fn deref(&self) -> &AppInner {
        &self.0
    }
}
