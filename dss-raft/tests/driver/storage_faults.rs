use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dss_raft::{
    GroupId, MemoryStorage, Persist, ProposeError, Restored, RoleKind, SnapshotStore, Storage,
    StorageError,
};
use tokio::time::timeout;

use crate::cluster::{Cluster, Sum, command, id};

/// How a disk misbehaves once told to.
#[derive(Clone, Copy)]
enum Fault {
    Error,
    Panic,
    Stall,
}

struct FaultyStorage {
    inner: MemoryStorage,
    broken: Arc<AtomicBool>,
    fault: Fault,
}

#[async_trait]
impl Storage for FaultyStorage {
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError> {
        self.inner.restore(group).await
    }

    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError> {
        if self.broken.load(Ordering::Relaxed) {
            match self.fault {
                Fault::Error => return Err(StorageError::Poisoned),
                Fault::Panic => panic!("the storage is wrong"),
                Fault::Stall => std::future::pending().await,
            }
        }
        self.inner.persist(writes).await
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.inner.snapshots()
    }
}

/// A cluster whose leader's disk breaks while a proposal is under way.
async fn leader_with(fault: Fault) -> (Cluster, dss_raft::NodeId) {
    let mut cluster = Cluster::start(3).await;
    let broken = Arc::new(AtomicBool::new(false));
    cluster.crash(id(1));
    let disk = MemoryStorage::new();
    let storage = FaultyStorage { inner: disk, broken: Arc::clone(&broken), fault };
    cluster.start_node_on(id(1), storage, Sum::default()).await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    let leader = cluster.leader().await;
    if leader != id(1) {
        cluster.groups[&leader].transfer_leadership(Some(id(1))).await.expect("it is up to date");
    }
    cluster.groups[&id(1)]
        .leadership()
        .wait_for(|leadership| leadership.role == RoleKind::Leader)
        .await
        .expect("it runs");
    cluster.add(2).await;
    broken.store(true, Ordering::Relaxed);
    (cluster, id(1))
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_leadership_and_is_never_acknowledged_here() {
    for fault in [Fault::Error, Fault::Panic] {
        let (cluster, leader) = leader_with(fault).await;
        let group = &cluster.groups[&leader];
        assert_eq!(group.propose(command(3)).await, Err(ProposeError::OutcomeUnknown));
        assert_eq!(group.propose(command(4)).await, Err(ProposeError::StorageFailed));
        assert_ne!(group.status().role, RoleKind::Leader);
        assert_eq!(group.read_local(|sum| sum.total).await, Ok(3));
        let failure = cluster.nodes[&leader].storage_failure();
        assert!(matches!((failure, fault), (Some(_), Fault::Error) | (None, Fault::Panic)));

        // The others go on; the proposal was theirs to commit or not.
        let new = cluster.leader_among(vec![id(2), id(3)]).await;
        let reply = cluster.groups[&new].propose(command(5)).await.expect("a majority works");
        assert!(reply.reply == 8 || reply.reply == 11, "{}", reply.reply);
        timeout(Duration::from_secs(5), cluster.nodes[&leader].shutdown()).await.expect("it ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_stalls_stops_leading() {
    let (cluster, leader) = leader_with(Fault::Stall).await;
    let group = cluster.groups[&leader].clone();
    let stalled = tokio::spawn(async move { group.propose(command(3)).await });
    let new = timeout(Duration::from_secs(10), cluster.leader_among(vec![id(2), id(3)])).await;
    let new = new.expect("the others do not wait for the disk");
    let reply = cluster.groups[&new].propose(command(5)).await.expect("a majority works").reply;
    assert!(reply == 8 || reply == 11, "{reply}");
    // Its followers may have committed it meanwhile; it ends in either case.
    timeout(Duration::from_secs(10), stalled).await.expect("it ends").unwrap().ok();
}
