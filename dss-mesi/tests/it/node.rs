//! What a program sees of a node.

use std::collections::BTreeMap;
use std::time::Duration;

use dss_mesi::{CacheConfig, CacheError, Condition, LineState, NodeId, WritePolicy};
use tokio::time::Instant;

use crate::cluster::{Cluster, bytes, view};

fn write_back() -> CacheConfig {
    CacheConfig::new().policy(WritePolicy::WriteBack { flush: Duration::from_secs(1) })
}

#[tokio::test(start_paused = true)]
async fn a_value_written_on_one_node_is_read_on_all_and_then_hit() {
    let cluster = Cluster::start(3, &CacheConfig::new());
    for round in 0..20 {
        let key = bytes(&format!("key {round}"));
        let version =
            cluster.nodes[0].put(key.clone(), bytes("one"), Condition::None).await.unwrap();
        for node in &cluster.nodes {
            let first = node.get(key.clone()).await.unwrap().unwrap();
            assert_eq!((&first.value, first.version), (&bytes("one"), version));
            let second = node.get(key.clone()).await.unwrap().unwrap();
            assert!(second.hit);
        }
        assert_eq!(cluster.memory.table().load(&key).unwrap().version, version);
    }
    let statistics = cluster.nodes[1].statistics();
    assert_eq!((statistics.misses, statistics.hits, statistics.shared), (20, 20, 20));
}

#[tokio::test(start_paused = true)]
async fn a_write_on_one_node_takes_the_copies_of_the_others_away() {
    for config in [CacheConfig::new(), write_back()] {
        let cluster = Cluster::start(3, &config);
        let key = bytes("k");
        for round in 0..30_usize {
            let value = bytes(&round.to_string());
            let writer = &cluster.nodes[round % 3];
            writer.put(key.clone(), value.clone(), Condition::None).await.unwrap();
            for reader in [round, round + 1, round + 2] {
                let read = cluster.nodes[reader % 3].get(key.clone()).await.unwrap().unwrap();
                assert_eq!(read.value, value);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn conditions_are_checked_against_the_newest_value() {
    let cluster = Cluster::start(3, &CacheConfig::new());
    let [one, two, three] = &cluster.nodes[..] else { unreachable!() };
    let key = bytes("k");
    let first = one.put(key.clone(), bytes("1"), Condition::Absent).await.unwrap();
    let absent = two.put(key.clone(), bytes("2"), Condition::Absent).await;
    assert_eq!(absent, Err(CacheError::VersionMismatch { current: Some(first) }));
    let second = two.put(key.clone(), bytes("2"), Condition::Matches(first)).await.unwrap();
    assert!(second > first);
    let late = three.put(key.clone(), bytes("3"), Condition::Matches(first)).await;
    assert_eq!(late, Err(CacheError::VersionMismatch { current: Some(second) }));
    let late = one.remove(key.clone(), Condition::Matches(first)).await;
    assert_eq!(late, Err(CacheError::VersionMismatch { current: Some(second) }));
    assert_eq!(three.remove(key.clone(), Condition::Matches(second)).await, Ok(true));
    assert_eq!(one.remove(key.clone(), Condition::None).await, Ok(false));
    assert_eq!(two.get(key.clone()).await, Ok(None));
    let gone = one.put(key.clone(), bytes("4"), Condition::Matches(second)).await;
    assert_eq!(gone, Err(CacheError::VersionMismatch { current: None }));
    let third = one.put(key.clone(), bytes("5"), Condition::Absent).await.unwrap();
    assert!(third > second, "versions go on after a removal");
}

#[tokio::test(start_paused = true)]
async fn a_line_shows_who_holds_it() {
    let cluster = Cluster::start(3, &write_back());
    let [one, two, three] = &cluster.nodes[..] else { unreachable!() };
    let key = bytes("k");
    let states = |letters: &str| -> BTreeMap<NodeId, char> {
        (1..).map(NodeId::new).zip(letters.chars()).collect()
    };
    let seen = async || {
        let line = three.line(key.clone()).await.unwrap();
        let letters: BTreeMap<_, _> =
            line.states.iter().map(|(node, state)| (*node, state.letter())).collect();
        (line.version, letters)
    };
    assert_eq!(seen().await, (None, states("III")));
    assert_eq!(two.get(key.clone()).await, Ok(None));
    assert_eq!(seen().await, (None, states("IEI")));
    let version = two.put(key.clone(), bytes("x"), Condition::None).await.unwrap();
    assert_eq!(seen().await, (Some(version), states("IMI")));
    assert_eq!(one.get(key.clone()).await.unwrap().unwrap().state, LineState::Shared);
    assert_eq!(seen().await, (Some(version), states("SSI")));
    let version = one.put(key.clone(), bytes("y"), Condition::None).await.unwrap();
    assert_eq!(seen().await, (Some(version), states("MII")));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(seen().await, (Some(version), states("EII")), "it was flushed");
}

#[tokio::test(start_paused = true)]
async fn without_a_view_or_a_lease_an_operation_waits_and_then_fails() {
    let config = CacheConfig::new().patience(Duration::from_secs(2));
    let cluster = Cluster::start(1, &config);
    let node = &cluster.nodes[0];
    node.put(bytes("k"), bytes("v"), Condition::None).await.unwrap();
    let lease = Instant::now() + Duration::from_secs(3_600);
    tokio::time::sleep(Duration::from_secs(3_599)).await;
    assert!(node.get(bytes("k")).await.is_ok());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(Instant::now() >= lease);
    let begun = Instant::now();
    assert_eq!(node.get(bytes("k")).await, Err(CacheError::LeaseExpired));
    assert_eq!(begun.elapsed().as_secs(), 2);
    let (read, ()) = tokio::join!(node.get(bytes("k")), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.set_lease(Instant::now() + Duration::from_secs(10));
    });
    assert_eq!(read.unwrap().unwrap().value, bytes("v"));
    node.set_view(view(2, &[7]));
    assert_eq!(node.get(bytes("k")).await, Err(CacheError::NoView));
    let write = node.put(bytes("k"), bytes("v"), Condition::None).await;
    assert_eq!(write, Err(CacheError::NoView));
}
