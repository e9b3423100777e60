//! Acquires that are sure to wait, which are written with the command that follows.

use dss_lock::{AcquireRequest, LockService, Wait};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::cluster::{Cluster, end, millis};
use crate::script::{X, lock, request};

/// "a" holds the lock, "b" and "c" wait for it, and "d" has just asked.
async fn queued() -> (Cluster, LockService, JoinHandle<()>) {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    for who in ["b", "c"] {
        drop(cluster.wait(leader, forever(who)).await);
    }
    // Nothing that was deferred for "c" is left.
    sleep(millis(20)).await;
    let service = cluster.led().await;
    let asking = service.clone();
    let asks = tokio::spawn(async move {
        asking.acquire(forever("d")).await.unwrap();
    });
    sleep(millis(2)).await;
    (cluster, service, asks)
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
    let (cluster, service, asks) = queued().await;
    assert_eq!(queue(&service).await, ["b", "c"]);
    let group = &cluster.groups[&cluster.leader().await];
    let before = group.metrics();
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
    let (_cluster, service, _asks) = queued().await;
    assert_eq!(queue(&service).await, ["b", "c"]);
    sleep(millis(20)).await;
    assert_eq!(queue(&service).await, ["b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_dropped_before_it_is_written_never_was() {
    let (cluster, service, asks) = queued().await;
    asks.abort();
    sleep(millis(20)).await;
    for left in [&["c"][..], &[]] {
        let holder = service.lock(lock("l")).await.unwrap().unwrap().holders[0].session.to_string();
        cluster.release(&holder, "l").await;
        assert_eq!(queue(&service).await, left);
    }
    cluster.release("c", "l").await;
    assert_eq!(service.lock(lock("l")).await.unwrap(), None);
}
