use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use dss_lock::Wait;
use tokio::time::sleep;

use super::cluster::{Cluster, millis};
use crate::script::{X, named, request, session};

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_leaves_the_queue() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    let dropped = cluster.wait(leader, request("b", "l", X, Wait::Forever)).await;
    let waiting = cluster.wait(leader, request("c", "l", X, Wait::Forever)).await;
    dropped.abort();
    cluster.becomes("l", &["a"], 1).await;
    cluster.release("a", "l").await;
    assert!(waiting.await.unwrap().is_ok());
}

/// Polls `future` so many times and drops it when it is woken once more, with what it was woken
/// for unseen.
async fn drop_at_wake<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Some(Box::pin(future));
    let mut polled = 0;
    poll_fn(move |context| {
        if polled == polls {
            future = None;
            return Poll::Ready(None);
        }
        polled += 1;
        future.as_mut().expect("it is dropped last").as_mut().poll(context).map(Some)
    })
    .await
}

/// Wherever an acquire is dropped, of a free lock or of one that is released just then, either it
/// was granted to somebody who knows, or nothing is left of it.
#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_at_any_moment_leaves_no_lock_behind() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "other", X, Wait::Try)).await;
    let service = cluster.led().await;
    let (mut told, mut untold) = (0, 0);
    for (polls, contended) in (1..8).flat_map(|polls| [(polls, false), (polls, true)]) {
        let name = format!("lock {polls}");
        if contended {
            cluster.take(request("a", &name, X, Wait::Try)).await;
        }
        let before = cluster.take(request("a", "other", X, Wait::Try)).await.token;
        let service = service.clone();
        let ask = request("b", &name, X, Wait::Forever);
        let acquiring = async move { service.acquire(ask).await };
        let acquiring = tokio::spawn(drop_at_wake(acquiring, polls));
        sleep(millis(100)).await;
        if contended {
            cluster.release("a", &name).await;
        }
        if let Some(grant) = acquiring.await.unwrap() {
            assert_eq!(cluster.state(&name).await, (vec!["b".into()], 0));
            assert!(grant.unwrap().token > before);
            cluster.release("b", &name).await;
            told += 1;
        } else {
            cluster.becomes(&name, &[], 0).await;
            let probe = cluster.take(request("a", "probe", X, Wait::Try)).await.token;
            cluster.release("a", "probe").await;
            // Whether it had been granted by then.
            untold += usize::from(probe.get() > before.get() + 1);
        }
    }
    assert!(told > 3 && untold > 1, "{told} were told of their grant and {untold} were not");
}

#[tokio::test(start_paused = true)]
async fn a_wait_dropped_where_nobody_leads_any_more_is_carried_to_the_leader() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let old = cluster.leader().await;
    let mut ask = request("b", "l", X, Wait::Forever);
    ask.ttl = Some(Duration::from_secs(600));
    let dropped = cluster.wait(old, ask).await;
    cluster.transfer().await;
    sleep(millis(200)).await;
    dropped.abort();
    sleep(millis(200)).await;
    assert_eq!(cluster.state("l").await, (vec!["a".into()], 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_courier_a_dropped_wait_is_taken_back_when_the_node_leads_again() {
    let cluster = Cluster::start_with(false, 20_000).await;
    let mut hold = request("a", "l", X, Wait::Try);
    hold.ttl = Some(Duration::from_secs(600));
    cluster.take(hold).await;
    let old = cluster.leader().await;
    let mut ask = request("b", "l", X, Wait::Forever);
    ask.ttl = Some(Duration::from_secs(600));
    let dropped = cluster.wait(old, ask).await;
    let new = cluster.transfer().await;
    dropped.abort();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(cluster.state("l").await, (vec!["a".into()], 1));
    // A grant that comes meanwhile goes the same way.
    cluster.release("a", "l").await;
    assert_eq!(cluster.state("l").await, (vec!["b".into()], 0));
    cluster.groups[&new].transfer_leadership(Some(old)).await.unwrap();
    cluster.becomes("l", &[], 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_keeps_what_its_first_request_gives_up() {
    let cluster = Cluster::start().await;
    cluster.take(request("a", "l", X, Wait::Try)).await;
    let leader = cluster.leader().await;
    let ask = named("1", request("b", "l", X, Wait::Forever));
    let first = cluster.wait(leader, ask.clone()).await;
    let service = cluster.service(leader);
    let repeat = tokio::spawn(async move { service.acquire(ask).await });
    sleep(millis(100)).await;
    first.abort();
    sleep(millis(100)).await;
    cluster.release("a", "l").await;
    assert_eq!(repeat.await.unwrap().unwrap().session, session("b"));
    assert_eq!(cluster.state("l").await, (vec!["b".into()], 0));
}
