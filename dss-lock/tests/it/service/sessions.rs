use std::time::Duration;

use dss_lock::{AcquireError, ServiceError, SessionError, Wait};
use dss_raft::RoleKind;
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, end, millis};
use crate::script::{X, request, session};

const TTL: Duration = Duration::from_secs(4);

#[tokio::test(start_paused = true)]
async fn a_silent_session_expires_without_any_other_traffic() {
    let cluster = Cluster::start().await;
    let mut ask = request("a", "l", X, Wait::Try);
    ask.ttl = Some(TTL);
    cluster.take(ask).await;
    let begun = Instant::now();
    let leader = cluster.leader().await;
    let service = cluster.service(leader);
    let granted = service.acquire(request("b", "l", X, Wait::For(TTL * 2))).await;
    assert!(granted.is_ok());
    let waited = begun.elapsed();
    assert!(waited >= TTL - millis(10) && waited < TTL + millis(300), "{waited:?}");
    assert_eq!(service.session(session("a")).await, Err(SessionError::Expired));
}

#[tokio::test(start_paused = true)]
async fn keep_alives_keep_a_session_and_write_nothing() {
    let cluster = Cluster::start().await;
    cluster.take(request("b", "other", X, Wait::Try)).await;
    let service = cluster.led().await;
    service.open_session(session("a"), TTL).await.unwrap();
    service.acquire(request("a", "l", X, Wait::Try)).await.unwrap();
    sleep(millis(100)).await;
    let leader = cluster.leader().await;
    let before = cluster.groups[&leader].status().last_index;
    for _ in 0..6 {
        sleep(TTL - millis(500)).await;
        let left = service.session(session("a")).await.unwrap().expires_in;
        assert!(left > millis(300) && left <= millis(600), "{left:?}");
        let info = service.open_session(session("a"), TTL).await.unwrap();
        assert_eq!((info.ttl, info.expires_in, info.holds.len()), (TTL, TTL, 1));
    }
    assert_eq!(cluster.groups[&leader].status().last_index, before);
}

#[tokio::test(start_paused = true)]
async fn another_time_to_live_holds_from_then_on() {
    let cluster = Cluster::start().await;
    cluster.take(request("b", "other", X, Wait::Try)).await;
    let service = cluster.led().await;
    service.open_session(session("a"), TTL).await.unwrap();
    service.open_session(session("a"), TTL * 3).await.unwrap();
    sleep(TTL * 2).await;
    assert_eq!(service.session(session("a")).await.unwrap().ttl, TTL * 3);
    service.open_session(session("a"), TTL).await.unwrap();
    sleep(TTL * 2).await;
    assert_eq!(service.session(session("a")).await, Err(SessionError::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_session_ends_is_told() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    let waiting = cluster.wait(leader, request("b", "l", X, Wait::Forever)).await;
    cluster.service(leader).close_session(session("b")).await.unwrap();
    assert_eq!(end(waiting).await, Err(AcquireError::SessionExpired));
    // One that is over is left so.
    cluster.service(leader).close_session(session("b")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_gives_every_session_its_full_time() {
    let mut cluster = Cluster::start().await;
    let mut ask = request("a", "l", X, Wait::Try);
    ask.ttl = Some(TTL);
    cluster.take(ask).await;
    let old = cluster.leader().await;
    sleep(TTL - millis(400)).await;
    cluster.crash(old);
    let new = cluster.leader_beside(Some(old)).await;
    let elected = Instant::now();
    sleep(TTL - millis(400)).await;
    assert!(cluster.service(new).session(session("a")).await.is_ok());
    cluster.becomes("l", &[], 0).await;
    assert!(elected.elapsed() < TTL + millis(500), "{:?}", elected.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_acknowledges_no_keep_alive_and_expires_nobody() {
    let cluster = Cluster::start().await;
    let mut ask = request("a", "l", X, Wait::Try);
    ask.ttl = Some(TTL);
    cluster.take(ask).await;
    let old = cluster.leader().await;
    cluster.network.isolate(old);
    let renewed = cluster.service(old).open_session(session("a"), TTL).await;
    assert!(
        matches!(renewed, Err(SessionError::Service(ServiceError::NotLeader { .. }))),
        "{renewed:?}"
    );
    let new = cluster.leader_beside(Some(old)).await;
    // The session lives on with the new leader for as long as it is renewed there.
    for _ in 0..4 {
        cluster.service(new).open_session(session("a"), TTL).await.unwrap();
        sleep(TTL / 2).await;
    }
    cluster.network.heal();
    sleep(TTL / 4).await;
    cluster.becomes("l", &["a"], 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_shortens_no_lease_and_no_wait() {
    let mut cluster = Cluster::start().await;
    let mut ask = request("a", "l", X, Wait::Try);
    ask.ttl = Some(Duration::from_secs(60));
    cluster.take(ask.clone()).await;
    let old = cluster.leader().await;
    ask.session = session("b");
    ask.wait = Wait::For(Duration::from_secs(10));
    let waiting = cluster.wait(old, ask).await;
    sleep(Duration::from_secs(2)).await;
    let others: Vec<_> = cluster.groups.keys().copied().filter(|node| *node != old).collect();
    for node in &others {
        cluster.crash(*node);
    }
    sleep(Duration::from_secs(20)).await;
    for node in &others {
        cluster.start_node(*node).await;
    }
    cluster.leader().await;
    let back = Instant::now();
    assert_eq!(end(waiting).await, Err(AcquireError::TimedOut));
    // What had passed since the last command may count again, but nothing of the outage counts.
    let rest = back.elapsed();
    assert!(rest > Duration::from_secs(5) && rest < Duration::from_secs(11), "{rest:?}");
    assert_eq!(cluster.state("l").await, (vec!["a".into()], 0));
}

/// A read can be confirmed for a node that leads no more. Were that taken for a confirmation of
/// its leadership, it would acknowledge signs of life that the next leader never hears of.
#[tokio::test(start_paused = true)]
async fn a_keep_alive_is_acknowledged_only_by_a_leader() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let (mut acknowledged, mut refused) = (0, 0);
    for round in 0..60 {
        let old = cluster.leader().await;
        let service = cluster.service(old);
        while service.open_session(session("a"), TTL).await.is_err() {
            sleep(millis(20)).await;
        }
        let transfer = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            cluster.groups[&old].transfer_leadership(None).await.unwrap();
        };
        let renew = async {
            for _ in 0..20 {
                let renewed = service.open_session(session("a"), TTL).await;
                let leads = cluster.groups[&old].status().role == RoleKind::Leader;
                if renewed.is_ok() {
                    assert!(leads, "acknowledged in round {round} by a node that does not lead");
                    acknowledged += 1;
                } else {
                    refused += 1;
                }
            }
        };
        tokio::join!(renew, transfer);
    }
    assert!(acknowledged > 50 && refused > 50, "{acknowledged} and {refused}");
}
