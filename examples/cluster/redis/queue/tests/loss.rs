//! Servers that come back with less than they had.

use dss_queue::{Broker, TopicSettings};

use super::*;
use crate::redis::queue::Loss;
use crate::redis::test_server::RedisServer;

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_comes_back_empty_is_named_and_used_anew() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_on(&servers).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let settings = TopicSettings { max_attempts: 9, ..TopicSettings::default() };
    broker.configure(&orders, settings.clone()).await.unwrap();
    let ids = broker.publish(&orders, vec![message("gone")]).await.unwrap();
    let home = home(&broker, &servers, "orders");
    let node = &broker.shared.nodes[number(&broker, &servers[home])];
    let name = node.name().to_owned();
    servers[home].kill().await;
    opened(&broker, &servers[home], false).await;
    servers[home].restart_empty().await;
    opened(&broker, &servers[home], true).await;
    assert_eq!(broker.losses(), [(name.clone(), Loss::Everything)]);

    // The others remember the topic and its settings; new ids are not old ones.
    until("the topic is known again", async || broker.topic(&orders).await.is_ok()).await;
    let info = broker.topic(&orders).await.unwrap();
    assert_eq!((info.settings, info.length), (settings, 0));
    assert!(broker.publish(&orders, vec![message("new")]).await.unwrap()[0] > ids[0]);
    assert_eq!(drained(&broker, "orders", &billing).await, ["new"]);

    // A process that was not there meanwhile learns of a loss from the other servers.
    drop(broker);
    servers[home].kill().await;
    servers[home].restart_empty().await;
    let broker = broker_on(&servers).await;
    assert_eq!(broker.losses(), [(name, Loss::Everything)]);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_was_emptied_between_two_calls_does_nothing_before_that_is_noticed() {
    let mut servers = RedisServer::start_several(2).await;
    let broker = broker_on(&servers).await;
    let orders = topic("orders");
    broker.publish(&orders, vec![message("gone")]).await.unwrap();
    let home = home(&broker, &servers, "orders");
    let node = broker.shared.nodes[number(&broker, &servers[home])].clone();
    node.redis.run::<()>(&redis::cmd("FLUSHALL")).await.unwrap();
    let ids = broker.publish(&orders, vec![message("next")]).await.unwrap();
    assert_ne!(ids[0].shard(), node.shard, "it went another way");
    until("the loss is noticed", async || !broker.losses().is_empty()).await;
    assert_eq!(broker.losses(), [(node.name().to_owned(), Loss::Everything)]);
    assert_eq!(drained(&broker, "orders", &group("billing")).await, ["next"]);
    servers[home].kill().await;
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_with_an_older_state_is_named() {
    let mut servers = RedisServer::start_several(2).await;
    let broker = broker_on(&servers).await;
    let orders = topic("orders");
    broker.publish(&orders, vec![message("1")]).await.unwrap();
    let home = home(&broker, &servers, "orders");
    let place = number(&broker, &servers[home]);
    let name = broker.shared.nodes[place].name().to_owned();
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    let copy = servers[home].copy_of_data();
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    assert_eq!(broker.losses(), []);
    for text in ["2", "3", "4"] {
        broker.publish(&orders, vec![message(text)]).await.unwrap();
    }
    // The other server is told of it within a round.
    let other = &broker.shared.nodes[1 - place];
    let key = format!("{}:peers", broker.shared.caller.keys);
    until("the changes are counted", async || {
        let line: String = other.redis.run(redis::cmd("HGET").arg(&key).arg(&name)).await.unwrap();
        line.ends_with(" 4")
    })
    .await;
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    servers[home].put_back(copy);
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    assert_eq!(broker.losses(), [(name, Loss::Changes(3))]);
    assert_eq!(drained(&broker, "orders", &group("billing")).await, ["1"]);
}
