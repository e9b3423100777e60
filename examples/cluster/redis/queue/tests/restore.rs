//! Servers that lose their disk are restored from the copies that others keep.

use std::collections::BTreeMap;
use std::time::Duration;

use dss_examples::random::Random;
use dss_queue::{Broker, MessageId, TopicSettings};
use tokio::time::timeout;

use super::copies::{length_of, shadow_on, until_told};
use super::failover::all_is_home;
use super::*;
use crate::redis::queue::Loss;
use crate::redis::queue::place::CallError;
use crate::redis::queue::recover::Recovered;
use crate::redis::test_server::RedisServer;

/// Receives and acknowledges all there is: texts with ids, in their order.
async fn received(broker: &RedisBroker, name: &str, group: &GroupName) -> Vec<(String, MessageId)> {
    let mut all = Vec::new();
    loop {
        let found = broker.receive(&topic(name), group, waiting(100, 700)).await.unwrap();
        if found.is_empty() {
            return all;
        }
        let ids = found.iter().map(|delivery| delivery.id);
        all.extend(texts(&found).into_iter().map(str::to_owned).zip(ids));
        let settled = broker.ack(&topic(name), group, receipts(&found)).await.unwrap();
        assert_eq!((settled.done, settled.stale), (found.len(), vec![]));
    }
}

