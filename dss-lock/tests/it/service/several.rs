//! Guards of several locks at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dss_lock::{AcquireError, LockGuard, LockLost, LockName, Mode};
use tokio::time::{sleep, timeout};

use super::client::{Link, open};
use super::cluster::{Cluster, end, millis};
use crate::script::lock;

fn both(mode: Mode) -> [(LockName, Mode); 2] {
    [(lock("2"), mode), (lock("1"), mode)]
}

#[tokio::test(start_paused = true)]
async fn several_locks_come_together_with_a_guard_for_each() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let (a, b) = (open(&link, "a").await, open(&link, "b").await);
    let one = a.lock(lock("1")).acquire().await.unwrap();
    let refused = b.lock_all(both(Mode::Exclusive)).try_acquire().await;
    assert!(matches!(refused, Err(AcquireError::Held { .. })), "{refused:?}");
    let asking = b.lock_all(both(Mode::Exclusive)).timeout(Duration::from_secs(9));
    let waiting = tokio::spawn(asking.acquire());
    sleep(millis(200)).await;
    // While it waits it holds nothing.
    assert_eq!(cluster.state("2").await, (vec![], 1));
    drop(one);
    let guards = end(waiting).await.unwrap();
    let names: Vec<_> = guards.iter().map(|guard| guard.lock().as_str().to_owned()).collect();
    assert_eq!(names, ["1", "2"]);
    assert!(guards[0].token() < guards[1].token());
    // They are given back one by one.
    let [first, second] = <[LockGuard; 2]>::try_from(guards).unwrap();
    assert_eq!(first.release().await, Ok(()));
    assert_eq!(cluster.state("2").await, (vec!["b".into()], 0));
    assert!(second.check().is_ok());
    drop(second);
    cluster.becomes("2", &[], 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_holds_all_of_several_locks_or_none_before_it_asks() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let a = open(&link, "a").await;
    let guards = a.lock_all(both(Mode::Shared)).acquire().await.unwrap();
    let again = a.lock_all(both(Mode::Shared)).acquire().await.unwrap();
    assert_eq!(again[0].token(), guards[0].token());
    let upgrade = a.lock_all(both(Mode::Exclusive)).acquire().await;
    assert_eq!(upgrade.err(), Some(AcquireError::AlreadyHolds { lock: lock("1") }));
    let more = [(lock("2"), Mode::Shared), (lock("3"), Mode::Shared)];
    let more = a.lock_all(more).acquire().await;
    assert_eq!(more.err(), Some(AcquireError::AlreadyHolds { lock: lock("2") }));
    drop((guards, again));
    cluster.becomes("1", &[], 0).await;
    cluster.becomes("2", &[], 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_for_several_dropped_at_any_moment_leaves_nothing() {
    let cluster = Cluster::start().await;
    let link = Link::new(&cluster);
    let (a, b) = (open(&link, "a").await, open(&link, "b").await);
    for pause in 0..30 {
        let held = a.lock(lock("2")).acquire().await.unwrap();
        let asking = tokio::spawn(b.lock_all(both(Mode::Exclusive)).acquire());
        for _ in 0..pause {
            tokio::task::yield_now().await;
        }
        drop(held);
        for _ in 0..pause {
            tokio::task::yield_now().await;
        }
        asking.abort();
        // Guards that came first go with the task.
        drop(asking.await);
        cluster.becomes("1", &[], 0).await;
        cluster.becomes("2", &[], 0).await;
        let again = timeout(Duration::from_secs(5), b.lock_all(both(Mode::Shared)).acquire()).await;
        for guard in again.unwrap().unwrap() {
            assert_eq!(guard.release().await, Ok(()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn several_locks_are_waited_for_through_changes_of_leaders_and_lost_together() {
    let cluster = Cluster::start().await;
    let (near, far) = (Link::new(&cluster), Link::new(&cluster));
    let (a, b) = (open(&near, "a").await, open(&far, "b").await);
    let one = a.lock(lock("1")).acquire().await.unwrap();
    let waiting = tokio::spawn(b.lock_all(both(Mode::Exclusive)).acquire());
    sleep(millis(200)).await;
    for _ in 0..3 {
        cluster.transfer().await;
        sleep(millis(300)).await;
    }
    assert_eq!(one.release().await, Ok(()));
    let guards = end(waiting).await.unwrap();
    far.cut.store(true, Ordering::Relaxed);
    for guard in &guards {
        assert_eq!(guard.lost().await, LockLost::NotRenewed);
        assert_eq!(guard.check(), Err(LockLost::NotRenewed));
    }
    let next = timeout(Duration::from_secs(20), a.lock_all(both(Mode::Exclusive)).acquire()).await;
    assert!(next.unwrap().unwrap()[0].token() > guards[1].token());
}
