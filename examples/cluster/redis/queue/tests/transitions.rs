//! Each transition on one server, with its own clock.

use std::time::Duration;

use dss_queue::{Broker, BrokerError, DeadReason, Fence, MessageId, ShardId, TopicSettings};
use tokio::time::sleep;

use super::*;
use crate::redis::test_server::RedisServer;

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn messages_lie_in_a_stream_until_every_group_has_acknowledged_them() {
    let server = RedisServer::start().await;
    let broker = broker_on(std::slice::from_ref(&server)).await;
    let (orders, billing, audit) = (topic("orders"), group("billing"), group("audit"));
    assert_eq!(broker.receive(&orders, &billing, request(1)).await, Err(BrokerError::NotFound));
    let ids = broker.publish(&orders, vec![message("1"), message("2")]).await.unwrap();
    assert!(ids[0] < ids[1]);
    assert_eq!(stream_length(&broker).await, 2);

    let first = broker.receive(&orders, &billing, request(10)).await.unwrap();
    assert_eq!(first.iter().map(|it| it.id).collect::<Vec<_>>(), ids);
    let second = broker.receive(&orders, &audit, request(10)).await.unwrap();
    let settled = broker.ack(&orders, &billing, receipts(&first)).await.unwrap();
    assert_eq!((settled.done, settled.stale), (2, vec![]));
    assert_eq!(stream_length(&broker).await, 2, "audit is not done with them");
    let foreign = broker.ack(&orders, &audit, receipts(&first)).await.unwrap();
    assert_eq!((foreign.done, foreign.stale), (0, receipts(&first)), "another group's receipts");
    broker.ack(&orders, &audit, receipts(&second[..1])).await.unwrap();
    assert_eq!(stream_length(&broker).await, 1);
    broker.ack(&orders, &audit, receipts(&second)).await.unwrap();
    assert_eq!(stream_length(&broker).await, 0);
    assert_eq!(broker.topics().await.unwrap(), std::slice::from_ref(&orders));
    broker.delete(&orders).await.unwrap();
    assert_eq!(keys_left(&broker).await, 0, "nothing is left of a topic that is deleted");
    assert_eq!(broker.topics().await.unwrap(), []);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn who_had_a_lock_before_cannot_publish_after_who_has_it_now() {
    let server = RedisServer::start().await;
    let broker = broker_on(std::slice::from_ref(&server)).await;
    let orders = topic("orders");
    let publish = async |text: &str, lock: &str, token| {
        let fence = Fence { lock: lock.to_owned(), token };
        broker.publish_fenced(&orders, vec![message(text)], fence).await.map(drop)
    };
    // Two that a double takes for one, and one that sorts before them as a text.
    let newest = u64::MAX;
    assert_eq!(publish("a", "l", 9).await, Ok(()));
    assert_eq!(publish("b", "l", newest - 1).await, Ok(()));
    assert_eq!(publish("c", "l", newest).await, Ok(()));
    assert_eq!(publish("late", "l", newest - 1).await, Err(BrokerError::Fenced));
    assert_eq!(publish("late", "l", 10).await, Err(BrokerError::Fenced));
    assert_eq!(publish("d", "other", 1).await, Ok(()));
    assert_eq!(drained(&broker, "orders", &group("billing")).await, ["a", "b", "c", "d"]);
    broker.delete(&orders).await.unwrap();
    assert_eq!(keys_left(&broker).await, 0);
}

async fn stream_length(broker: &RedisBroker) -> u64 {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg("dss:test:queue:{orders}:s");
    let info: std::collections::BTreeMap<String, redis::Value> =
        broker.shared.nodes[0].redis.run(&command).await.unwrap();
    redis::from_redis_value(info["length"].clone()).unwrap()
}

async fn keys_left(broker: &RedisBroker) -> usize {
    let keys: Vec<String> =
        broker.shared.nodes[0].redis.run(redis::cmd("KEYS").arg("*{orders}*")).await.unwrap();
    keys.len()
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn who_is_silent_loses_the_lease_and_a_message_that_fails_too_often_is_a_dead_letter() {
    let server = RedisServer::start().await;
    let broker = broker_on(std::slice::from_ref(&server)).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let settings = TopicSettings { max_attempts: 2, ..TopicSettings::default() };
    broker.configure(&orders, settings.clone()).await.unwrap();
    broker.publish(&orders, vec![message("poison")]).await.unwrap();

    let first = broker.receive(&orders, &billing, for_millis(1, 50)).await.unwrap();
    assert_eq!(first[0].attempt, 1);
    assert_eq!(broker.receive(&orders, &billing, request(1)).await.unwrap(), []);
    sleep(Duration::from_millis(60)).await;
    let second = broker.receive(&orders, &billing, for_millis(1, 20_000)).await.unwrap();
    assert_eq!((second[0].attempt, second[0].id), (2, first[0].id));
    for what in ["ack", "nack", "extend"] {
        let late = receipts(&first);
        let settled = match what {
            "ack" => broker.ack(&orders, &billing, late.clone()).await,
            "nack" => broker.nack(&orders, &billing, late.clone(), Duration::ZERO).await,
            _ => broker.extend(&orders, &billing, late.clone(), Duration::from_secs(1)).await,
        };
        assert_eq!(settled.unwrap().stale, late, "{what} by who is late");
    }
    let extended = broker.extend(&orders, &billing, receipts(&second), Duration::from_millis(50));
    assert_eq!(extended.await.unwrap().done, 1);
    sleep(Duration::from_millis(60)).await;
    let dead = broker.dead_letters(&orders, &billing).await.unwrap();
    assert_eq!((dead.len(), dead[0].attempts, dead[0].reason), (1, 2, DeadReason::Expired));
    assert_eq!(dead[0].id, first[0].id);
    assert_eq!(broker.receive(&orders, &billing, request(1)).await.unwrap(), []);

    assert_eq!(broker.redrive(&orders, &billing).await, Ok(1));
    let third = broker.receive(&orders, &billing, request(1)).await.unwrap();
    assert_eq!((third[0].attempt, third[0].id), (1, first[0].id));
    broker.ack(&orders, &billing, receipts(&third)).await.unwrap();
    let info = broker.topic(&orders).await.unwrap();
    assert_eq!((info.settings, info.length), (settings, 0));
    assert_eq!(info.groups[&billing], dss_queue::GroupInfo::default());
    let nobody = group("nobody");
    assert_eq!(broker.redrive(&orders, &nobody).await, Err(BrokerError::NotFound));
    assert_eq!(broker.dead_letters(&orders, &nobody).await, Err(BrokerError::NotFound));
    assert_eq!(broker.ack(&orders, &nobody, vec![]).await, Err(BrokerError::NotFound));
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_nack_with_delay_comes_back_after_it_and_dedupe_ids_are_known() {
    let server = RedisServer::start().await;
    let broker = broker_on(std::slice::from_ref(&server)).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let once = NewMessage { dedupe_id: Some("x".to_owned()), ..keyed("1", "k") };
    let ids = broker.publish(&orders, vec![once.clone(), once.clone()]).await.unwrap();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(broker.publish(&orders, vec![once]).await.unwrap(), [ids[0]]);
    broker.publish(&orders, vec![keyed("2", "k")]).await.unwrap();

    let first = broker.receive(&orders, &billing, request(10)).await.unwrap();
    assert_eq!(texts(&first), ["1"], "one of a key at a time");
    broker.nack(&orders, &billing, receipts(&first), Duration::from_millis(80)).await.unwrap();
    assert_eq!(broker.receive(&orders, &billing, request(10)).await.unwrap(), []);
    let again = broker.receive(&orders, &billing, waiting(10, 5_000)).await.unwrap();
    assert_eq!((texts(&again), again[0].attempt), (vec!["1"], 2));
    broker.ack(&orders, &billing, receipts(&again)).await.unwrap();
    let next = broker.receive(&orders, &billing, request(10)).await.unwrap();
    assert_eq!(texts(&next), ["2"]);
    let unknown = dss_queue::Receipt::new(MessageId::new(ShardId::new(7), 7), 1, 7);
    let settled = broker.ack(&orders, &billing, vec![unknown]).await.unwrap();
    assert_eq!((settled.done, settled.stale), (0, vec![unknown]));
}
