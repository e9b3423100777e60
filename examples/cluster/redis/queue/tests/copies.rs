//! Two servers have what was acknowledged to a producer.

use dss_queue::{Broker, BrokerError, TopicSettings};

use super::*;
use crate::redis::queue::copies::{Listed, Shadow};
use crate::redis::queue::place::Place;
use crate::redis::test_server::RedisServer;

/// The shadow of a place on one of the others, whether there is one or not.
pub(super) fn shadow_on(broker: &RedisBroker, place: &Place, other: usize) -> Shadow {
    let mark = place.node.mark.borrow().clone().expect("it is open");
    let node = broker.shared.others(place)[other].clone();
    Shadow { node, of: place.clone(), mark }
}

/// How many messages a shadow has.
pub(super) async fn length_of(broker: &RedisBroker, shadow: &Shadow) -> u64 {
    let key = format!("{}:order", broker.shared.prefix(shadow));
    shadow.node.redis.run(redis::cmd("ZCARD").arg(key)).await.unwrap()
}

/// Waits until the first of its shadows knows of all that has happened at a place.
pub(super) async fn until_told(broker: &RedisBroker, place: &Place) {
    let shadow = shadow_on(broker, place, 0);
    let keys = &broker.shared.caller.keys;
    until("the shadow is told", async || {
        let key = format!("{keys}:node");
        let done: u64 =
            place.node.redis.run(redis::cmd("HGET").arg(key).arg("writes")).await.unwrap();
        let key = format!("{}:meta", broker.shared.prefix(&shadow));
        let mut command = redis::cmd("HMGET");
        command.arg(key).arg(&["changes", "whole"]);
        let told: (Option<u64>, Option<u64>) = shadow.node.redis.run(&command).await.unwrap();
        told == (Some(done), Some(1))
    })
    .await;
}

