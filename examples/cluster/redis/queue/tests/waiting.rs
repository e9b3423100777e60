//! Receives that wait.

use std::sync::Arc;
use std::time::Duration;

use dss_queue::Broker;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::redis::test_server::RedisServer;

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_message_wakes_one_waiter_whichever_process_published_it() {
    let server = RedisServer::start().await;
    let broker = Arc::new(broker_on(std::slice::from_ref(&server)).await);
    let other = broker_on(std::slice::from_ref(&server)).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, dss_queue::TopicSettings::default()).await.unwrap();
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (broker, orders, billing) = (Arc::clone(&broker), orders.clone(), billing.clone());
        waiters.spawn(async move { broker.receive(&orders, &billing, waiting(1, 15_000)).await });
    }
    sleep(Duration::from_millis(300)).await;
    let before = commands(&broker).await;
    sleep(Duration::from_millis(1_000)).await;
    let looks = commands(&broker).await - before;
    assert!(looks < 10, "20 waiters cost {looks} calls a second");

    let begun = Instant::now();
    for number in 0..20 {
        other.publish(&orders, vec![message(&number.to_string())]).await.unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    while let Some(found) = timeout(PATIENCE, waiters.join_next()).await.expect("in time") {
        let found = found.unwrap().unwrap();
        assert_eq!(found.len(), 1);
        assert!(seen.insert(found[0].id));
    }
    assert_eq!(seen.len(), 20);
    assert!(begun.elapsed() < Duration::from_secs(5), "the bell wakes, not the clock");
}

/// How often scripts were called on the first server.
async fn commands(broker: &RedisBroker) -> u64 {
    let info: String =
        broker.shared.nodes[0].redis.run(redis::cmd("INFO").arg("commandstats")).await.unwrap();
    let calls = |line: &str| line.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap();
    info.lines().filter(|line| line.starts_with("cmdstat_evalsha")).map(calls).sum()
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_wait_ends_in_time_and_a_dropped_one_hands_back_what_it_was_granted() {
    let server = RedisServer::start().await;
    let broker = Arc::new(broker_on(std::slice::from_ref(&server)).await);
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, dss_queue::TopicSettings::default()).await.unwrap();
    let begun = Instant::now();
    assert_eq!(broker.receive(&orders, &billing, waiting(1, 300)).await.unwrap(), []);
    assert!(begun.elapsed() >= Duration::from_millis(300));

    // Dropped at whatever point, the message is there for the next one, as if never delivered.
    broker.publish(&orders, vec![message("1")]).await.unwrap();
    for number in 0..40 {
        let receive = broker.receive(&orders, &billing, waiting(1, 5_000));
        if let Ok(found) = timeout(Duration::from_micros(number * 40), receive).await {
            let found = found.unwrap();
            assert_eq!(found[0].attempt, 1, "nobody saw the earlier ones");
            let settle = broker.shared.settle(
                &orders,
                &billing,
                receipts(&found),
                crate::redis::queue::settle::What::Back,
            );
            assert_eq!(settle.await.unwrap().done, 1);
        }
    }
    let last = broker.receive(&orders, &billing, waiting(1, 5_000)).await.unwrap();
    assert_eq!(last[0].attempt, 1);
}
