//! Producers and consumers go on while leaders are cut off one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dss_queue::{
    Broker, BrokerError, Delivery, GroupInfo, MessageId, NewMessage, ReceiveRequest,
    ReplicatedBroker, TopicSettings,
};
use tokio::time::Instant;

use crate::bench::{consumer, group, millis, topic};
use crate::cluster::Cluster;

const PRODUCERS: usize = 4;
const CONSUMERS: usize = 6;
const MESSAGES: usize = 150;

/// What clients have seen.
#[derive(Default)]
struct Seen {
    published: BTreeSet<MessageId>,
    /// Whose ack was answered with done; a message may be in it once.
    acked: BTreeSet<MessageId>,
    /// Acks without an answer: they may have counted.
    in_doubt: BTreeSet<MessageId>,
    /// The number of the newest message of each key that was acknowledged.
    newest: BTreeMap<String, usize>,
    /// The newest attempt of each message that was delivered.
    attempts: BTreeMap<MessageId, u32>,
    deliveries: usize,
    /// Answers that were thrown away on their way to a client.
    unheard: usize,
    /// Deliveries whose lease is known to be on, by message.
    held: BTreeMap<MessageId, Instant>,
}

type Nodes = Arc<Vec<Arc<ReplicatedBroker>>>;

/// Whether the first answer about this is lost: one in ten is.
fn is_unlucky(name: &str) -> bool {
    name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31) + u32::from(byte)) % 10 == 0
}

/// Asks one node after the other until one of them does it, as the server does for its clients.
async fn publish(nodes: &Nodes, seen: &Mutex<Seen>, message: NewMessage) -> MessageId {
    let orders = topic("orders");
    let mut loses = message.dedupe_id.as_deref().is_some_and(is_unlucky);
    loop {
        for node in nodes.iter() {
            let publish = node.publish(&orders, vec![message.clone()]);
            if let Ok(Ok(ids)) = tokio::time::timeout(millis(500), publish).await {
                if !std::mem::take(&mut loses) {
                    return ids[0];
                }
                seen.lock().unwrap().unheard += 1;
            }
        }
        tokio::time::sleep(millis(20)).await;
    }
}

async fn produce(nodes: Nodes, seen: Arc<Mutex<Seen>>, producer: usize) {
    for number in 0..MESSAGES {
        let message = NewMessage {
            key: Some(producer.to_string()),
            dedupe_id: Some(format!("{producer}-{number}")),
            ..NewMessage::new(number.to_string())
        };
        let id = publish(&nodes, &seen, message).await;
        assert!(seen.lock().unwrap().published.insert(id), "a retry answers the first id");
        tokio::time::sleep(millis(40)).await;
    }
}

async fn consume(nodes: Nodes, seen: Arc<Mutex<Seen>>, which: usize) {
    let (orders, g) = (topic("orders"), group("g"));
    for turn in which.. {
        let node = &nodes[turn % nodes.len()];
        let wait = Duration::from_secs(2);
        let request = ReceiveRequest { consumer: consumer(), max: 2, wait, visibility: None };
        let asked = Instant::now();
        match node.receive(&orders, &g, request).await {
            // Lost on its way to the consumer: what it held comes back when the lease ends.
            Ok(deliveries) if turn % 10 == 0 => seen.lock().unwrap().unheard += deliveries.len(),
            Ok(deliveries) => {
                for delivery in deliveries {
                    handle(node, &seen, delivery, asked).await;
                }
            }
            Err(_) => tokio::time::sleep(millis(20)).await,
        }
    }
}

async fn handle(node: &ReplicatedBroker, seen: &Mutex<Seen>, delivery: Delivery, asked: Instant) {
    let key = delivery.key.clone().expect("every message has one");
    let number: usize = std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap();
    {
        let mut seen = seen.lock().unwrap();
        assert!(!seen.acked.contains(&delivery.id), "{delivery:?} was acknowledged");
        let attempt = seen.attempts.insert(delivery.id, delivery.attempt);
        assert!(attempt < Some(delivery.attempt), "{delivery:?} after attempt {attempt:?}");
        seen.deliveries += 1;
        let newest = seen.newest.get(&key);
        assert!(newest.is_none_or(|newest| *newest <= number), "{delivery:?} is out of order");
        // The visibility is counted from when the lease was asked for at the earliest; nodes that
        // started a moment apart differ by as much in their time.
        let held = seen.held.insert(delivery.id, asked + millis(500));
        assert!(held.is_none_or(|until| until <= Instant::now()), "{delivery:?} has two leases");
    }
    tokio::time::sleep(millis(10)).await;
    let (orders, g) = (topic("orders"), group("g"));
    let ack = node.ack(&orders, &g, vec![delivery.receipt]);
    let answer = tokio::time::timeout(millis(400), ack).await;
    let mut seen = seen.lock().unwrap();
    match answer {
        Ok(Ok(settled)) if settled.done == 1 => {
            assert!(seen.acked.insert(delivery.id));
            seen.newest.insert(key, number);
        }
        Ok(Ok(_) | Err(BrokerError::NotLeader { .. })) => {}
        _ => {
            seen.in_doubt.insert(delivery.id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_doubled_or_out_of_order_while_leaders_come_and_go() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let settings = TopicSettings {
        visibility: millis(1_000),
        max_attempts: 1_000,
        ..TopicSettings::default()
    };
    leader.broker.configure(&topic("orders"), settings).await.unwrap();
    let nodes: Nodes =
        Arc::new(cluster.members.iter().map(|member| Arc::clone(&member.broker)).collect());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for which in 0..CONSUMERS {
        tasks.spawn(consume(Arc::clone(&nodes), Arc::clone(&seen), which));
    }
    let mut producers = tokio::task::JoinSet::new();
    for which in 0..PRODUCERS {
        producers.spawn(produce(Arc::clone(&nodes), Arc::clone(&seen), which));
    }
    for round in 0..6 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let leader = cluster.leader(None).await;
        if round % 2 == 0 {
            cluster.network.isolate(leader.id);
            tokio::time::sleep(Duration::from_secs(4)).await;
            cluster.network.heal();
        } else {
            // It may fail where a member lags too far behind; then there is one round less.
            let _ = leader.groups[0].transfer_leadership(None).await;
        }
    }
    while let Some(ended) = producers.join_next().await {
        ended.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(30)).await;

    let summary = leader.broker.topic(&topic("orders")).await.unwrap();
    assert_eq!((summary.length, summary.groups[&group("g")]), (0, GroupInfo::default()));
    while let Some(ended) = tasks.try_join_next() {
        ended.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.published.len(), PRODUCERS * MESSAGES);
    let settled: BTreeSet<_> = seen.acked.union(&seen.in_doubt).copied().collect();
    assert_eq!(settled, seen.published, "what is gone was acknowledged");
    assert!(seen.acked.len() > seen.published.len() / 2);
    let lost = seen.published.iter().filter(|id| !seen.attempts.contains_key(*id)).count();
    println!(
        "{} messages published, {} deliveries, of which {} again, {} answers unheard, {} acks in \
         doubt, {lost} messages lost",
        seen.published.len(),
        seen.deliveries,
        seen.deliveries - seen.attempts.len(),
        seen.unheard,
        seen.in_doubt.len(),
    );
    assert_eq!(lost, 0);
}
