//! The broker against real Redis servers.

mod copies;
mod failover;
mod loss;
mod model;
mod restore;
mod speed;
mod storms;
mod transitions;
mod waiting;

use std::time::Duration;

use dss_queue::{
    Broker, ConsumerName, Delivery, GroupName, NewMessage, Receipt, ReceiveRequest, TopicName,
};
use tokio::time::{Instant, sleep};

use super::{Copies, RedisBroker};
use crate::redis::test_server::RedisServer;
use crate::redis::{RedisAddress, RedisNodes};

/// How long anything may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(20);

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).unwrap()
}

fn message(text: &str) -> NewMessage {
    NewMessage::new(text.to_owned())
}

fn keyed(text: &str, key: &str) -> NewMessage {
    NewMessage { key: Some(key.to_owned()), ..message(text) }
}

fn request(max: usize) -> ReceiveRequest {
    let consumer = ConsumerName::new("worker").unwrap();
    ReceiveRequest { consumer, max, wait: Duration::ZERO, visibility: None }
}

fn waiting(max: usize, millis: u64) -> ReceiveRequest {
    ReceiveRequest { wait: Duration::from_millis(millis), ..request(max) }
}

fn for_millis(max: usize, visibility: u64) -> ReceiveRequest {
    ReceiveRequest { visibility: Some(Duration::from_millis(visibility)), ..request(max) }
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|it| std::str::from_utf8(&it.payload).unwrap()).collect()
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

/// A broker on these servers, all of which are open, with one copy of each message.
async fn broker_on(servers: &[RedisServer]) -> RedisBroker {
    broker_with(servers, Copies::One).await
}

/// The same with so many copies.
async fn broker_with(servers: &[RedisServer], copies: Copies) -> RedisBroker {
    let addresses = servers.iter().map(|server| RedisAddress::parse(&server.url()).unwrap());
    let broker = RedisBroker::start("test", RedisNodes::start(addresses.collect()), copies);
    for server in servers {
        opened(&broker, server, true).await;
    }
    broker
}

/// Waits until the broker uses the server, or does not.
async fn opened(broker: &RedisBroker, server: &RedisServer, open: bool) {
    let node = &broker.shared.nodes[number(broker, server)];
    let (mut mark, mut standing) = (node.mark.subscribe(), node.redis.standing());
    let changed = async {
        mark.wait_for(|mark| mark.is_some() == open).await.unwrap();
        standing.wait_for(|standing| standing.is_ok() == open).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("in time");
}

fn number(broker: &RedisBroker, server: &RedisServer) -> usize {
    let url = server.url();
    let name = url.strip_prefix("redis://").unwrap();
    broker.shared.nodes.iter().position(|node| node.name() == name).unwrap()
}

/// The number of the server that is the topic's home.
fn home(broker: &RedisBroker, servers: &[RedisServer], name: &str) -> usize {
    let home = broker.shared.home(&topic(name));
    servers.iter().position(|it| it.url().ends_with(home.node.name())).unwrap()
}

/// Waits until something is so.
async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Receives and acknowledges until nothing has come for a while; the texts in their order.
async fn drained(broker: &RedisBroker, name: &str, group: &GroupName) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let found = broker.receive(&topic(name), group, waiting(100, 700)).await.unwrap();
        if found.is_empty() {
            return all;
        }
        all.extend(texts(&found).into_iter().map(str::to_owned));
        let settled = broker.ack(&topic(name), group, receipts(&found)).await.unwrap();
        assert_eq!((settled.done, settled.stale), (found.len(), vec![]));
    }
}
