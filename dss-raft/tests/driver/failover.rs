use std::time::Duration;

use dss_raft::{ProposeError, ReadError, RoleKind, TransferError};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, command, id};

#[tokio::test(start_paused = true)]
async fn an_isolated_leader_is_replaced_and_catches_up() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    let old = cluster.leader().await;
    cluster.network.isolate(old);

    // What it takes in now can never be committed: it ends as unknown, not never.
    let lost = cluster.groups[&old].clone();
    let lost = tokio::spawn(async move { lost.propose(command(100)).await });
    let others: Vec<_> = [1, 2, 3].map(id).into_iter().filter(|node| *node != old).collect();
    let new = cluster.leader_among(others).await;
    assert_ne!(new, old);
    let reply = cluster.groups[&new].propose(command(2)).await.map(|applied| applied.reply);
    assert_eq!(reply, Ok(3));
    assert_eq!(lost.await.unwrap(), Err(ProposeError::OutcomeUnknown));
    assert_ne!(cluster.groups[&old].status().role, RoleKind::Leader);
    assert_eq!(cluster.groups[&old].read(|sum| sum.total).await, Err(ReadError::NoLeader));

    cluster.network.heal();
    cluster.add(3).await;
    cluster.converged(&[1, 2, 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_cluster_restarts_with_everything_it_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    let numbers: Vec<u64> = (1..=20).collect();
    for number in &numbers {
        cluster.add(*number).await;
    }
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
    }
    for node in [1, 2, 3].map(id) {
        cluster.start_node(node).await;
    }
    cluster.leader().await;
    for group in cluster.groups.values() {
        assert_eq!(group.read(|sum| sum.total).await, Ok(210));
    }
    cluster.converged(&numbers).await;
}

#[tokio::test(start_paused = true)]
async fn nodes_that_crash_one_after_the_other_lose_nothing() {
    let mut cluster = Cluster::start(3).await;
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        acknowledged.push(round);
        cluster.add(round).await;
        let leader = cluster.leader().await;
        cluster.crash(leader);
        acknowledged.push(100 + round);
        cluster.add(100 + round).await;
        cluster.start_node(leader).await;
        cluster.converged(&acknowledged).await;
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_changes_hands_on_request() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    for _ in 0..3 {
        let from = cluster.leader().await;
        let to = id(from.get() % 3 + 1);
        cluster.groups[&from].transfer_leadership(Some(to)).await.expect("all are up to date");
        let mut leadership = cluster.groups[&to].leadership();
        let led = leadership.wait_for(|leadership| leadership.role == RoleKind::Leader);
        let led = *timeout(Duration::from_secs(1), led).await.expect("soon").unwrap();
        assert!(led.by_transfer);
    }
    let follower = id(cluster.leader().await.get() % 3 + 1);
    let refused = cluster.groups[&follower].transfer_leadership(None).await;
    assert!(matches!(refused, Err(TransferError::NotLeader { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn clients_on_every_node_see_each_write_through_a_change_of_leader() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    let old = cluster.leader().await;
    let writer = cluster.groups[&old].clone();
    let writes = tokio::spawn(async move {
        let mut last = 0;
        while let Ok(applied) = writer.propose(command(1)).await {
            last = applied.reply;
            sleep(Duration::from_millis(1)).await;
        }
        last
    });
    sleep(Duration::from_millis(50)).await;
    cluster.groups[&old].transfer_leadership(None).await.expect("somebody is up to date");
    let last = writes.await.unwrap();
    assert!(last > 10, "{last}");
    for group in cluster.groups.values() {
        let total = group.read(|sum| sum.total).await.expect("the new leader answers");
        assert!(total >= last, "{total} < {last}");
    }
}
