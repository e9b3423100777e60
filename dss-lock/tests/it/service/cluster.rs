//! Three nodes with a lock service each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dss_lock::{
    AcquireError, AcquireRequest, Courier, Grant, LockMachine, LockService, ReleaseRequest,
    ServiceError, Withdrawal,
};
use dss_raft::{
    Config, Configuration, Group, GroupId, MemoryNetwork, MemoryStorage, Node, NodeId, RoleKind,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::script::{lock, owner};

pub(crate) const GROUP: GroupId = GroupId::new(0);

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node)
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the task ends in. No test takes so long, in virtual time, that nothing is stuck.
pub(crate) async fn end<T>(task: JoinHandle<T>) -> T {
    timeout(Duration::from_secs(100), task).await.expect("it ends").expect("it does not panic")
}

pub(crate) type Services = Arc<Mutex<BTreeMap<NodeId, LockService>>>;

/// Carries withdrawals from service to service, as bytes.
struct Carrier(Services);

#[async_trait]
impl Courier for Carrier {
    async fn carry(&self, leader: NodeId, withdrawal: Withdrawal) -> bool {
        let service = self.0.lock().unwrap().get(&leader).cloned();
        let withdrawal = Withdrawal::decode(&withdrawal.encode()).unwrap();
        match service {
            Some(service) => service.withdraw(withdrawal).await.is_ok(),
            None => false,
        }
    }
}

pub(crate) struct Cluster {
    pub(crate) network: MemoryNetwork,
    disks: BTreeMap<NodeId, MemoryStorage>,
    nodes: BTreeMap<NodeId, Node>,
    pub(crate) groups: BTreeMap<NodeId, Group<LockMachine>>,
    pub(crate) services: Services,
    couriers: bool,
    compact_after: u64,
    starts: u64,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(true, 20_000).await
    }

    pub(crate) async fn start_with(couriers: bool, compact_after: u64) -> Self {
        let mut cluster = Self {
            network: MemoryNetwork::new(),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            services: Services::default(),
            couriers,
            compact_after,
            starts: 0,
        };
        for node in [1, 2, 3].map(id) {
            cluster.start_node(node).await;
        }
        cluster
    }

    pub(crate) async fn start_node(&mut self, id: NodeId) {
        let disk = self.disks.entry(id).or_default().clone();
        let node = Node::start(disk, self.network.transport(id));
        self.network.attach(id, &node);
        self.starts += 1;
        let config = Config::new(id, id.get() * 1000 + self.starts)
            .compaction(self.compact_after, usize::MAX);
        let members = Configuration::of_voters([1, 2, 3].map(self::id));
        let (machine, events) = LockMachine::new();
        let group = node.start_group(GROUP, config, members, machine).await.unwrap();
        let service = if self.couriers {
            let courier = Arc::new(Carrier(Arc::clone(&self.services)));
            LockService::start_with_courier(group.clone(), events, courier)
        } else {
            LockService::start(group.clone(), events)
        };
        self.nodes.insert(id, node);
        self.groups.insert(id, group);
        self.services.lock().unwrap().insert(id, service);
    }

    /// Stops the node as a crash would.
    pub(crate) fn crash(&mut self, node: NodeId) {
        self.services.lock().unwrap().remove(&node);
        self.nodes.remove(&node);
        self.groups.remove(&node);
    }

    pub(crate) fn service(&self, node: NodeId) -> LockService {
        self.services.lock().unwrap()[&node].clone()
    }

    /// The node that leads in the newest term, once one does.
    pub(crate) async fn leader(&self) -> NodeId {
        self.leader_beside(None).await
    }

    /// The leader among the nodes other than `without`.
    pub(crate) async fn leader_beside(&self, without: Option<NodeId>) -> NodeId {
        let elected = async {
            loop {
                let leads = |group: &Group<_>| group.status().role == RoleKind::Leader;
                let groups = self.groups.iter().filter(|(node, _)| Some(**node) != without);
                let leaders = groups.filter(|(_, group)| leads(group));
                if let Some((leader, _)) = leaders.max_by_key(|(_, group)| group.status().term) {
                    return *leader;
                }
                sleep(millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), elected).await.expect("a majority elects a leader")
    }

    /// The service of the leader.
    pub(crate) async fn led(&self) -> LockService {
        self.service(self.leader().await)
    }

    /// Moves leadership; the new leader.
    pub(crate) async fn transfer(&self) -> NodeId {
        let old = self.leader().await;
        self.groups[&old].transfer_leadership(None).await.unwrap();
        self.leader_beside(Some(old)).await
    }

    /// Acquires what is free, on whichever node leads.
    pub(crate) async fn take(&self, request: AcquireRequest) -> Grant {
        let begun = Instant::now();
        loop {
            match self.led().await.acquire(request.clone()).await {
                Ok(grant) => return grant,
                Err(AcquireError::Service(ServiceError::NotLeader { .. })) => {
                    sleep(millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody grants it");
        }
    }

    pub(crate) async fn release(&self, who: &str, name: &str) {
        let owner = owner(who);
        let (session, owner) = (owner.session, owner.owner);
        let request = ReleaseRequest { lock: lock(name), session, owner, token: None };
        self.led().await.release(request).await.unwrap();
    }

    /// Asks `node` for a lock in a task of its own, and comes back once it waits.
    pub(crate) async fn wait(
        &self,
        node: NodeId,
        request: AcquireRequest,
    ) -> JoinHandle<Result<Grant, AcquireError>> {
        let service = self.service(node);
        let (name, session) = (request.lock.clone(), request.session.clone());
        let waiting = tokio::spawn(async move { service.acquire(request).await });
        let queued = async {
            loop {
                let info = self.led().await.lock(name.clone()).await;
                let queue = info.ok().flatten().map(|info| info.queue).unwrap_or_default();
                if queue.iter().any(|waiter| waiter.session == session) {
                    return;
                }
                sleep(millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), queued).await.expect("it comes to wait");
        waiting
    }

    /// Who holds the lock and how many wait for it, as the leader has it.
    pub(crate) async fn state(&self, name: &str) -> (Vec<String>, usize) {
        let begun = Instant::now();
        loop {
            if let Ok(info) = self.led().await.lock(lock(name)).await {
                let Some(info) = info else { return (Vec::new(), 0) };
                let holders = info.holders.iter().map(|holder| holder.session.to_string());
                return (holders.collect(), info.queue.len());
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody answers");
            sleep(millis(20)).await;
        }
    }

    /// Waits until the lock is held by these and waited for by so many.
    pub(crate) async fn becomes(&self, name: &str, holders: &[&str], waiting: usize) {
        let begun = Instant::now();
        loop {
            let state = self.state(name).await;
            if state.0 == holders && state.1 == waiting {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{name} stays {state:?}");
            sleep(millis(20)).await;
        }
    }
}
