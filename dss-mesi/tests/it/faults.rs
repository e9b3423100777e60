//! What a program sees when nodes, the network or main memory fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dss_mesi::{
    CacheConfig, CacheError, CacheNode, Condition, Epoch, InMemoryMemory, InMemoryNetwork, Memory,
    MemoryError, NodeId, RendezvousPlacement, StoreOutcome, Stored, Version, WritePolicy,
};
use tokio::time::Instant;

use crate::cluster::{Cluster, bytes, member, view};

fn write_back() -> CacheConfig {
    CacheConfig::new().policy(WritePolicy::WriteBack { flush: Duration::from_secs(60) })
}

#[tokio::test(start_paused = true)]
async fn a_lost_node_blocks_its_lines_until_a_view_goes_on_without_it() {
    let cluster = Cluster::start(3, &CacheConfig::new());
    let [one, two, three] = &cluster.nodes[..] else { unreachable!() };
    let keys: Vec<Bytes> = (0..30).map(|number| bytes(&format!("key {number}"))).collect();
    for key in &keys {
        three.put(key.clone(), bytes("by three"), Condition::None).await.unwrap();
    }
    cluster.network.isolate(NodeId::new(3));
    let blocked = one.get(keys[0].clone()).await;
    assert_eq!(blocked, Err(CacheError::Unavailable), "node 3 may still write it");
    for node in [one, two] {
        node.set_view(view(2, &[1, 2]));
    }
    for key in &keys {
        let read = two.get(key.clone()).await.unwrap().unwrap();
        assert_eq!(read.value, bytes("by three"), "what was acknowledged is never lost");
        one.put(key.clone(), bytes("by one"), Condition::None).await.unwrap();
    }
    // Node 3 learns of it, and has nothing; its next life begins empty.
    cluster.network.heal();
    three.set_view(view(2, &[1, 2]));
    assert_eq!(three.get(keys[0].clone()).await, Err(CacheError::NoView));
    assert_eq!(three.statistics().exclusive, 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_serves_its_share() {
    let cluster = Cluster::start(3, &write_back());
    let (small, large) = (view(2, &[1, 2]), view(3, &[1, 2, 3]));
    for node in &cluster.nodes[..2] {
        node.set_view(small.clone());
    }
    let keys: Vec<Bytes> = (0..30).map(|number| bytes(&format!("key {number}"))).collect();
    for (place, key) in keys.iter().enumerate() {
        cluster.nodes[place % 2].put(key.clone(), key.clone(), Condition::None).await.unwrap();
    }
    for node in &cluster.nodes {
        node.set_view(large.clone());
    }
    let mut moved = 0;
    for key in &keys {
        let read = cluster.nodes[2].get(key.clone()).await.unwrap().unwrap();
        assert_eq!(&read.value, key);
        let home = cluster.nodes[0].line(key.clone()).await.unwrap().home;
        moved += usize::from(home == NodeId::new(3));
    }
    assert!((3..20).contains(&moved), "{moved} of 30 lines moved to the third node");
}

#[tokio::test(start_paused = true)]
async fn shutting_down_writes_back_what_is_dirty() {
    let cluster = Cluster::start(3, &write_back());
    let keys: Vec<Bytes> = (0..30).map(|number| bytes(&format!("key {number}"))).collect();
    for key in &keys {
        cluster.nodes[0].put(key.clone(), key.clone(), Condition::None).await.unwrap();
    }
    assert!(cluster.memory.table().is_empty());
    assert_eq!(cluster.nodes[0].statistics().modified, 30);
    cluster.nodes[0].shutdown().await;
    for key in &keys {
        assert_eq!(cluster.memory.table().load(key).unwrap().value.as_ref(), Some(key));
    }
    let late = cluster.nodes[0].get(keys[0].clone()).await;
    assert_eq!(late, Err(CacheError::ShutDown));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_fails_at_once_what_waits_for_a_lease() {
    let network = InMemoryNetwork::new();
    let node = CacheNode::start(
        CacheConfig::new(),
        member(1),
        Arc::new(InMemoryMemory::new()),
        network.transport(NodeId::new(1)),
        Arc::new(RendezvousPlacement),
    );
    node.set_view(view(1, &[1]));
    let begun = Instant::now();
    let read = node.get(bytes("k"));
    let write = node.put(bytes("k"), bytes("v"), Condition::None);
    let (read, write, ()) = tokio::join!(read, write, async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        node.shutdown().await;
    });
    assert_eq!((read, write), (Err(CacheError::ShutDown), Err(CacheError::ShutDown)));
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn shutting_down_leaves_no_operation_without_an_answer() {
    let config = CacheConfig::new().operation_timeout(Duration::from_secs(2));
    let memory = Arc::new(Fragile::default());
    let network = InMemoryNetwork::new();
    let node = CacheNode::start(
        config,
        member(1),
        memory.clone(),
        network.transport(NodeId::new(1)),
        Arc::new(RendezvousPlacement),
    );
    node.set_lease(Instant::now() + Duration::from_secs(3_600));
    node.set_view(view(1, &[1]));
    node.put(bytes("written"), bytes("v"), Condition::None).await.unwrap();
    memory.hung.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let write = node.put(bytes("written"), bytes("w"), Condition::None);
    let read = node.get(bytes("read"));
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        node.shutdown().await;
        begun.elapsed()
    };
    let both = async { tokio::join!(write, read) };
    let ((write, read), stopped) = tokio::join!(both, stop);
    assert_eq!(write, Err(CacheError::Indeterminate), "main memory may have taken it");
    assert!(matches!(read, Err(CacheError::ShutDown | CacheError::Unavailable)), "{read:?}");
    assert!(begun.elapsed() <= stopped + Duration::from_millis(10), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_stores_what_is_dirty_and_keeps_it() {
    let cluster = Cluster::start(2, &write_back());
    cluster.nodes[0].put(bytes("k"), bytes("v"), Condition::None).await.unwrap();
    assert!(cluster.nodes[0].flush().await);
    assert_eq!(cluster.memory.table().load(b"k").unwrap().value, Some(bytes("v")));
    assert!(cluster.nodes[0].get(bytes("k")).await.unwrap().unwrap().hit);
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_is_dropped_leaves_nothing_behind() {
    let cluster = Cluster::start(2, &CacheConfig::new());
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    for round in 0..20_u32 {
        let key = bytes(&format!("key {round}"));
        one.put(key.clone(), bytes("v"), Condition::None).await.unwrap();
        cluster.network.isolate(NodeId::new(1));
        let write = two.put(key.clone(), bytes("dropped"), Condition::None);
        assert!(tokio::time::timeout(Duration::from_millis(100), write).await.is_err());
        cluster.network.heal();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(one.get(key.clone()).await.unwrap().unwrap().value, bytes("v"));
        assert_eq!(two.get(key).await.unwrap().unwrap().value, bytes("v"));
    }
}

/// A main memory that can be taken away.
#[derive(Default)]
struct Fragile {
    memory: InMemoryMemory,
    gone: AtomicBool,
    hung: AtomicBool,
}

impl Fragile {
    async fn reach(&self) -> Result<(), MemoryError> {
        if self.hung.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.gone.load(Ordering::Relaxed) {
            return Err(MemoryError::Unavailable { reason: "taken away".to_owned() });
        }
        Ok(())
    }
}

#[async_trait]
impl Memory for Fragile {
    async fn load(&self, key: &Bytes) -> Result<Option<Stored>, MemoryError> {
        self.reach().await?;
        self.memory.load(key).await
    }

    async fn store(
        &self,
        writer: Epoch,
        key: &Bytes,
        version: Version,
        value: Option<Bytes>,
    ) -> Result<StoreOutcome, MemoryError> {
        self.reach().await?;
        self.memory.store(writer, key, version, value).await
    }

    async fn fence(&self, epoch: Epoch) -> Result<(), MemoryError> {
        self.reach().await?;
        self.memory.fence(epoch).await
    }
}

#[tokio::test(start_paused = true)]
async fn without_main_memory_there_are_clear_errors_and_hits_and_then_all_goes_on() {
    let memory = Arc::new(Fragile::default());
    let network = InMemoryNetwork::new();
    let (transport, placement) = (network.transport(NodeId::new(1)), Arc::new(RendezvousPlacement));
    let config = CacheConfig::new().value_bytes_max(8);
    let node = CacheNode::start(config, member(1), memory.clone(), transport, placement);
    node.set_lease(Instant::now() + Duration::from_secs(3_600));
    node.set_view(view(1, &[1]));
    node.put(bytes("k"), bytes("1"), Condition::None).await.unwrap();
    for (fault, other) in [(&memory.gone, "other"), (&memory.hung, "another")] {
        fault.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        assert_eq!(node.get(bytes(other)).await, Err(CacheError::Unavailable));
        assert!(node.get(bytes("k")).await.unwrap().unwrap().hit);
        let write = node.put(bytes("k"), bytes("2"), Condition::None).await;
        assert_eq!(write, Err(CacheError::Indeterminate));
        assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
        fault.store(false, Ordering::Relaxed);
        node.put(bytes("k"), bytes("3"), Condition::None).await.unwrap();
        assert_eq!(node.get(bytes("k")).await.unwrap().unwrap().value, bytes("3"));
        assert_eq!(node.get(bytes(other)).await, Ok(None));
    }
    let large = node.put(bytes("k"), bytes("123456789"), Condition::None).await;
    assert_eq!(large, Err(CacheError::TooLarge { bytes: 9, limit: 8 }));
    assert!(node.statistics().memory_failures > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_from_all_nodes_at_once_are_all_counted() {
    for config in [CacheConfig::new(), write_back()] {
        let cluster = Cluster::start(3, &config);
        let tasks: Vec<_> = (0..12)
            .map(|task| {
                let node = cluster.nodes[task % 3].clone();
                tokio::spawn(async move {
                    for _ in 0..25 {
                        increment(&node).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let read = cluster.nodes[0].get(bytes("counter")).await.unwrap().unwrap();
        assert_eq!(read.value, bytes("300"));
    }
}

async fn increment(node: &CacheNode) {
    loop {
        let (count, condition) = match node.get(bytes("counter")).await.unwrap() {
            Some(read) => {
                let count: u64 = std::str::from_utf8(&read.value).unwrap().parse().unwrap();
                (count, Condition::Matches(read.version))
            }
            None => (0, Condition::Absent),
        };
        match node.put(bytes("counter"), bytes(&(count + 1).to_string()), condition).await {
            Ok(_) => return,
            Err(CacheError::VersionMismatch { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
