//! Three nodes, their views and leases.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{
    CacheConfig, CacheNode, Epoch, InMemoryMemory, InMemoryNetwork, Incarnation, Member, NodeId,
    RendezvousPlacement, View,
};
use tokio::time::Instant;

/// Longer than any test.
const LEASE: Duration = Duration::from_secs(3_600);

pub(crate) struct Cluster {
    pub(crate) network: InMemoryNetwork,
    pub(crate) memory: InMemoryMemory,
    pub(crate) nodes: Vec<CacheNode>,
}

pub(crate) fn member(node: u64) -> Member {
    Member { node: NodeId::new(node), incarnation: Incarnation::new(1) }
}

pub(crate) fn view(epoch: u64, nodes: &[u64]) -> View {
    let members = nodes.iter().map(|node| member(*node)).collect();
    View { epoch: Epoch::new(epoch), members }
}

impl Cluster {
    /// `count` nodes, numbered from 1, in view 1, with leases that outlast the test.
    pub(crate) fn start(count: u64, config: &CacheConfig) -> Self {
        Self::start_leased(count, config, LEASE)
    }

    /// The same, with leases of this length.
    pub(crate) fn start_leased(count: u64, config: &CacheConfig, lease: Duration) -> Self {
        let configs: Vec<CacheConfig> = (0..count).map(|_| config.clone()).collect();
        Self::start_each_leased(&configs, lease)
    }

    /// The same, each with its own configuration.
    pub(crate) fn start_each(configs: &[CacheConfig]) -> Self {
        Self::start_each_leased(configs, LEASE)
    }

    fn start_each_leased(configs: &[CacheConfig], lease: Duration) -> Self {
        let (network, memory) = (InMemoryNetwork::new(), InMemoryMemory::new());
        let numbers: Vec<u64> = (1..=configs.len() as u64).collect();
        let view = view(1, &numbers);
        let nodes: Vec<CacheNode> = numbers
            .into_iter()
            .zip(configs)
            .map(|(number, config)| {
                let node = CacheNode::start(
                    config.clone(),
                    member(number),
                    Arc::new(memory.clone()),
                    network.transport(NodeId::new(number)),
                    Arc::new(RendezvousPlacement),
                );
                network.attach(NodeId::new(number), &node);
                node.set_lease(Instant::now() + lease);
                node.set_view(view.clone());
                node
            })
            .collect();
        Self { network, memory, nodes }
    }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
