//! Three nodes in one process, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use dss_queue::{Broker, BrokerError, Delivery, QueueMachine, ReceiveRequest, ReplicatedBroker};
use dss_raft::{
    Config, Configuration, Group, GroupId, MemoryNetwork, MemoryStorage, Node, NodeId, RoleKind,
};

use crate::bench::{consumer, group, topic};

pub(crate) const SHARDS: [&str; 3] = ["shard-0", "shard-1", "shard-2"];

pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) node: Node,
    pub(crate) groups: Vec<Group<QueueMachine>>,
    pub(crate) broker: Arc<ReplicatedBroker>,
}

pub(crate) struct Cluster {
    pub(crate) network: MemoryNetwork,
    disks: Vec<MemoryStorage>,
    founders: usize,
    shards: usize,
    compact_after: u64,
    starts: u64,
    pub(crate) members: Vec<Member>,
}

impl Cluster {
    /// One that takes snapshots often.
    pub(crate) async fn start(shards: usize) -> Self {
        Self::start_compacting(shards, 40).await
    }

    /// One that begins with topics on the first `founders` of its shards.
    pub(crate) async fn start_among(founders: usize, shards: usize) -> Self {
        Self::begin(founders, shards, 40).await
    }

    pub(crate) async fn start_compacting(shards: usize, compact_after: u64) -> Self {
        Self::begin(shards, shards, compact_after).await
    }

    async fn begin(founders: usize, shards: usize, compact_after: u64) -> Self {
        let disks = (0..3).map(|_| MemoryStorage::default()).collect();
        let network = MemoryNetwork::new();
        let members = Vec::new();
        let mut cluster =
            Self { network, disks, founders, shards, compact_after, starts: 0, members };
        cluster.boot().await;
        cluster
    }

    /// Every node stops as in a crash, and starts from its disk.
    pub(crate) async fn restart(&mut self) {
        self.members.clear();
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.network = MemoryNetwork::new();
        self.boot().await;
    }

    async fn boot(&mut self) {
        for number in 0..3 {
            let id = NodeId::new(number + 1);
            let disk = self.disks[usize::try_from(number).expect("small")].clone();
            let node = Node::start(disk, self.network.transport(id));
            self.network.attach(id, &node);
            let mut shards = Vec::new();
            for (number, name) in (16..).zip(&SHARDS[..self.shards]) {
                self.starts += 1;
                let is_founder = shards.len() < self.founders;
                let (machine, events) =
                    if is_founder { QueueMachine::new() } else { QueueMachine::outside() };
                let config = Config::new(id, self.starts).compaction(self.compact_after, 1 << 20);
                let members = Configuration::of_voters((1..=3).map(NodeId::new));
                let group = node.start_group(GroupId::new(number), config, members, machine);
                shards.push(((*name).to_owned(), group.await.expect("a good start"), events));
            }
            let groups = shards.iter().map(|(_, group, _)| group.clone()).collect();
            let founders = SHARDS[..self.founders].iter().map(|name| (*name).to_owned()).collect();
            let broker = Arc::new(ReplicatedBroker::start_among(founders, shards));
            self.members.push(Member { id, node, groups, broker });
        }
    }

    /// The member that leads the first shard, among those that are connected.
    pub(crate) async fn leader(&self, isolated: Option<NodeId>) -> &Member {
        for _ in 0..1_000 {
            let leads = |member: &&Member| {
                Some(member.id) != isolated && member.groups[0].status().role == RoleKind::Leader
            };
            if let Some(leader) = self.members.iter().find(leads) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody is elected within 20 s");
    }

    pub(crate) fn others(&self, leader: NodeId) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.id != leader)
    }
}

impl Member {
    pub(crate) async fn receive(
        &self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery>, BrokerError> {
        let request = ReceiveRequest { consumer: consumer(), max, wait, visibility: None };
        self.broker.receive(&topic("orders"), &group("g"), request).await
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.groups[0].status().last_index.get()
    }
}