/// Its process is killed, and it comes back with an empty disk.
async fn lose_everything(broker: &RedisBroker, server: &mut RedisServer) {
    server.kill().await;
    opened(broker, server, false).await;
    server.restart_empty().await;
    opened(broker, server, true).await;
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<NewMessage> {
    numbers.map(|number| message(&format!("{number:04}"))).collect()
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_that_loses_its_disk_gets_back_all_that_was_acknowledged_to_producers() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing, audit) = (topic("orders"), group("billing"), group("audit"));
    let settings = TopicSettings { max_attempts: 9, ..TopicSettings::default() };
    broker.configure(&orders, settings.clone()).await.unwrap();
    for group in [&billing, &audit] {
        assert_eq!(broker.receive(&orders, group, request(1)).await.unwrap(), []);
    }
    let late = NewMessage { delay: Duration::from_secs(3600), ..message("late") };
    let once = NewMessage { dedupe_id: Some("once".to_owned()), ..keyed("once", "key") };
    let mut messages = numbered(0..6);
    messages.extend([once.clone(), late]);
    let ids = broker.publish(&orders, messages).await.unwrap();
    let found = broker.receive(&orders, &billing, request(5)).await.unwrap();
    let all = receipts(&found);
    // The third one is in flight: the cursor has passed it, and it is not done.
    let acknowledged = vec![all[0], all[1], all[3], all[4]];
    assert_eq!(broker.ack(&orders, &billing, acknowledged).await.unwrap().done, 4);
    let place = broker.shared.home(&orders);
    until_told(&broker, &place).await;
    // The planted bug: an answer before the copy.
    let early = vec!["1", "", "", "early", "", "", "0", ""];
    broker.shared.ask(&place, &broker.shared.caller.scripts.publish, early).await.unwrap();

    let home = home(&broker, &servers, "orders");
    lose_everything(&broker, &mut servers[home]).await;
    assert_eq!(broker.losses(), [], "nothing is named as lost");
    let info = broker.topic(&orders).await.unwrap();
    assert_eq!((info.settings, info.length), (settings, 8), "all but what was not copied");
    assert_eq!(info.groups[&billing].delayed, 1);
    let new = broker.publish(&orders, vec![once, message("new")]).await.unwrap();
    assert_eq!(new[0], ids[6], "the dedupe id is known");
    assert!(ids.iter().all(|id| *id < new[1]), "ids do not go back");
    let stale = broker.ack(&orders, &billing, vec![all[2]]).await.unwrap();
    assert_eq!(stale.stale, [all[2]], "leases are not restored");
    let expected = |numbers: &[usize]| -> Vec<(String, MessageId)> {
        let text = |number: usize| match number {
            6 => "once".to_owned(),
            _ => format!("{number:04}"),
        };
        let old = numbers.iter().map(|number| (text(*number), ids[*number]));
        old.chain([("new".to_owned(), new[1])]).collect()
    };
    assert_eq!(received(&broker, "orders", &billing).await, expected(&[2, 5, 6]));
    assert_eq!(received(&broker, "orders", &audit).await, expected(&[0, 1, 2, 3, 4, 5, 6]));

    // A second loss, of what was restored.
    until_told(&broker, &place).await;
    lose_everything(&broker, &mut servers[home]).await;
    let info = broker.topic(&orders).await.unwrap();
    assert_eq!((info.length, broker.losses()), (1, vec![]), "late is still there");
    assert_eq!(received(&broker, "orders", &billing).await, []);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn ids_do_not_go_back_even_if_the_clock_does() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let before = broker.publish(&orders, numbered(0..3)).await.unwrap();
    // Nothing is left that would be given a place again.
    assert_eq!(drained(&broker, "orders", &billing).await.len(), 3);
    let home = home(&broker, &servers, "orders");
    servers[home].kill().await;
    opened(&broker, &servers[home], false).await;
    *broker.shared.caller.now.lock().unwrap() = Some(1_000);
    servers[home].restart_empty().await;
    opened(&broker, &servers[home], true).await;
    let same = |name: &String| broker.shared.home(&topic(name)).node.shard == before[0].shard();
    let others: Vec<_> = (0..).map(|it| format!("t{it}")).filter(same).take(2).collect();
    let after = broker.publish(&topic(&others[0]), numbered(0..1)).await.unwrap();
    assert!(after[0] > before[2], "{after:?} after {before:?}");
    // The planted bug: the counter was not raised.
    let node = broker.shared.node(before[0].shard()).unwrap();
    let key = format!("{}:node", broker.shared.caller.keys);
    node.redis.run::<()>(redis::cmd("HDEL").arg(key).arg("last")).await.unwrap();
    let after = broker.publish(&topic(&others[1]), numbered(0..1)).await.unwrap();
    assert!(after[0] < before[0], "{after:?} is given again some day");
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_server_with_an_older_state_gets_what_is_missing_and_forgets_what_was_done_since() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let mut ids = broker.publish(&orders, numbered(0..6)).await.unwrap();
    let first = broker.receive(&orders, &billing, request(2)).await.unwrap();
    assert_eq!(broker.ack(&orders, &billing, receipts(&first[..1])).await.unwrap().done, 1);
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    let copy = servers[home].copy_of_data();
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    assert_eq!(broker.losses(), []);

    ids.extend(broker.publish(&orders, numbered(6..10)).await.unwrap());
    assert_eq!(broker.ack(&orders, &billing, receipts(&first[1..])).await.unwrap().done, 1);
    let found = broker.receive(&orders, &billing, request(6)).await.unwrap();
    let all = receipts(&found);
    // 2 and 4 were there, 6 is new since.
    let acknowledged = vec![all[0], all[2], all[4]];
    assert_eq!(broker.ack(&orders, &billing, acknowledged).await.unwrap().done, 3);
    until_told(&broker, &broker.shared.home(&orders)).await;
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    servers[home].put_back(copy);
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    assert_eq!(broker.losses(), []);
    let new = broker.publish(&orders, vec![message("new")]).await.unwrap();
    assert!(ids.iter().all(|id| *id < new[0]));
    let expected: Vec<_> = [3, 5, 7, 8, 9].map(|it| (format!("{it:04}"), ids[it])).to_vec();
    let mut expected = expected;
    expected.push(("new".to_owned(), new[0]));
    assert_eq!(received(&broker, "orders", &billing).await, expected);
    assert_eq!(broker.topic(&orders).await.unwrap().length, 0);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn the_server_of_a_hand_off_loses_its_disk_while_the_home_is_down() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    let ids = broker.publish(&orders, numbered(0..200)).await.unwrap();
    let found = broker.receive(&orders, &billing, request(50)).await.unwrap();
    assert_eq!(broker.ack(&orders, &billing, receipts(&found[..40])).await.unwrap().done, 40);
    let place = broker.shared.places(&orders)[1].clone();
    // The home comes first in the list of those that keep a shadow, and is away.
    let shadow = shadow_on(&broker, &place, 1);
    until("the shadow is told", async || {
        let key = format!("{}:groups", broker.shared.prefix(&shadow));
        let mut command = redis::cmd("HSTRLEN");
        command.arg(key).arg("billing");
        shadow.node.redis.run::<usize>(&command).await.unwrap() > 100
    })
    .await;
    let victim = servers.iter().position(|it| it.url().ends_with(place.node.name())).unwrap();
    lose_everything(&broker, &mut servers[victim]).await;
    // Whether the home keeps some of it, nobody can say.
    let name = place.node.name().to_owned();
    assert_eq!(broker.losses(), [(name, Loss::Everything)]);
    let again = broker.receive(&orders, &billing, request(3)).await.unwrap();
    assert_eq!(texts(&again), ["0040", "0041", "0042"]);
    assert_eq!(again[0].id, ids[40]);
    assert_eq!(broker.ack(&orders, &billing, receipts(&again[..1])).await.unwrap().done, 1);

    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    all_is_home(&broker).await;
    assert_eq!(broker.ack(&orders, &billing, receipts(&again[1..2])).await.unwrap().done, 1);
    let nack = broker.nack(&orders, &billing, receipts(&again[2..]), Duration::ZERO).await;
    assert_eq!(nack.unwrap().done, 1, "receipts follow the message home");
    let mut left = received(&broker, "orders", &billing).await;
    left.sort_unstable();
    let expected: Vec<_> = (42..200).map(|it| (format!("{it:04}"), ids[it])).collect();
    assert_eq!(left, expected);
    // What was brought home has its copies there.
    broker.publish(&orders, numbered(0..1)).await.unwrap();
    until_told(&broker, &broker.shared.home(&orders)).await;
    lose_everything(&broker, &mut servers[home]).await;
    assert_eq!(drained(&broker, "orders", &billing).await, ["0000"]);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn what_a_drain_brings_home_is_copied_before_the_hand_off_forgets_it() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    assert_eq!(broker.receive(&orders, &billing, request(1)).await.unwrap(), []);
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    let ids = broker.publish(&orders, numbered(0..100)).await.unwrap();
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    all_is_home(&broker).await;
    let shadow = shadow_on(&broker, &broker.shared.home(&orders), 0);
    assert_eq!(length_of(&broker, &shadow).await, 100);
    lose_everything(&broker, &mut servers[home]).await;
    let expected: Vec<_> = (0..100).map(|it| (format!("{it:04}"), ids[it])).collect();
    assert_eq!(received(&broker, "orders", &billing).await, expected);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn a_restore_may_be_interrupted_anywhere_and_done_by_several_at_once() {
    let mut servers = RedisServer::start_several(3).await;
    let brokers =
        [broker_with(&servers, Copies::Two).await, broker_with(&servers, Copies::Two).await];
    let (orders, billing) = (topic("orders"), group("billing"));
    let ids = brokers[0].publish(&orders, numbered(0..700)).await.unwrap();
    let found = brokers[1].receive(&orders, &billing, request(300)).await.unwrap();
    assert_eq!(brokers[1].ack(&orders, &billing, receipts(&found[100..])).await.unwrap().done, 200);
    until_told(&brokers[0], &brokers[0].shared.home(&orders)).await;
    let home = home(&brokers[0], &servers, "orders");
    for broker in &brokers {
        // Only this test restores.
        let keeping = broker.tasks.len() - 2;
        for task in &broker.tasks[keeping..] {
            task.abort();
        }
        broker.tasks[2 * number(broker, &servers[home])].abort();
        broker.shared.nodes[number(broker, &servers[home])].close();
    }
    servers[home].kill().await;
    servers[home].restart_empty().await;
    let mut random = Random::new();
    let mut seeds = [random.next(), random.next()].map(Random::seeded);
    let [one, two] = &mut seeds;
    let interrupted = async |broker: &RedisBroker, random: &mut Random| {
        let node = &broker.shared.nodes[number(broker, &servers[home])];
        let mut interruptions = 0;
        loop {
            // Longer and longer: it comes to an end on a slow machine as well.
            let span = Duration::from_millis(1 + random.below(10 + interruptions / 4));
            match timeout(span, broker.shared.recover(node)).await {
                Ok(Ok(Recovered::Open { .. })) => return interruptions,
                _ => interruptions += 1,
            }
        }
    };
    let both = async { tokio::join!(interrupted(&brokers[0], one), interrupted(&brokers[1], two)) };
    let (first, second) = timeout(2 * PATIENCE, both).await.expect("in time");
    println!("{first} and {second} interruptions");
    assert!(first + second > 4, "it was not interrupted");
    let place = brokers[0].shared.home(&orders);
    let shadow = shadow_on(&brokers[0], &place, 0);
    assert_eq!(length_of(&brokers[0], &shadow).await, 500, "nobody has mended it");
    let mut left = received(&brokers[0], "orders", &billing).await;
    left.sort_unstable();
    let old = (0..100).chain(300..700);
    let expected: Vec<_> = old.map(|it| (format!("{it:04}"), ids[it])).collect();
    assert_eq!(left, expected);
    assert_eq!(brokers[0].topic(&orders).await.unwrap().length, 0);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn who_keeps_the_copies_is_waited_for_and_they_come_back_late_if_it_takes_too_long() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let ids = broker.publish(&orders, numbered(0..5)).await.unwrap();
    let found = broker.receive(&orders, &billing, request(2)).await.unwrap();
    broker.ack(&orders, &billing, receipts(&found)).await.unwrap();
    let place = broker.shared.home(&orders);
    until_told(&broker, &place).await;
    let home = home(&broker, &servers, "orders");
    let keeper = broker.shared.others(&place)[0].name().to_owned();
    let keeper = servers.iter().position(|it| it.url().ends_with(&keeper)).unwrap();
    servers[keeper].stop().await;
    opened(&broker, &servers[keeper], false).await;
    servers[home].kill().await;
    opened(&broker, &servers[home], false).await;
    servers[home].restart_empty().await;
    sleep(Duration::from_secs(2)).await;
    assert!(!place.node.is_open(), "it waits");
    opened(&broker, &servers[home], true).await;
    assert_eq!(broker.losses(), [(place.node.name().to_owned(), Loss::Everything)]);
    let new = broker.publish(&orders, vec![message("new")]).await.unwrap();
    assert_eq!(received(&broker, "orders", &billing).await, [("new".to_owned(), new[0])]);

    servers[keeper].restart().await;
    opened(&broker, &servers[keeper], true).await;
    let mut back = BTreeMap::new();
    until("they come back", async || {
        back.extend(received(&broker, "orders", &billing).await);
        back.len() >= 3
    })
    .await;
    let expected: BTreeMap<_, _> = (2..5).map(|it| (format!("{it:04}"), ids[it])).collect();
    assert_eq!(back, expected);
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn what_two_others_keep_comes_back_once_and_what_was_done_is_known_by_its_dedupe_id() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    let once = NewMessage { dedupe_id: Some("once".to_owned()), ..message("once") };
    let done = broker.publish(&orders, vec![once.clone()]).await.unwrap();
    assert_eq!(drained(&broker, "orders", &billing).await, ["once"]);
    broker.publish(&orders, numbered(0..300)).await.unwrap();
    let place = broker.shared.home(&orders);
    until_told(&broker, &place).await;
    // The second of them as if it had helped out, and nobody had told it that it need not.
    let keeping = broker.tasks.len() - 2;
    broker.tasks[keeping].abort();
    let (first, second) = (shadow_on(&broker, &place, 0), shadow_on(&broker, &place, 1));
    broker.shared.mend(&second).await.unwrap();
    assert_eq!(length_of(&broker, &second).await, 300);
    let home = home(&broker, &servers, "orders");
    lose_everything(&broker, &mut servers[home]).await;
    assert_eq!(broker.publish(&orders, vec![once]).await, Ok(done));
    let expected: Vec<_> = (0..300).map(|number| format!("{number:04}")).collect();
    assert_eq!(drained(&broker, "orders", &billing).await, expected);
    // What is on its way since before the loss is not taken for kept.
    for shadow in [first, second] {
        let late = vec![bytes::Bytes::from_static(b"0")];
        let kept = broker.shared.ask_shadow(&shadow, &broker.shared.caller.scripts.copy, late);
        assert_eq!(kept.await.err(), Some(CallError::Unknown));
    }
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn what_is_on_its_way_home_survives_the_loss_of_where_it_comes_from() {
    let mut servers = RedisServer::start_several(3).await;
    let broker = broker_with(&servers, Copies::Two).await;
    let (orders, billing) = (topic("orders"), group("billing"));
    broker.configure(&orders, TopicSettings::default()).await.unwrap();
    assert_eq!(broker.receive(&orders, &billing, request(1)).await.unwrap(), []);
    let home = home(&broker, &servers, "orders");
    servers[home].stop().await;
    opened(&broker, &servers[home], false).await;
    let ids = broker.publish(&orders, numbered(0..50)).await.unwrap();
    // Only this test drains.
    broker.tasks.last().unwrap().abort();
    servers[home].restart().await;
    opened(&broker, &servers[home], true).await;
    let source = broker.shared.places(&orders)[1].clone();
    let none: [&str; 0] = [];
    broker.shared.ask(&source, &broker.shared.caller.scripts.take, none).await.unwrap();
    for _ in 0..2 {
        broker.shared.keep(true).await;
        sleep(Duration::from_millis(600)).await;
    }
    let victim = servers.iter().position(|it| it.url().ends_with(source.node.name())).unwrap();
    lose_everything(&broker, &mut servers[victim]).await;
    until("it is brought home", async || {
        broker.shared.drain().await;
        broker.topic(&orders).await.is_ok_and(|info| info.length == 50)
    })
    .await;
    all_is_home(&broker).await;
    let expected: Vec<_> = (0..50).map(|it| (format!("{it:04}"), ids[it])).collect();
    assert_eq!(received(&broker, "orders", &billing).await, expected);
}
