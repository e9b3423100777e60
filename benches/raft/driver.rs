//! What every replicated service on tokio can do, and dss-raft's.

use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Group, GroupId, LogIndex, MemoryNetwork, MemoryStorage, Node, NodeId,
    RestoreError, StateMachine,
};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Three nodes of some Raft in this process, in memory, each with tasks of its own.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// What it is called in the tables.
    const NAME: &'static str;

    /// Starts the nodes and waits until they have a leader.
    fn start() -> impl Future<Output = Self>;

    /// Has the leader replicate and apply an empty command.
    fn write(&self) -> impl Future<Output = ()> + Send;
}

/// How long so many clients take until each of them has written so often, one write after the
/// other.
pub(crate) async fn closed_loop<S: Service>(service: &S, clients: u64, writes: u64) -> Duration {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let service = service.clone();
        running.spawn(async move {
            for _ in 0..writes {
                service.write().await;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("a client ends well");
    }
    begun.elapsed()
}

/// The runtime that every member runs on: nodes and clients share a thread per core.
pub(crate) fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a process may have threads")
}

/// The leader of three nodes of dss-raft, and what keeps the others.
#[derive(Clone)]
pub(crate) struct DssRaft {
    leader: Group<Machine>,
    _nodes: Vec<Node>,
}

impl Service for DssRaft {
    const NAME: &'static str = "dss-raft";

    async fn start() -> Self {
        let network = MemoryNetwork::new();
        let members = Configuration::of_voters((1..=3).map(NodeId::new));
        let (mut nodes, mut groups) = (Vec::new(), Vec::new());
        for id in members.voters.clone() {
            let node = Node::start(MemoryStorage::new(), network.transport(id));
            network.attach(id, &node);
            let config = Config::new(id, id.get());
            let group = node.start_group(GroupId::new(0), config, members.clone(), Machine).await;
            groups.push(group.expect("there is nothing to restore"));
            nodes.push(node);
        }
        let mut leadership = groups[0].leadership();
        let elected = leadership.wait_for(|now| now.leader.is_some()).await;
        let elected = elected.expect("the group runs").leader;
        let leader = groups.into_iter().find(|group| Some(group.status().node) == elected);
        Self { leader: leader.expect("one of them"), _nodes: nodes }
    }

    async fn write(&self) {
        self.leader.propose(Bytes::new()).await.expect("it leads");
    }
}

/// The state machine: it counts for nothing.
pub(crate) struct Machine;

impl StateMachine for Machine {
    type Reply = ();

    fn apply(&mut self, _: LogIndex, _: &Bytes) {}

    fn snapshot(&self) -> Bytes {
        Bytes::new()
    }

    fn restore(&mut self, _: &Bytes) -> Result<(), RestoreError> {
        Ok(())
    }
}
