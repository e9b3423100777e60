//! Nodes in this process, that count what they send.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{
    CacheConfig, CacheNode, Epoch, InMemoryMemory, InMemoryNetwork, Incarnation, Member, Message,
    NodeId, Placement, Transport, View,
};
use tokio::time::Instant;

/// The home of every key is the last node.
#[derive(Debug)]
struct Last;

impl Placement for Last {
    fn home(&self, _: &[u8], view: &View) -> Option<NodeId> {
        view.nodes().max()
    }
}

struct Counting {
    sent: Arc<AtomicU64>,
    transport: Arc<dyn Transport>,
}

impl Transport for Counting {
    fn send(&self, to: NodeId, message: Message) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.transport.send(to, message);
    }
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<CacheNode>,
    sent: Arc<AtomicU64>,
}

impl Cluster {
    pub(crate) fn start(count: u64, config: &CacheConfig) -> Self {
        let (network, memory) = (InMemoryNetwork::new(), Arc::new(InMemoryMemory::new()));
        let sent = Arc::new(AtomicU64::new(0));
        let member = |node| Member { node: NodeId::new(node), incarnation: Incarnation::new(1) };
        let view = View { epoch: Epoch::new(1), members: (1..=count).map(member).collect() };
        let nodes: Vec<CacheNode> = (1..=count)
            .map(|number| {
                let transport = network.transport(NodeId::new(number));
                let transport = Arc::new(Counting { sent: Arc::clone(&sent), transport });
                let node = CacheNode::start(
                    config.clone(),
                    member(number),
                    Arc::clone(&memory) as _,
                    transport,
                    Arc::new(Last),
                );
                network.attach(NodeId::new(number), &node);
                node.set_lease(Instant::now() + Duration::from_secs(36_000));
                node
            })
            .collect();
        for node in &nodes {
            node.set_view(view.clone());
        }
        Self { nodes, sent }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

pub(crate) fn capacity(entries: usize) -> CacheConfig {
    let entries = NonZeroUsize::new(entries).expect("a cache of something");
    CacheConfig::new().capacity(entries, NonZeroUsize::MAX)
}

/// A key of 16 bytes without a pattern.
pub(crate) fn key(number: u32) -> Bytes {
    let mixed = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = [mixed.to_be_bytes(), mixed.rotate_left(29).to_le_bytes()].concat();
    bytes.into()
}
