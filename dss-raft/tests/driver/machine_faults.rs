use std::time::Duration;

use dss_raft::{MemoryStorage, ProposeError, ReadError, RoleKind};
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, POISON, Sum, command, id};

#[tokio::test(start_paused = true)]
async fn a_machine_that_panics_hangs_nobody() {
    let cluster = Cluster::start(1).await;
    cluster.add(1).await;
    let group = &cluster.groups[&id(1)];
    let (poison, behind) = tokio::join!(group.propose(command(POISON)), group.propose(command(2)));
    assert_eq!(poison, Err(ProposeError::OutcomeUnknown));
    assert_eq!(behind, Err(ProposeError::OutcomeUnknown));
    assert_eq!(group.propose(command(3)).await, Err(ProposeError::MachineFailed));
    assert_eq!(group.read(|sum| sum.total).await, Err(ReadError::MachineFailed));
    assert_eq!(group.read_local(|sum| sum.total).await, Err(ReadError::MachineFailed));
    assert_ne!(group.status().role, RoleKind::Leader);
    timeout(Duration::from_secs(5), cluster.nodes[&id(1)].shutdown()).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_machine_does_not_stall_heartbeats() {
    let mut cluster = Cluster::start(3).await;
    let slow = Sum { slowness: Duration::from_millis(20), ..Sum::default() };
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
        cluster.start_node_on(node, MemoryStorage::new(), slow.clone()).await;
    }
    let leader = cluster.leader().await;
    let group = cluster.groups[&leader].clone();
    let term = group.status().term;
    // 2.4 s of work for each machine, more than two election timeouts.
    let writers: Vec<_> = (0..120)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { group.propose(command(1)).await.map(|done| done.reply) })
        })
        .collect();
    sleep(Duration::from_millis(50)).await;
    assert!(group.status().applied_index < group.status().commit_index, "it is slow indeed");
    for writer in writers {
        assert!(writer.await.unwrap().is_ok());
    }
    assert_eq!(group.status().term, term, "nobody campaigned meanwhile");
    assert_eq!(group.read(|sum| sum.total).await, Ok(120));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_count_until_they_are_applied() {
    let mut cluster = Cluster::start(1).await;
    cluster.crash(id(1));
    let slow = Sum { slowness: Duration::from_millis(300), ..Sum::default() };
    cluster.start_node_on(id(1), MemoryStorage::new(), slow).await;
    cluster.leader().await;
    let group = cluster.groups[&id(1)].clone();
    // Its first eight bytes are no number, so it adds nothing; it weighs half of what may wait.
    let heavy = || group.propose(vec![0; 31 << 20].into());
    let (first, second, third) = tokio::join!(heavy(), heavy(), async {
        sleep(Duration::from_millis(50)).await;
        heavy().await
    });
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(third, Err(ProposeError::Overloaded), "committed is not applied");
    assert!(heavy().await.is_ok(), "once they are applied there is room");
}
