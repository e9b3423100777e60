//! Acquires that are sure to wait, which are written with the command that follows.

use dss_lock::{AcquireRequest, LockMachine, LockService, Wait};
use dss_raft::{Group, Metrics};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::cluster::{Cluster, end, millis};
use crate::script::{X, lock, request};

/// "a" holds the lock, "b" and "c" wait for it, and "d" has just asked.
struct Queued {
    cluster: Cluster,
    service: LockService,
    group: Group<LockMachine>,
    /// As it was before "d" asked.
    before: Metrics,
    asks: JoinHandle<()>,
}

async fn queued() -> Queued {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    for who in ["b", "c"] {
        drop(cluster.wait(leader, forever(who)).await);
    }
    // Nothing that was deferred for "c" is left.
    sleep(millis(20)).await;
    let (service, group) = (cluster.led().await, cluster.groups[&leader].clone());
    let (before, asking) = (group.metrics(), service.clone());
    let asks = tokio::spawn(async move {
        asking.acquire(forever("d")).await.unwrap();
    });
    sleep(millis(2)).await;
    assert_eq!(group.metrics().proposals, before.proposals);
    Queued { cluster, service, group, before, asks }
}

fn forever(who: &str) -> AcquireRequest {
    request(who, "l", X, Wait::Forever)
}

async fn queue(service: &LockService) -> Vec<String> {
    let info = service.lock(lock("l")).await.unwrap().unwrap();
    info.queue.iter().map(|waiter| waiter.session.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_asked_for_again_is_handed_over_in_one_write() {
    let Queued { cluster, service, group, before, asks } = queued().await;
    cluster.release("a", "l").await;
    let after = group.metrics();
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.entries_written - before.entries_written, 2);
    assert_eq!(queue(&service).await, ["c", "d"]);
    for who in ["b", "c"] {
        cluster.release(who, "l").await;
    }
    end(asks).await;
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_nothing_follows_is_written_a_moment_later() {
    let Queued { cluster: _cluster, service, group, before, .. } = queued().await;
    sleep(millis(20)).await;
    assert_eq!(group.metrics().proposals, before.proposals + 1);
    assert_eq!(queue(&service).await, ["b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn who_looks_at_the_queue_sees_who_has_asked_before() {
    let Queued { cluster: _cluster, service, .. } = queued().await;
    let mut looks = 0;
    while queue(&service).await.len() < 3 {
        looks += 1;
        tokio::task::yield_now().await;
    }
    assert!(looks < 1_000, "no time passes, so that it is the look that has it written");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_before_it_is_written_never_was() {
    let Queued { cluster, service, group, before, asks } = queued().await;
    asks.abort();
    sleep(millis(20)).await;
    // What is taken back is looked for.
    assert!(group.metrics().proposals <= before.proposals + 1);
    for left in [&["c"][..], &[]] {
        let holder = service.lock(lock("l")).await.unwrap().unwrap().holders[0].session.to_string();
        cluster.release(&holder, "l").await;
        assert_eq!(queue(&service).await, left);
    }
    cluster.release("c", "l").await;
    assert_eq!(service.lock(lock("l")).await.unwrap(), None);
}
