//! How many messages an operation waits for, one after the other.

use std::sync::Arc;
use std::time::Duration;

use dss_mesi::{
    CacheConfig, CacheNode, Condition, InMemoryMemory, InMemoryNetwork, Message, NodeId, Placement,
    Transport, View, WritePolicy,
};
use tokio::time::Instant;

use crate::cluster::{bytes, member, view};

/// How long each message takes: four of them less than a repetition.
const HOP: Duration = Duration::from_millis(10);

/// The home of every key is node 3.
#[derive(Debug)]
struct Third;

impl Placement for Third {
    fn home(&self, _: &[u8], _: &View) -> Option<NodeId> {
        Some(NodeId::new(3))
    }
}

struct Slow(Arc<dyn Transport>);

impl Transport for Slow {
    fn send(&self, to: NodeId, message: Message) {
        let transport = self.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(HOP).await;
            transport.send(to, message);
        });
    }
}

fn start(config: &CacheConfig) -> Vec<CacheNode> {
    let (network, memory) = (InMemoryNetwork::new(), Arc::new(InMemoryMemory::new()));
    let nodes: Vec<_> = (1..=3)
        .map(|number| {
            let transport = Arc::new(Slow(network.transport(NodeId::new(number))));
            let (config, member) = (config.clone(), member(number));
            let node = CacheNode::start(config, member, memory.clone(), transport, Arc::new(Third));
            network.attach(NodeId::new(number), &node);
            node.set_lease(Instant::now() + Duration::from_secs(3_600));
            node
        })
        .collect();
    for node in &nodes {
        node.set_view(view(1, &[1, 2, 3]));
    }
    nodes
}

/// How many messages one after the other the operation takes.
async fn hops<R>(operation: impl Future<Output = R>) -> u128 {
    let begun = Instant::now();
    operation.await;
    begun.elapsed().as_millis() / HOP.as_millis()
}

async fn put(node: &CacheNode) {
    node.put(bytes("k"), bytes("v"), Condition::None).await.unwrap();
}

async fn get(node: &CacheNode) {
    node.get(bytes("k")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn operations_wait_for_as_few_messages_as_may_be() {
    let flush = Duration::from_secs(3_600);
    let nodes = start(&CacheConfig::new().policy(WritePolicy::WriteBack { flush }));
    let [one, two, home] = &nodes[..] else { unreachable!() };
    // Until all have surrendered to the home.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(hops(get(one)).await, 2, "a miss");
    assert_eq!(hops(get(one)).await, 0, "a hit");
    assert_eq!(hops(put(one)).await, 0, "a write of a line that is owned");
    assert_eq!(hops(get(two)).await, 4, "a read of what another node has written");
    get(home).await;
    assert_eq!(hops(put(home)).await, 2, "a write of a line that three share");
    assert_eq!(hops(put(one)).await, 2, "a write of what its home has written");
    for _ in 0..5 {
        assert_eq!(hops(put(two)).await, 4, "and back");
        assert_eq!(hops(put(one)).await, 4, "and forth");
    }
}
