use std::time::Duration;

use dss_raft::{ProposeError, ReadError, RoleKind, StartGroupError};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, GROUP, Sum, command, id};

#[tokio::test(start_paused = true)]
async fn a_shutdown_hands_leadership_over_at_once() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    let leader = cluster.leader().await;
    let others: Vec<_> = [1, 2, 3].map(id).into_iter().filter(|node| *node != leader).collect();

    let begun = Instant::now();
    cluster.nodes[&leader].shutdown().await;
    let new = cluster.leader_among(others).await;
    // Far less than the election timeout that it would take without.
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(cluster.groups[&new].leadership().borrow().by_transfer);

    assert_ne!(cluster.groups[&leader].status().role, RoleKind::Leader);
    assert_eq!(cluster.groups[&leader].propose(command(2)).await, Err(ProposeError::ShutDown));
    assert_eq!(cluster.groups[&leader].read(|_| ()).await, Err(ReadError::ShutDown));
    assert_eq!(cluster.groups[&leader].read_local(|_| ()).await, Err(ReadError::ShutDown));
    let reply = cluster.groups[&new].propose(command(2)).await.map(|applied| applied.reply);
    assert_eq!(reply, Ok(3));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_without_anybody_to_hand_over_to() {
    let mut cluster = Cluster::start(3).await;
    cluster.add(1).await;
    let leader = cluster.leader().await;
    for node in [1, 2, 3].map(id) {
        if node != leader {
            cluster.crash(node);
        }
    }
    timeout(Duration::from_secs(3), cluster.nodes[&leader].shutdown()).await.expect("bounded");
}

#[tokio::test(start_paused = true)]
async fn every_proposal_under_way_ends_with_the_node() {
    let cluster = Cluster::start(1).await;
    cluster.add(0).await;
    let group = &cluster.groups[&id(1)];
    let mut proposals = JoinSet::new();
    for _ in 0..3000 {
        let group = group.clone();
        proposals.spawn(async move { group.propose(command(1)).await });
    }
    tokio::task::yield_now().await;
    cluster.nodes[&id(1)].shutdown().await;
    let mut applied = 0;
    let ended = async {
        while let Some(outcome) = proposals.join_next().await {
            match outcome.expect("no task panics") {
                Ok(_) => applied += 1,
                Err(ProposeError::ShutDown | ProposeError::OutcomeUnknown) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    timeout(Duration::from_secs(1), ended).await.expect("none is left waiting");

    let mut cluster = cluster;
    cluster.crash(id(1));
    cluster.start_node(id(1)).await;
    cluster.leader().await;
    let total = cluster.groups[&id(1)].read(|sum| sum.total).await.expect("it leads itself");
    assert!(total >= applied, "{applied} acknowledged, {total} there");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_node_ends_what_is_under_way() {
    let mut cluster = Cluster::start(3).await;
    cluster.add(1).await;
    let leader = cluster.leader().await;
    let group = cluster.groups[&leader].clone();
    cluster.network.isolate(leader);
    let proposal = {
        let group = group.clone();
        tokio::spawn(async move { group.propose(command(2)).await })
    };
    let read = {
        let group = group.clone();
        tokio::spawn(async move { group.read(|sum| sum.total).await })
    };
    tokio::task::yield_now().await;
    let mut leadership = group.leadership();
    cluster.crash(leader);
    assert_eq!(proposal.await.unwrap(), Err(ProposeError::OutcomeUnknown));
    assert_eq!(read.await.unwrap(), Err(ReadError::ShutDown));
    assert_eq!(group.propose(command(3)).await, Err(ProposeError::ShutDown));
    // Watchers are told that it leads no more, and then that there is nothing more to come.
    assert_ne!(leadership.borrow_and_update().role, RoleKind::Leader);
    assert!(leadership.changed().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_on_a_node_that_was_shut_down() {
    let mut cluster = Cluster::start(1).await;
    let node = cluster.nodes[&id(1)].clone();
    node.shutdown().await;
    node.shutdown().await;
    let config = cluster.config(id(1));
    let started = node.start_group(GROUP, config, cluster.members.clone(), Sum::default()).await;
    assert!(matches!(started, Err(StartGroupError::ShutDown)));
}
