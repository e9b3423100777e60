use std::time::Duration;

use dss_raft::{ProposeError, ReadError, RoleKind};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::{Cluster, command, id};

#[tokio::test(start_paused = true)]
async fn three_nodes_elect_one_leader_and_agree_who() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    for (node, group) in &cluster.groups {
        let status = group.status();
        assert_eq!(status.role == RoleKind::Leader, *node == leader);
        assert_eq!(status.leader, Some(leader));
        assert_eq!(group.leadership().borrow().leader, Some(leader));
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_alone_commits_by_itself() {
    let cluster = Cluster::start(1).await;
    assert_eq!(cluster.add(3).await, 3);
    assert_eq!(cluster.add(4).await, 7);
    assert_eq!(cluster.groups[&id(1)].read(|sum| sum.total).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn every_proposal_gets_the_reply_to_its_own_command() {
    let cluster = Cluster::start(3).await;
    let group = cluster.groups[&cluster.leader().await].clone();
    let mut clients = JoinSet::new();
    for client in 0..200_u64 {
        let group = group.clone();
        clients.spawn(async move {
            let first = group.propose(command(1)).await.expect("nothing fails here");
            let second = group.propose(command(1)).await.expect("nothing fails here");
            assert!(second.index > first.index && second.reply > first.reply, "client {client}");
            [first.reply, second.reply]
        });
    }
    let mut replies = Vec::new();
    while let Some(of_client) = clients.join_next().await {
        replies.extend(of_client.expect("no client panics"));
    }
    replies.sort_unstable();
    assert_eq!(replies, (1..=400).collect::<Vec<u64>>());
    cluster.converged(&[1; 400]).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_refuses_proposals_and_names_the_leader() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    cluster.converged(&[1]).await;
    let leader = cluster.leader().await;
    for (node, group) in &cluster.groups {
        if *node != leader {
            let refused = group.propose(command(9)).await;
            assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
        }
    }
    cluster.converged(&[1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_on_any_node_sees_what_was_acknowledged_before_it() {
    let cluster = Cluster::start(3).await;
    let mut total = 0;
    for number in 1..=50 {
        total += number;
        cluster.add(number).await;
        for group in cluster.groups.values() {
            assert_eq!(group.read(|sum| sum.total).await, Ok(total));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nothing_is_read_or_written_but_locally() {
    let mut cluster = Cluster::start(3).await;
    cluster.add(5).await;
    cluster.converged(&[5]).await;
    let leader = cluster.leader().await;
    for node in [1, 2, 3].map(id) {
        if node != leader {
            cluster.crash(node);
        }
    }
    let group = &cluster.groups[&leader];
    let (proposed, read) = tokio::join!(group.propose(command(6)), group.read(|sum| sum.total));
    assert_eq!(proposed, Err(ProposeError::OutcomeUnknown));
    assert_eq!(read, Err(ReadError::NoLeader));
    assert_eq!(group.read_local(|sum| sum.total).await, Ok(5));
    assert_eq!(group.propose(command(7)).await, Err(ProposeError::NotLeader { leader: None }));
}

#[tokio::test(start_paused = true)]
async fn dropped_futures_leave_nothing_behind() {
    let cluster = Cluster::start(3).await;
    let group = cluster.groups[&cluster.leader().await].clone();
    for number in 1..=100 {
        // Polled once, so that it is taken in, then dropped.
        let _ = timeout(Duration::ZERO, group.propose(command(number))).await;
        let _ = timeout(Duration::ZERO, group.read(|sum| sum.total)).await;
    }
    let reply = group.propose(command(1)).await.expect("the group is unharmed").reply;
    assert_eq!(reply, group.read(|sum| sum.total).await.expect("and readable"));
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_may_be_under_way_are_refused() {
    let cluster = Cluster::start(1).await;
    cluster.leader().await;
    let group = &cluster.groups[&id(1)];
    let huge = vec![0; 65 << 20].into();
    assert_eq!(group.propose(huge).await, Err(ProposeError::Overloaded));
    assert_eq!(group.propose(command(1)).await.map(|applied| applied.reply), Ok(1));
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "the query is wrong")]
async fn a_query_that_panics_panics_where_it_was_asked() {
    let cluster = Cluster::start(1).await;
    cluster.leader().await;
    let _ = cluster.groups[&id(1)].read(|_| panic!("the query is wrong")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_is_never_older_than_an_answer() {
    let cluster = Cluster::start(1).await;
    cluster.leader().await;
    let group = &cluster.groups[&id(1)];
    for number in 0..2000 {
        let index = group.propose(command(number)).await.expect("it leads").index;
        assert!(group.status().commit_index >= index, "proposal {number}");
        let after = group.metrics();
        group.read(|_| ()).await.expect("it leads");
        assert!(group.metrics().reads > after.reads, "read {number}");
    }
}
