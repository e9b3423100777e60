use std::time::Duration;

use bytes::Bytes;
use dss_lock::{AcquireError, ReleaseError, ReleaseRequest, ServiceError, Wait, WaitEdge};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, end, id, millis};
use crate::script::{S, X, lock, named, owner, request, session};

#[tokio::test(start_paused = true)]
async fn a_release_hands_the_lock_to_whoever_waits() {
    let cluster = Cluster::start().await;
    let first = cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    let waiting = cluster.wait(leader, request("b", "l", X, Wait::Forever)).await;
    let refused = cluster.led().await.acquire(request("c", "l", S, Wait::Try)).await;
    assert_eq!(refused, Err(AcquireError::Held { holders: vec![session("a")] }));
    cluster.release("a", "l").await;
    let second = end(waiting).await.unwrap();
    assert!(second.token > first.token);
    let service = cluster.led().await;
    assert_eq!(service.validate(lock("l"), first.token).await, Ok(false));
    assert_eq!(service.validate(lock("l"), second.token).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn other_nodes_name_the_leader_at_once() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    // By its next heartbeat every follower knows it.
    sleep(millis(200)).await;
    let elsewhere = ServiceError::NotLeader { leader: Some(leader) };
    for node in [1, 2, 3].map(id).into_iter().filter(|node| *node != leader) {
        let service = cluster.service(node);
        let begun = Instant::now();
        let refused = service.acquire(request("b", "l", X, Wait::Forever)).await;
        assert_eq!(refused, Err(elsewhere.into()));
        assert_eq!(service.lock(lock("l")).await, Err(elsewhere));
        assert_eq!(service.open_session(session("b"), millis(900)).await, Err(elsewhere.into()));
        assert_eq!(service.wait_for().await, Err(elsewhere));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_times_out_without_any_other_traffic() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let service = cluster.led().await;
    let begun = Instant::now();
    let refused = service.acquire(request("b", "l", X, Wait::For(millis(700)))).await;
    assert_eq!(refused, Err(AcquireError::TimedOut));
    assert!((700..900).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    // Nothing else is due soon, so nothing is written.
    let written = |leader| cluster.groups[&leader].status().last_index;
    let leader = cluster.leader().await;
    let before = written(leader);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(written(leader), before);
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_the_greatest_length_is_only_long() {
    let cluster = Cluster::start().await;
    let mut ask = request("a", "l", X, Wait::Try);
    ask.ttl = Some(Duration::from_secs(100_000));
    cluster.take(ask.clone()).await;
    let leader = cluster.leader().await;
    let mut endless = request("b", "l", X, Wait::For(Duration::MAX));
    endless.ttl = ask.ttl;
    let waiting = cluster.wait(leader, endless).await;
    sleep(Duration::from_secs(3 * 60 * 60)).await;
    assert!(!waiting.is_finished());
    cluster.release("a", "l").await;
    assert!(end(waiting).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_is_refused_with_its_cycle() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "1", X, Wait::Try)).await;
    cluster.take(request("b", "2", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    let waiting = cluster.wait(leader, request("a", "2", X, Wait::Forever)).await;
    let service = cluster.led().await;
    let edge = WaitEdge { waiter: session("a"), holder: session("b"), lock: lock("2") };
    assert_eq!(service.wait_for().await, Ok(vec![edge]));
    let refused = service.acquire(request("b", "1", X, Wait::Forever)).await;
    let cycle = vec![session("b"), session("a")];
    assert_eq!(refused, Err(AcquireError::Deadlock { cycle }));
    service.close_session(session("b")).await.unwrap();
    assert!(end(waiting).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn releases_are_checked() {
    let cluster = Cluster::start().await;
    let token = cluster.take(request("a", "l", X, Wait::Try)).await.token;
    let service = cluster.led().await;
    let release = |who: &str, token| {
        let owner = owner(who);
        let (session, owner) = (owner.session, owner.owner);
        service.release(ReleaseRequest { lock: lock("l"), session, owner, token })
    };
    let stale = dss_lock::FencingToken::new(token.get() + 1);
    assert_eq!(release("b", Some(token)).await, Err(ReleaseError::NotHolder));
    assert_eq!(release("a", Some(stale)).await, Err(ReleaseError::StaleToken));
    assert_eq!(release("a", Some(token)).await, Ok(()));
    assert_eq!(service.lock(lock("l")).await, Ok(None));
    assert_eq!(service.force_release(lock("l")).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_on_the_same_node_joins_the_wait() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    let ask = named("1", request("b", "l", X, Wait::Forever));
    let first = cluster.wait(leader, ask.clone()).await;
    let service = cluster.service(leader);
    let repeat = tokio::spawn({
        let ask = ask.clone();
        async move { service.acquire(ask).await }
    });
    sleep(millis(100)).await;
    assert_eq!(cluster.state("l").await, (vec!["a".into()], 1));
    cluster.release("a", "l").await;
    let granted = end(first).await;
    assert!(granted.is_ok());
    assert_eq!(end(repeat).await, granted);
    assert_eq!(cluster.led().await.acquire(ask).await, granted);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_none_harms_nobody() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    for garbage in [&b""[..], b"\x01", b"\x01\xff\xff\xff\xff\xff", b"\x02garbage"] {
        let applied = cluster.groups[&leader].propose(Bytes::copy_from_slice(garbage)).await;
        assert!(applied.unwrap().reply.is_err());
    }
    assert_eq!(cluster.state("l").await, (vec!["a".into()], 0));
}
