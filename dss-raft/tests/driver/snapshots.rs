use std::time::Duration;

use dss_raft::StartGroupError;
use dss_raft::{MemoryStorage, Node, Storage as _};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, GROUP, Sum, id};

/// Waits until the disk holds a snapshot and not much more.
async fn compacted(cluster: &Cluster, node: u64) {
    let compacted = async {
        loop {
            let restored = cluster.disks[&id(node)].clone().restore(GROUP).await;
            let restored = restored.expect("nothing is wrong with the disk");
            if restored.snapshot.is_some() && restored.entries.len() < 60 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), compacted).await.expect("the log is compacted");
}

#[tokio::test(start_paused = true)]
async fn the_log_is_compacted_and_a_restart_begins_at_the_snapshot() {
    let mut cluster = Cluster::start_compacting(3, 20).await;
    let numbers: Vec<u64> = (1..=100).collect();
    for number in &numbers {
        cluster.add(*number).await;
    }
    for node in 1..=3 {
        compacted(&cluster, node).await;
    }
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
    }
    for node in [1, 2, 3].map(id) {
        cluster.start_node(node).await;
    }
    cluster.converged(&numbers).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_for_too_long_is_sent_a_snapshot() {
    let mut cluster = Cluster::start_compacting(3, 20).await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    let away = id(cluster.leader().await.get() % 3 + 1);
    cluster.crash(away);
    let numbers: Vec<u64> = (1..=200).collect();
    for number in &numbers[1..] {
        cluster.add(*number).await;
    }
    cluster.start_node(away).await;
    cluster.converged(&numbers).await;
    let restored = cluster.disks[&away].clone().restore(GROUP).await.unwrap();
    assert!(restored.snapshot.is_some(), "it came as a snapshot");
    assert_eq!(cluster.groups[&away].read(|sum| sum.seen.len()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_the_machine_refuses_starts_nothing() {
    let mut cluster = Cluster::start_compacting(1, 5).await;
    for number in 0..20 {
        cluster.add(number).await;
    }
    compacted(&cluster, 1).await;
    let mut restored = cluster.disks[&id(1)].clone().restore(GROUP).await.unwrap();
    cluster.crash(id(1));
    let mut snapshot = restored.snapshot.take().unwrap();
    let mut disk = MemoryStorage::new();
    let mut writer = disk.snapshots().create(GROUP).unwrap();
    writer.write(b"nonsense that is no multiple of eight").unwrap();
    snapshot.data = writer.finish().unwrap();
    let persist = dss_raft::Persist {
        seq: dss_raft::PersistSeq::new(1),
        hard_state: Some(restored.hard_state),
        truncate_from: None,
        snapshot: Some(snapshot.into()),
        entries: dss_raft::Entries::EMPTY,
        compact_to: None,
    };
    disk.persist(vec![(GROUP, persist)]).await.unwrap();
    let node = Node::start(disk, cluster.network.transport(id(1)));
    let config = cluster.config(id(1));
    let started = node.start_group(GROUP, config, cluster.members.clone(), Sum::default()).await;
    assert!(matches!(started, Err(StartGroupError::Machine(_))));
}
