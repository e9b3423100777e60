use std::time::Duration;

use dss_lock::{AcquireError, ServiceError, Wait};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, end, id, millis};
use crate::script::{X, named, request, session};

#[tokio::test(start_paused = true)]
async fn a_waiter_on_a_node_that_stops_leading_is_granted_by_the_next_leader() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let old = cluster.leader().await;
    let waiting = cluster.wait(old, request("b", "l", X, Wait::Forever)).await;
    cluster.transfer().await;
    // Long enough for the wait to be asked about, and to go on.
    sleep(Duration::from_secs(7)).await;
    assert!(!waiting.is_finished());
    cluster.release("a", "l").await;
    assert!(end(waiting).await.is_ok());
    assert_eq!(cluster.state("l").await, (vec!["b".into()], 0));
}

#[tokio::test(start_paused = true)]
async fn a_time_out_under_the_next_leader_reaches_the_waiter() {
    let cluster = Cluster::start().await;
    // The next leader's time goes on from this one's, however long that has led.
    cluster.take(request("c", "other", X, Wait::Try)).await;
    sleep(Duration::from_secs(100)).await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let old = cluster.leader().await;
    let begun = Instant::now();
    let ask = request("b", "l", X, Wait::For(Duration::from_secs(6)));
    let waiting = cluster.wait(old, ask).await;
    cluster.transfer().await;
    assert_eq!(end(waiting).await, Err(AcquireError::TimedOut));
    assert!(begun.elapsed() >= Duration::from_secs(6) - millis(10), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_repeat_through_another_node_after_a_crash_gets_the_same_answer() {
    let mut cluster = Cluster::start().await;
    let held = cluster.take(named("0", request("a", "l", X, Wait::Try))).await;
    let old = cluster.leader().await;
    let ask = named("1", request("b", "l", X, Wait::Forever));
    let lost = cluster.wait(old, ask.clone()).await;
    cluster.crash(old);
    let new = cluster.leader_beside(Some(old)).await;
    assert_eq!(cluster.take(named("0", request("a", "l", X, Wait::Try))).await, held);
    let repeat = cluster.wait(new, ask.clone()).await;
    assert_eq!(cluster.state("l").await, (vec!["a".into()], 1));
    cluster.release("a", "l").await;
    let granted = end(repeat).await.unwrap();
    assert!(granted.token > held.token);
    assert_eq!(cluster.take(ask).await, granted);
    lost.abort();
}

#[tokio::test(start_paused = true)]
async fn an_acquire_caught_by_a_partition_ends_in_the_truth() {
    for round in 0..12_u64 {
        let cluster = Cluster::start().await;
        cluster.take(request("a", "other", X, Wait::Try)).await;
        let old = cluster.leader().await;
        let service = cluster.service(old);
        let ask = request("b", "l", X, Wait::For(Duration::from_secs(3)));
        let acquiring = tokio::spawn(async move { service.acquire(ask).await });
        // The partition comes before, in the midst of, or after its replication.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        cluster.network.isolate(old);
        cluster.leader_beside(Some(old)).await;
        sleep(millis(100)).await;
        cluster.network.heal();
        match end(acquiring).await {
            Ok(grant) => assert_eq!(cluster.take(request("b", "l", X, Wait::Try)).await, grant),
            Err(AcquireError::Service(ServiceError::NotLeader { .. })) => {
                cluster.becomes("l", &[], 0).await;
            }
            Err(error) => panic!("round {round}: {error:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_cut_off_for_long_is_told_that_it_cannot_know() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let old = cluster.leader().await;
    let mut ask = request("b", "l", X, Wait::Forever);
    ask.ttl = Some(Duration::from_secs(600));
    let waiting = cluster.wait(old, ask).await;
    cluster.network.isolate(old);
    let begun = Instant::now();
    let unknown = ServiceError::OutcomeUnknown;
    assert_eq!(end(waiting).await, Err(unknown.into()));
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    // And once it can be, it is taken back.
    cluster.network.heal();
    cluster.becomes("l", &[], 0).await;
    assert!(cluster.led().await.session(session("b")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_learns_its_end_from_a_snapshot() {
    let cluster = Cluster::start_with(true, 20).await;
    let mut hold = request("a", "l", X, Wait::Try);
    hold.ttl = Some(Duration::from_secs(600));
    cluster.take(hold).await;
    let old = cluster.leader().await;
    let mut ask = request("b", "l", X, Wait::Forever);
    ask.ttl = Some(Duration::from_secs(600));
    let waiting = cluster.wait(old, ask).await;
    cluster.network.isolate(old);
    let new = cluster.leader_beside(Some(old)).await;
    let service = cluster.service(new);
    service.force_release(crate::script::lock("l")).await.unwrap();
    for number in 0..100 {
        service.acquire(request("c", &number.to_string(), X, Wait::Try)).await.unwrap();
    }
    assert!(!waiting.is_finished());
    cluster.network.heal();
    let granted = end(waiting).await.unwrap();
    assert_eq!(cluster.take(request("b", "l", X, Wait::Try)).await, granted);
}

#[tokio::test(start_paused = true)]
async fn everything_acknowledged_survives_a_restart_of_all_and_tokens_rise_on() {
    let mut cluster = Cluster::start_with(true, 10).await;
    let mut newest = 0;
    for round in 0..4 {
        let leader = cluster.leader().await;
        let mut ask = request("a", &format!("kept {round}"), X, Wait::Try);
        ask.ttl = Some(Duration::from_secs(600));
        let token = cluster.take(ask).await.token.get();
        assert!(token > newest);
        newest = token;
        for number in 0..12 {
            let name = format!("passing {number}");
            newest = cluster.take(request("a", &name, X, Wait::Try)).await.token.get();
            cluster.release("a", &name).await;
        }
        let waiting = cluster.wait(leader, request("b", "kept 0", X, Wait::Forever)).await;
        waiting.abort();
        for node in [1, 2, 3].map(id) {
            cluster.crash(node);
        }
        for node in [1, 2, 3].map(id) {
            cluster.start_node(node).await;
        }
        for kept in 0..=round {
            let (holders, _) = cluster.state(&format!("kept {kept}")).await;
            assert_eq!(holders, ["a"]);
        }
        cluster.led().await.close_session(session("b")).await.unwrap();
    }
}
