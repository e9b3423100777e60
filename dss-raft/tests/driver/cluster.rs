//! Nodes in one process, on virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Group, GroupId, LogIndex, MemoryNetwork, MemoryStorage, Node, NodeId,
    ProposeError, RestoreError, RoleKind, StateMachine, Storage,
};
use tokio::time::{Instant, sleep, timeout};

pub(crate) const GROUP: GroupId = GroupId::new(0);

/// Adds up numbers, and remembers each that it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) total: u64,
    pub(crate) seen: Vec<u64>,
    /// How long each command takes.
    pub(crate) slowness: Duration,
}

/// A command that makes the machine panic.
pub(crate) const POISON: u64 = u64::MAX;

impl StateMachine for Sum {
    type Reply = u64;

    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> u64 {
        let number = command.as_ref().try_into().map(u64::from_le_bytes).unwrap_or(0);
        assert!(number != POISON, "the machine was given poison");
        if !self.slowness.is_zero() {
            std::thread::sleep(self.slowness);
        }
        self.total += number;
        self.seen.push(number);
        self.total
    }

    fn snapshot(&self) -> Bytes {
        self.seen.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        if !snapshot.len().is_multiple_of(8) {
            return Err(RestoreError { problem: "not a list of numbers" });
        }
        self.seen = snapshot
            .chunks_exact(8)
            .map(|number| u64::from_le_bytes(number.try_into().expect("chunks of eight")))
            .collect();
        self.total = self.seen.iter().sum();
        Ok(())
    }
}

pub(crate) fn command(number: u64) -> Bytes {
    number.to_le_bytes().to_vec().into()
}

pub(crate) fn id(node: u64) -> NodeId {
    NodeId::new(node)
}

/// Nodes 1 to n of one group, each with a disk that outlives it.
pub(crate) struct Cluster {
    pub(crate) network: MemoryNetwork,
    pub(crate) disks: BTreeMap<NodeId, MemoryStorage>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) groups: BTreeMap<NodeId, Group<Sum>>,
    pub(crate) members: Configuration,
    pub(crate) compact_after: u64,
    starts: u64,
}

impl Cluster {
    pub(crate) async fn start(nodes: u64) -> Self {
        Self::start_compacting(nodes, 20_000).await
    }

    pub(crate) async fn start_compacting(nodes: u64, compact_after: u64) -> Self {
        let members = Configuration::of_voters((1..=nodes).map(id));
        let mut cluster = Self {
            network: MemoryNetwork::new(),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            members,
            compact_after,
            starts: 0,
        };
        for node in cluster.members.voters.clone() {
            cluster.start_node(node).await;
        }
        cluster
    }

    /// Starts the node on the disk that it has, or on an empty one.
    pub(crate) async fn start_node(&mut self, node: NodeId) {
        let disk = self.disks.entry(node).or_default().clone();
        self.start_node_on(node, disk, Sum::default()).await;
    }

    pub(crate) async fn start_node_on(&mut self, id: NodeId, disk: impl Storage, machine: Sum) {
        let node = Node::start(disk, self.network.transport(id));
        self.network.attach(id, &node);
        let config = self.config(id);
        let group = node.start_group(GROUP, config, self.members.clone(), machine).await;
        self.groups.insert(id, group.expect("nothing is wrong with the disk"));
        self.nodes.insert(id, node);
    }

    pub(crate) fn config(&mut self, node: NodeId) -> Config {
        self.starts += 1;
        Config::new(node, node.get() * 1000 + self.starts)
            .compaction(self.compact_after, usize::MAX)
    }

    /// Stops the node as a crash would.
    pub(crate) fn crash(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.groups.remove(&node);
    }

    /// The node that leads, once one does that is not cut off.
    pub(crate) async fn leader(&self) -> NodeId {
        self.leader_among(self.groups.keys().copied().collect()).await
    }

    pub(crate) async fn leader_among(&self, nodes: Vec<NodeId>) -> NodeId {
        let elected = async {
            loop {
                let leads = |node: &&NodeId| self.groups[node].status().role == RoleKind::Leader;
                // A former leader that does not know yet is in an older term.
                let newest =
                    nodes.iter().filter(leads).max_by_key(|n| self.groups[n].status().term);
                if let Some(leader) = newest {
                    return *leader;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), elected).await.expect("a majority elects a leader")
    }

    /// Proposes on whichever node leads, until one says that it is done. Only for commands whose
    /// outcome is never unknown in the test at hand.
    pub(crate) async fn add(&self, number: u64) -> u64 {
        let begun = Instant::now();
        loop {
            let leader = self.leader().await;
            match self.groups[&leader].propose(command(number)).await {
                Ok(applied) => return applied.reply,
                Err(ProposeError::NotLeader { .. }) => sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody takes the proposal");
        }
    }

    /// What the node has applied, without asking anybody.
    pub(crate) async fn seen(&self, node: NodeId) -> Vec<u64> {
        self.groups[&node].read_local(|sum| sum.seen.clone()).await.expect("the node runs")
    }

    /// Waits until every running node has applied exactly these, in this order.
    pub(crate) async fn converged(&self, expected: &[u64]) {
        for node in self.groups.keys() {
            let same = async {
                while self.seen(*node).await != expected {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            if timeout(Duration::from_secs(20), same).await.is_err() {
                panic!("node {node} has {:?} instead of {expected:?}", self.seen(*node).await);
            }
        }
    }
}