/// How many shadows there are on a server.
async fn shadows_on(broker: &RedisBroker, node: usize) -> usize {
    let key = format!("{}:shadows", broker.shared.caller.keys);
    let node = &broker.shared.nodes[node];
    let members: Vec<String> = node.redis.run(redis::cmd("SMEMBERS").arg(key)).await.unwrap();
    assert!(members.iter().all(|member| Listed::parse(member).is_some()), "{members:?}");
    members.len()
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_shadow_has_what_its_place_needs_and_is_gone_with_the_topic() {
    let servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing, audit) = (topic("orders"), group("billing"), group("audit"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    for group in [&billing, &audit] {
        assert_eq!(broker.receive(&orders, group, request(1)).await.unwrap(), []);
    }
    broker.publish(&orders, ["1", "2", "3"].map(message).to_vec()).await.unwrap();
    let place = broker.shared.home(&orders);
    let shadow = shadow_on(&broker, &place, 0);
    assert_eq!(length_of(&broker, &shadow).await, 3, "before the publish was answered");
    for group in [&billing, &audit] {
        let found = broker.receive(&orders, group, request(2)).await.unwrap();
        broker.ack(&orders, group, receipts(&found)).await.unwrap();
    }
    until_told(&broker, &place).await;
    assert_eq!(length_of(&broker, &shadow).await, 1);
    assert_eq!(drained(&broker, "orders", &billing).await, ["3"]);
    assert_eq!(drained(&broker, "orders", &audit).await, ["3"]);
    until_told(&broker, &place).await;
    assert_eq!(length_of(&broker, &shadow).await, 0);
    broker.publish(&orders, vec![message("4")]).await.unwrap();
    broker.delete(&orders).await.unwrap();
    until("nothing is left of it", async || {
        let mut left = 0;
        for node in 0..3 {
            let keys = redis::cmd("KEYS").arg("*{orders}*").to_owned();
            left += broker.shared.nodes[node].redis.run::<Vec<String>>(&keys).await.unwrap().len();
            left += shadows_on(&broker, node).await;
        }
        left == 0
    })
    .await;
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_shadow_does_not_grow_while_an_old_message_waits() {
    let servers = RedisServer::start_several(2).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    assert_eq!(broker.publish(&orders, vec![message("old")]).await.unwrap().len(), 1);
    let old = broker.receive(&orders, &billing, request(1)).await.unwrap();
    for _ in 0..3 {
        broker.publish(&orders, vec![message("new"); 600]).await.unwrap();
        while broker.topic(&orders).await.unwrap().length > 1 {
            let found = broker.receive(&orders, &billing, request(600)).await.unwrap();
            broker.ack(&orders, &billing, receipts(&found)).await.unwrap();
        }
    }
    let shadow = shadow_on(&broker, &broker.shared.home(&orders), 0);
    until("it is looked through", async || length_of(&broker, &shadow).await <= 1_002).await;
    assert_eq!(broker.ack(&orders, &billing, receipts(&old)).await.unwrap().done, 1);
    until("it is cut off", async || length_of(&broker, &shadow).await == 0).await;
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn another_server_helps_out_while_the_first_one_is_away() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.publish(&orders, vec![message("1")]).await.unwrap();
    let place = broker.shared.home(&orders);
    let [first, helper] = [0, 1].map(|other| shadow_on(&broker, &place, other));
    let at = |name: &str| servers.iter().position(|it| it.url().ends_with(name)).unwrap();
    let (home, keeper, third) =
        (at(place.node.name()), at(first.node.name()), at(helper.node.name()));
    servers[keeper].stop().await;
    opened(&broker, &servers[keeper], false).await;
    broker.publish(&orders, vec![message("2")]).await.unwrap();
    assert_eq!(length_of(&broker, &helper).await, 1, "what is new, not all");
    servers[keeper].restart().await;
    opened(&broker, &servers[keeper], true).await;
    until("it is not needed any more", async || length_of(&broker, &helper).await == 0).await;
    assert_eq!(length_of(&broker, &first).await, 2);
    // So it may lose its disk, and then the home.
    for victim in [third, home] {
        servers[victim].kill().await;
        opened(&broker, &servers[victim], false).await;
        servers[victim].restart_empty().await;
        opened(&broker, &servers[victim], true).await;
    }
    assert_eq!(drained(&broker, "orders", &billing).await, ["1", "2"]);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn without_a_second_server_the_outcome_is_unknown_and_it_gets_its_copy_later() {
    let mut servers = RedisServer::start_several(2).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let home = home(&broker, &servers, "orders");
    let other = 1 - home;
    servers[other].stop().await;
    opened(&broker, &servers[other], false).await;
    let once = NewMessage { dedupe_id: Some("once".to_owned()), ..message("1") };
    for _ in 0..2 {
        let published = broker.publish(&orders, vec![once.clone()]).await;
        assert_eq!(published, Err(BrokerError::OutcomeUnknown), "also where it is known already");
    }
    let found = broker.receive(&orders, &billing, request(1)).await.unwrap();
    assert_eq!(texts(&found), ["1"], "it is there");
    servers[other].restart_empty().await;
    opened(&broker, &servers[other], true).await;
    broker.publish(&orders, vec![once]).await.unwrap();
    let place = broker.shared.home(&orders);
    assert_eq!(length_of(&broker, &shadow_on(&broker, &place, 0)).await, 1);
    until_told(&broker, &place).await;

    // The other server loses its disk, and gets what is there once more; then the home does.
    servers[other].kill().await;
    opened(&broker, &servers[other], false).await;
    servers[other].restart_empty().await;
    opened(&broker, &servers[other], true).await;
    until_told(&broker, &place).await;
    servers[home].kill().await;
    opened(&broker, &servers[home], false).await;
    servers[home].restart_empty().await;
    opened(&broker, &servers[home], true).await;
    assert_eq!(drained(&broker, "orders", &billing).await, ["1"]);
}
