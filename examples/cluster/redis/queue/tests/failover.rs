//! Three servers, one of which goes down and comes back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dss_examples::random::Random;
use dss_queue::{Broker, BrokerError, GroupName, MessageId, TopicName, TopicSettings};
use tokio::time::sleep;

use super::*;
use crate::redis::queue::drain::Carried;
use crate::redis::queue::place::shard_text;
use crate::redis::test_server::RedisServer;

/// Waits until every hand-off has been brought home.
pub(super) async fn all_is_home(broker: &RedisBroker) {
    until("hand-offs are drained", async || {
        let mut left = 0;
        for node in &broker.shared.nodes {
            let key = format!("{}:handoffs", broker.shared.caller.keys);
            left += node.redis.run::<usize>(redis::cmd("SCARD").arg(key)).await.unwrap_or(1);
        }
        left == 0
    })
    .await;
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn while_a_home_is_down_messages_go_another_way_and_come_home_with_all_that_is_known() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_on(&servers).await;
    let (orders, billing, audit) = (topic("orders"), group("billing"), group("audit"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    for group in [&billing, &audit] {
        assert_eq!(broker.receive(&orders, group, request(1)).await.unwrap(), []);
    }
    broker.publish(&orders, vec![message("a1"), message("a2")]).await.unwrap();
    let before = broker.receive(&orders, &billing, request(1)).await.unwrap();
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;

    let texts_meanwhile = ["b1", "b2", "b3", "b4", "b5"];
    let ids = broker.publish(&orders, texts_meanwhile.map(message).to_vec()).await.unwrap();
    assert!(ids.iter().all(|id| id.shard() != before[0].id.shard()));
    let found = broker.receive(&orders, &billing, waiting(3, 1_000)).await.unwrap();
    assert_eq!(texts(&found), ["b1", "b2", "b3"]);
    let all = receipts(&found);
    assert_eq!(broker.ack(&orders, &billing, vec![all[0]]).await.unwrap().done, 1);
    assert_eq!(broker.nack(&orders, &billing, vec![all[1]], Duration::ZERO).await.unwrap().done, 1);
    let unreachable = broker.ack(&orders, &billing, receipts(&before)).await;
    assert_eq!(unreachable, Err(BrokerError::Unavailable), "nobody can record it");
    assert_eq!(broker.delete(&orders).await, Err(BrokerError::Unavailable));
    assert_eq!(broker.topics().await.unwrap(), std::slice::from_ref(&orders));

    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    all_is_home(&broker).await;
    let stale = broker.ack(&orders, &billing, vec![all[0], all[1]]).await.unwrap();
    assert_eq!(stale.stale, [all[0], all[1]], "they were settled before the move");
    let moved = broker.ack(&orders, &billing, vec![all[2]]).await.unwrap();
    assert_eq!((moved.done, moved.stale), (1, vec![]), "the lease has moved along");
    assert_eq!(broker.ack(&orders, &billing, receipts(&before)).await.unwrap().done, 1);

    let left = broker.receive(&orders, &billing, request(10)).await.unwrap();
    let mut seen: Vec<_> = texts(&left).into_iter().zip(left.iter().map(|it| it.attempt)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [("a2", 1), ("b2", 2), ("b4", 1), ("b5", 1)]);
    broker.ack(&orders, &billing, receipts(&left)).await.unwrap();
    let mut others = drained(&broker, "orders", &audit).await;
    others.sort_unstable();
    assert_eq!(others, ["a1", "a2", "b1", "b2", "b3", "b4", "b5"]);
    let info = broker.topic(&orders).await.unwrap();
    assert_eq!(info.length, 0);
    assert!(info.groups.values().all(|group| *group == dss_queue::GroupInfo::default()));
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn dead_letters_and_delays_move_home_and_dedupe_ids_are_compared_there() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_on(&servers).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let settings = TopicSettings { max_attempts: 1, ..TopicSettings::default() };
    broker.configure(&orders, settings).await.unwrap();
    let twice = NewMessage { dedupe_id: Some("once".to_owned()), ..message("twice") };
    broker.publish(&orders, vec![twice.clone()]).await.unwrap();
    // The group is there, and has nothing.
    let held = broker.receive(&orders, &billing, for_millis(1, 1)).await.unwrap();
    assert_eq!(texts(&held), ["twice"]);
    let home = home(&broker, &servers, "orders");
    servers[home].kill().await;
    opened(&broker, &servers[home], false).await;

    // Somebody does not know the outcome of the first publish.
    let late = NewMessage { delay: Duration::from_secs(3600), ..message("late") };
    let poison = message("poison");
    broker.publish(&orders, vec![twice, late, poison]).await.unwrap();
    let found = broker.receive(&orders, &billing, waiting(10, 1_000)).await.unwrap();
    assert_eq!(texts(&found), ["twice", "poison"]);
    let all = receipts(&found);
    broker.ack(&orders, &billing, vec![all[0]]).await.unwrap();
    // It has one attempt, as the home was told.
    broker.nack(&orders, &billing, vec![all[1]], Duration::ZERO).await.unwrap();

    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    all_is_home(&broker).await;
    let info = broker.topic(&orders).await.unwrap();
    let counted = info.groups[&billing];
    assert_eq!((counted.ready, counted.in_flight, counted.delayed), (0, 0, 1), "late is there");
    let dead = broker.dead_letters(&orders, &billing).await.unwrap();
    let mut names: Vec<_> = dead.iter().map(|it| it.payload.to_vec()).collect();
    names.sort_unstable();
    // The first delivery of `twice` ran out before the move: what was settled stays settled.
    assert_eq!(names, [b"poison".to_vec(), b"twice".to_vec()]);
    assert_eq!(broker.redrive(&orders, &billing).await, Ok(2));
    let again = drained(&broker, "orders", &billing).await;
    assert_eq!(again.len(), 2);
    assert_eq!(broker.topic(&orders).await.unwrap().length, 1);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_key_keeps_its_order_while_its_messages_move_home() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_on(&servers).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    // More than one batch of a drain, so that the last ones move after their head.
    let all: Vec<_> = (0..300).map(|number| keyed(&number.to_string(), "k")).collect();
    broker.publish(&orders, all).await.unwrap();
    let head = broker.receive(&orders, &billing, request(10)).await.unwrap();
    assert_eq!(texts(&head), ["0"]);
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    all_is_home(&broker).await;
    let none = broker.receive(&orders, &billing, request(10)).await.unwrap();
    assert_eq!(none, [], "the head is in flight, there as well as here");
    assert_eq!(broker.ack(&orders, &billing, receipts(&head)).await.unwrap().done, 1);
    let expected: Vec<_> = (1..300).map(|number| number.to_string()).collect();
    assert_eq!(drained(&broker, "orders", &billing).await, expected);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_drain_that_is_interrupted_is_repeated_and_moves_every_message_once() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = Arc::new(broker_on(&servers).await);
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    broker.publish(&orders, (0..200).map(|it| message(&it.to_string())).collect()).await.unwrap();
    let held = broker.receive(&orders, &billing, request(2)).await.unwrap();
    let all = receipts(&held);
    // Only this test drains.
    broker.tasks.last().unwrap().abort();
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;

    let places = broker.shared.places(&orders);
    let (target, source) = (&places[0], &places[1]);
    let none: [&str; 0] = [];
    let take = &broker.shared.caller.scripts.take;
    broker.shared.caller.call(source, take, none).await.unwrap();
    // On its way, it can be settled neither here nor there, and is not stale either.
    let moving = {
        let (broker, orders, billing) = (Arc::clone(&broker), orders.clone(), billing.clone());
        let receipt = all[0];
        tokio::spawn(async move { broker.ack(&orders, &billing, vec![receipt]).await })
    };
    sleep(Duration::from_millis(200)).await;
    assert!(!moving.is_finished());
    for _ in 0..2 {
        let carried = broker.shared.carry(source, target).await.unwrap();
        assert!(matches!(carried, Carried::Batch(_)));
    }
    assert_eq!(moving.await.unwrap().unwrap().done, 1);
    assert!(matches!(broker.shared.carry(source, target).await.unwrap(), Carried::Batch(_)));
    broker.shared.drain().await;
    assert_eq!(broker.ack(&orders, &billing, all).await.unwrap().done, 1, "the other one");
    let mut left: Vec<u32> =
        drained(&broker, "orders", &billing).await.iter().map(|it| it.parse().unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, (2..200).collect::<Vec<_>>());
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_home_that_forgets_how_far_a_drain_has_come_is_found_out() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_on(&servers).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    broker.publish(&orders, (0..10).map(|it| message(&it.to_string())).collect()).await.unwrap();
    // Only this test drains.
    broker.tasks.last().unwrap().abort();
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;

    let places = broker.shared.places(&orders);
    let (target, source) = (&places[0], &places[1]);
    let none: [&str; 0] = [];
    let take = &broker.shared.caller.scripts.take;
    broker.shared.caller.call(source, take, none).await.unwrap();
    for _ in 0..2 {
        // The planted bug: the cursor of the drain is gone before the next step, and with it which
        // messages have come.
        let instance = broker.shared.caller.instance(target);
        let mut forget = redis::cmd("HDEL");
        forget.arg(format!("{instance}:meta"));
        forget.arg(format!("drained {}", shard_text(source.node.shard)));
        target.node.redis.run::<usize>(&forget).await.unwrap();
        let mut forget = redis::cmd("UNLINK");
        forget.arg(format!("{instance}:foreign"));
        target.node.redis.run::<usize>(&forget).await.unwrap();
        let carried = broker.shared.carry(source, target).await.unwrap();
        assert!(matches!(carried, Carried::Batch(_)));
    }
    broker.shared.drain().await;
    let found = broker.receive(&orders, &billing, waiting(100, 1_000)).await.unwrap();
    let once: BTreeSet<_> = found.iter().map(|delivery| delivery.payload.clone()).collect();
    assert_eq!((found.len(), once.len()), (20, 10), "every message is there twice");
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_home_that_is_silent_is_given_up_and_what_it_did_all_the_same_is_found() {
    let servers = RedisServer::start_several(3).await;
    let broker = broker_on(&servers).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    // From here on the server knows the script, and does it as soon as it reads of it.
    broker.publish(&orders, vec![message("first")]).await.unwrap();
    let home = home(&broker, &servers, "orders");
    servers[home].pause();
    let plain = broker.publish(&orders, vec![message("plain")]).await;
    assert_eq!(plain, Err(BrokerError::OutcomeUnknown), "it may still be done");
    let again = NewMessage { dedupe_id: Some("x".to_owned()), ..message("deduped") };
    let ids = broker.publish(&orders, vec![again]).await.unwrap();
    let node = &broker.shared.nodes[number(&broker, &servers[home])];
    assert_ne!(ids[0].shard(), node.shard);
    servers[home].resume();
    opened(&broker, &servers[home], true).await;
    all_is_home(&broker).await;
    let mut found = drained(&broker, "orders", &billing).await;
    found.sort_unstable();
    assert_eq!(found, ["deduped", "first", "plain"]);
}

/// What producers and consumers saw.
#[derive(Default)]
struct Ledger {
    published: BTreeSet<String>,
    delivered: BTreeSet<String>,
    acknowledged: BTreeSet<MessageId>,
}

const TOPICS: [&str; 4] = ["orders", "mails", "jobs", "events"];

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn nothing_is_lost_and_nothing_acknowledged_comes_back_while_servers_die() {
    servers_die(Copies::One).await;
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn nothing_is_lost_and_nothing_acknowledged_comes_back_while_servers_with_copies_die() {
    servers_die(Copies::Two).await;
}

async fn servers_die(copies: Copies) {
    let mut servers = RedisServer::start_several(3).await;
    // Two processes on the same servers: both drain.
    let [one, two] = [broker_with(&servers, copies).await, broker_with(&servers, copies).await];
    let brokers = [Arc::new(one), Arc::new(two)];
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let (producing, consuming) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(true)));
    let billing = group("billing");
    let (mut producers, mut consumers) = (Vec::new(), Vec::new());
    for (number, name) in TOPICS.iter().enumerate() {
        let broker = Arc::clone(&brokers[number % 2]);
        let (ledger, producing) = (Arc::clone(&ledger), Arc::clone(&producing));
        producers.push(tokio::spawn(produce(broker, topic(name), ledger.clone(), producing)));
        for broker in &brokers {
            let (broker, ledger) = (Arc::clone(broker), Arc::clone(&ledger));
            let (topic, group, consuming) = (topic(name), billing.clone(), Arc::clone(&consuming));
            consumers.push(tokio::spawn(consume(broker, topic, group, ledger, consuming)));
        }
    }
    let mut random = Random::new();
    for round in 0..6 {
        sleep(Duration::from_millis(300 + random.below(300))).await;
        let victim = random.index(3);
        if round % 2 == 0 {
            servers[victim].kill().await;
        } else {
            servers[victim].stop().await;
        }
        for broker in &brokers {
            opened(broker, &servers[victim], false).await;
        }
        sleep(Duration::from_millis(random.below(800))).await;
        servers[victim].restart().await;
        for broker in &brokers {
            opened(broker, &servers[victim], true).await;
        }
    }
    producing.store(false, Ordering::Relaxed);
    for producer in producers {
        producer.await.unwrap();
    }
    until("everything is delivered", async || {
        let ledger = ledger.lock().unwrap();
        ledger.published.is_subset(&ledger.delivered)
    })
    .await;
    all_is_home(&brokers[0]).await;
    until("everything is acknowledged", async || {
        let mut left = 0;
        for name in TOPICS {
            left += brokers[0].topic(&topic(name)).await.map_or(1, |info| info.length);
        }
        left == 0
    })
    .await;
    consuming.store(false, Ordering::Relaxed);
    for consumer in consumers {
        consumer.await.unwrap();
    }
    let ledger = ledger.lock().unwrap();
    assert!(ledger.published.len() > 100, "{} messages", ledger.published.len());
    for broker in &brokers {
        assert_eq!(broker.losses(), [], "everything is on disk before it is acknowledged");
    }
}

async fn produce(
    broker: Arc<RedisBroker>,
    topic: TopicName,
    ledger: Arc<Mutex<Ledger>>,
    producing: Arc<AtomicBool>,
) {
    let mut number = 0;
    while producing.load(Ordering::Relaxed) {
        number += 1;
        let text = format!("{topic}-{number}");
        let dedupe_id = (number % 2 == 0).then(|| text.clone());
        let new = NewMessage { dedupe_id, ..message(&text) };
        if broker.publish(&topic, vec![new]).await.is_ok() {
            ledger.lock().unwrap().published.insert(text);
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn consume(
    broker: Arc<RedisBroker>,
    topic: TopicName,
    group: GroupName,
    ledger: Arc<Mutex<Ledger>>,
    consuming: Arc<AtomicBool>,
) {
    while consuming.load(Ordering::Relaxed) {
        let acknowledged = ledger.lock().unwrap().acknowledged.clone();
        let request =
            ReceiveRequest { visibility: Some(Duration::from_millis(1_500)), ..waiting(10, 500) };
        let Ok(found) = broker.receive(&topic, &group, request).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        for delivery in &found {
            assert!(!acknowledged.contains(&delivery.id), "{delivery:?} came back");
        }
        let names = texts(&found).into_iter().map(str::to_owned);
        ledger.lock().unwrap().delivered.extend(names);
        // Where it fails, they are delivered again.
        if let Ok(settled) = broker.ack(&topic, &group, receipts(&found)).await {
            let stale: BTreeSet<_> = settled.stale.into_iter().collect();
            let done = found.iter().filter(|delivery| !stale.contains(&delivery.receipt));
            ledger.lock().unwrap().acknowledged.extend(done.map(|delivery| delivery.id));
        }
    }
}
