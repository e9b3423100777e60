use std::time::Duration;

use dss_raft::{ChangeError, Configuration, MembershipError, RoleKind};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, id};

fn voters(numbers: &[u64]) -> Configuration {
    Configuration::of_voters(numbers.iter().copied().map(id))
}

/// Starts nodes that wait to be made members.
async fn start_newcomers(cluster: &mut Cluster, numbers: &[u64]) {
    for number in numbers {
        cluster.start_node(id(*number)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_moves_to_other_nodes_and_loses_nothing() {
    let mut cluster = Cluster::start_compacting(3, 20).await;
    let numbers: Vec<u64> = (0..100).collect();
    for number in &numbers {
        cluster.add(*number).await;
    }
    start_newcomers(&mut cluster, &[4, 5, 6]).await;
    let leader = cluster.leader().await;
    let group = cluster.groups[&leader].clone();
    let changed = group.change(group.status().configuration, voters(&[4, 5, 6]));
    let changed = timeout(Duration::from_secs(60), changed).await.expect("it ends");
    // The leader is not a member any more once it is done, and may not hear of that.
    assert!(matches!(changed, Ok(_) | Err(MembershipError::OutcomeUnknown)), "{changed:?}");
    for number in 1..=3 {
        cluster.crash(id(number));
    }
    cluster.add(1000).await;
    let all: Vec<u64> = numbers.into_iter().chain([1000]).collect();
    cluster.converged(&all).await;
    let leader = cluster.leader().await;
    let members = cluster.groups[&leader].status().configuration;
    assert_eq!(members.voters, voters(&[4, 5, 6]).voters);
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_at_once_one_is_refused() {
    let mut cluster = Cluster::start(3).await;
    cluster.add(1).await;
    start_newcomers(&mut cluster, &[4]).await;
    let leader = cluster.leader().await;
    let group = cluster.groups[&leader].clone();
    let before = group.status().configuration;
    let (one, other) = tokio::join!(
        group.change(before.clone(), voters(&[1, 2, 3, 4])),
        group.change(before.clone(), voters(&[1, 2])),
    );
    assert!(one.is_ok(), "{one:?}");
    assert_eq!(other, Err(MembershipError::Refused(ChangeError::InProgress)));
    let late = group.change(before, voters(&[1, 2])).await;
    assert!(
        matches!(late, Err(MembershipError::Refused(ChangeError::Unexpected { .. }))),
        "{late:?}"
    );
    assert_eq!(group.status().configuration.voters.len(), 4);
    cluster.add(2).await;
    cluster.converged(&[1, 2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_never_comes_is_not_waited_for() {
    let cluster = Cluster::start(3).await;
    cluster.add(1).await;
    let leader = cluster.leader().await;
    let group = &cluster.groups[&leader];
    let before = group.status().configuration;
    let changed = timeout(Duration::from_secs(60), group.change(before, voters(&[1, 2, 3, 9])));
    assert_eq!(changed.await.expect("it ends"), Err(MembershipError::NotCaughtUp));
    cluster.add(2).await;
    let follower = id(leader.get() % 3 + 1);
    let asked = &cluster.groups[&follower];
    let refused = asked.change(asked.status().configuration, voters(&[1, 2])).await;
    assert!(
        matches!(refused, Err(MembershipError::Refused(ChangeError::NotLeader { .. }))),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_whose_future_is_dropped_goes_on() {
    let mut cluster = Cluster::start(3).await;
    cluster.add(1).await;
    start_newcomers(&mut cluster, &[4]).await;
    let leader = cluster.leader().await;
    let group = cluster.groups[&leader].clone();
    let change = group.change(group.status().configuration, voters(&[1, 2, 3, 4]));
    let _ = timeout(Duration::ZERO, change).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(group.status().configuration.voters.len(), 4);
    assert_ne!(cluster.groups[&id(4)].status().role, RoleKind::Learner);
    cluster.converged(&[1]).await;
}
