//! Shards come and go at a broker over three nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dss_queue::{
    Broker, BrokerError, Delivery, GroupInfo, MessageId, NewMessage, ReceiveRequest,
    ReplicatedBroker, TopicInfo, TopicName, TopicSettings,
};
use tokio::task::{JoinSet, LocalSet};

use crate::bench::{consumer, group, message, millis, receipts, texts, topic};
use crate::cluster::{Cluster, SHARDS};

type Nodes = Arc<Vec<Arc<ReplicatedBroker>>>;

fn nodes(cluster: &Cluster) -> Nodes {
    Arc::new(cluster.members.iter().map(|member| Arc::clone(&member.broker)).collect())
}

fn names(shards: &[usize]) -> BTreeSet<String> {
    shards.iter().map(|number| SHARDS[*number].to_owned()).collect()
}

/// Asks one node after the other until one of them does it, as the server does for its clients.
async fn anywhere<R>(
    nodes: &Nodes,
    ask: impl AsyncFn(Arc<ReplicatedBroker>) -> Result<R, BrokerError>,
) -> R {
    for _ in 0..2_000 {
        for node in nodes.iter() {
            if let Ok(answer) = ask(Arc::clone(node)).await {
                return answer;
            }
        }
        tokio::time::sleep(millis(20)).await;
    }
    panic!("nobody does it within a minute");
}

async fn place(nodes: &Nodes, shards: &[usize]) {
    anywhere(nodes, async |node| node.place(names(shards)).await).await;
    settled(nodes).await;
}

async fn settled(nodes: &Nodes) {
    anywhere(nodes, async |node| match node.is_settled().await? {
        true => Ok(()),
        false => Err(BrokerError::Moving),
    })
    .await;
}

async fn info(nodes: &Nodes, topic: &TopicName) -> TopicInfo {
    anywhere(nodes, async |node| node.topic(topic).await).await
}

fn request(max: usize, wait: Duration) -> ReceiveRequest {
    ReceiveRequest { consumer: consumer(), max, wait, visibility: None }
}

async fn receive(nodes: &Nodes, topic: &TopicName, max: usize) -> Vec<Delivery> {
    let receive = async |node: Arc<ReplicatedBroker>| {
        node.receive(topic, &group("g"), request(max, Duration::ZERO)).await
    };
    anywhere(nodes, receive).await
}

async fn publish(nodes: &Nodes, topic: &TopicName, new: NewMessage) -> MessageId {
    anywhere(nodes, async |node| node.publish(topic, vec![new.clone()]).await).await[0]
}

#[tokio::test(start_paused = true)]
async fn a_topic_moves_with_all_that_is_in_it() {
    let cluster = Cluster::start_among(2, 3).await;
    let nodes = nodes(&cluster);
    let topics: Vec<_> = (0..12).map(|number| topic(&format!("topic-{number}"))).collect();
    let (mut held, mut newest, mut before) = (Vec::new(), Vec::new(), Vec::new());
    for topic in &topics {
        let once = NewMessage { dedupe_id: Some("once".to_owned()), ..message("a") };
        publish(&nodes, topic, once).await;
        publish(&nodes, topic, message("b")).await;
        let late = NewMessage { delay: Duration::from_secs(300), ..message("c") };
        newest.push(publish(&nodes, topic, late).await);
        held.push(receive(&nodes, topic, 1).await);
        before.push(info(&nodes, topic).await);
    }
    place(&nodes, &[0, 1, 2]).await;

    let mut moved = 0;
    for (number, topic) in topics.iter().enumerate() {
        let (old, new) = (&before[number], info(&nodes, topic).await);
        assert_eq!((&old.groups, old.length), (&new.groups, new.length));
        moved += u32::from(new.shard != old.shard);
        assert!(new.shard == old.shard || new.shard == SHARDS[2], "only the new shard gains");

        let receipt = held[number][0].receipt;
        let ack =
            async |node: Arc<ReplicatedBroker>| node.ack(topic, &group("g"), vec![receipt]).await;
        assert_eq!(anywhere(&nodes, ack).await.done, 1, "a receipt is good at the new shard");
        let again = NewMessage { dedupe_id: Some("once".to_owned()), ..message("a") };
        assert_eq!(publish(&nodes, topic, again).await, held[number][0].id);
        let next = publish(&nodes, topic, message("d")).await;
        assert!(next.sequence() > newest[number].sequence(), "ids go on rising");
        assert_eq!(texts(&receive(&nodes, topic, 10).await), ["b", "d"]);
    }
    assert!((1..12).contains(&moved), "{moved} of 12 moved");
    let all = anywhere(&nodes, async |node| node.topics().await).await;
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), topics.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_many_parts_moves_and_a_waiter_goes_with_it() {
    LocalSet::new().run_until(move_many_parts()).await;
}

async fn move_many_parts() {
    let cluster = Cluster::start_among(1, 2).await;
    let nodes = nodes(&cluster);
    let owners = dss_queue::Placement::new(1, names(&[0, 1])).unwrap();
    let moves = |it: &TopicName| owners.owner(it) == Some(SHARDS[1]);
    let [large, empty] = [0, 1].map(|which| {
        let mut all = (0..).map(|number| topic(&format!("topic-{which}-{number}")));
        all.find(moves).expect("there are enough")
    });
    for _ in 0..5 {
        publish(&nodes, &large, NewMessage::new(vec![7; 900_000])).await;
    }
    anywhere(&nodes, async |node| node.configure(&empty, TopicSettings::default()).await).await;
    let (waiting, waited) = (Arc::clone(&nodes), empty.clone());
    let waiter = tokio::task::spawn_local(async move {
        let (topic, group) = (&waited, &group("g"));
        let wait = Duration::from_secs(600);
        anywhere(&waiting, async |node| node.receive(topic, group, request(1, wait)).await).await
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    place(&nodes, &[1]).await;
    assert_eq!(info(&nodes, &large).await.length, 5);
    assert_eq!(info(&nodes, &large).await.shard, SHARDS[1]);
    publish(&nodes, &empty, message("late")).await;
    assert_eq!(texts(&waiter.await.unwrap()), ["late"]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_shards_is_checked_and_waits_for_the_one_before() {
    let cluster = Cluster::start_among(2, 3).await;
    let nodes = nodes(&cluster);
    for wrong in [BTreeSet::new(), ["elsewhere".to_owned()].into()] {
        let refused = nodes[0].place(wrong).await;
        assert!(matches!(refused, Err(BrokerError::Invalid { field: "shards", .. })));
    }
    for number in 0..20 {
        publish(&nodes, &topic(&format!("topic-{number}")), message("a")).await;
    }
    let first = anywhere(&nodes, async |node| node.place(names(&[2])).await).await;
    let again = anywhere(&nodes, async |node| node.place(names(&[2])).await).await;
    assert_eq!((first.epoch(), again.epoch()), (2, 2), "asked twice, it is done once");
    assert_eq!(nodes[0].place(names(&[0])).await, Err(BrokerError::Moving));
    settled(&nodes).await;
    place(&nodes, &[0]).await;
    let topics = anywhere(&nodes, async |node| node.topics().await).await;
    assert_eq!(topics.len(), 20);
}

/// What clients have seen.
#[derive(Default)]
struct Seen {
    published: BTreeSet<MessageId>,
    acked: BTreeSet<MessageId>,
    /// Acks without an answer: they may have counted.
    in_doubt: BTreeSet<MessageId>,
    attempts: BTreeMap<MessageId, u32>,
    deliveries: usize,
}

const TOPICS: usize = 5;
const MESSAGES: usize = 120;

async fn produce(nodes: Nodes, seen: Arc<Mutex<Seen>>, producer: usize) {
    let topic = topic(&format!("topic-{producer}"));
    for number in 0..MESSAGES {
        let dedupe_id = Some(number.to_string());
        let new = NewMessage { dedupe_id, ..message(&number.to_string()) };
        let id = publish(&nodes, &topic, new).await;
        assert!(seen.lock().unwrap().published.insert(id), "a retry answers the first id");
        tokio::time::sleep(millis(100)).await;
    }
}

async fn consume(nodes: Nodes, seen: Arc<Mutex<Seen>>, which: usize) {
    let (topic, g) = (topic(&format!("topic-{}", which % TOPICS)), group("g"));
    for turn in which.. {
        let node = &nodes[turn % nodes.len()];
        let Ok(deliveries) = node.receive(&topic, &g, request(3, millis(500))).await else {
            tokio::time::sleep(millis(20)).await;
            continue;
        };
        for delivery in &deliveries {
            let mut seen = seen.lock().unwrap();
            assert!(!seen.acked.contains(&delivery.id), "{delivery:?} was acknowledged");
            let attempt = seen.attempts.insert(delivery.id, delivery.attempt);
            assert!(attempt < Some(delivery.attempt), "{delivery:?} after attempt {attempt:?}");
            seen.deliveries += 1;
        }
        tokio::time::sleep(millis(30)).await;
        let settled = node.ack(&topic, &g, receipts(&deliveries)).await;
        let mut seen = seen.lock().unwrap();
        for delivery in &deliveries {
            match &settled {
                Ok(settled) if settled.stale.contains(&delivery.receipt) => {}
                Ok(_) => drop(seen.acked.insert(delivery.id)),
                Err(BrokerError::NotLeader { .. } | BrokerError::Moving) => {}
                Err(_) => drop(seen.in_doubt.insert(delivery.id)),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_shards_come_and_go_and_leaders_too() {
    LocalSet::new().run_until(move_under_traffic()).await;
}

async fn move_under_traffic() {
    let cluster = Cluster::start_among(2, 3).await;
    let (nodes, seen) = (nodes(&cluster), Arc::new(Mutex::new(Seen::default())));
    for number in 0..TOPICS {
        let settings =
            TopicSettings { visibility: millis(800), max_attempts: 1_000, ..Default::default() };
        let topic = topic(&format!("topic-{number}"));
        anywhere(&nodes, async |node| node.configure(&topic, settings.clone()).await).await;
    }
    let (mut consumers, mut producers) = (JoinSet::new(), JoinSet::new());
    for which in 0..2 * TOPICS {
        consumers.spawn_local(consume(Arc::clone(&nodes), Arc::clone(&seen), which));
    }
    for which in 0..TOPICS {
        producers.spawn_local(produce(Arc::clone(&nodes), Arc::clone(&seen), which));
    }
    let rounds: [&[usize]; 6] = [&[0, 1, 2], &[2], &[0, 1], &[1, 2], &[0], &[0, 1, 2]];
    for (round, shards) in rounds.into_iter().enumerate() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        anywhere(&nodes, async |node| node.place(names(shards)).await).await;
        if round % 2 == 0 {
            // In the middle of the move.
            let leader = cluster.leader(None).await.id;
            cluster.network.isolate(leader);
            tokio::time::sleep(Duration::from_secs(3)).await;
            cluster.network.heal();
        }
        settled(&nodes).await;
    }
    while let Some(ended) = producers.join_next().await {
        ended.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    for number in 0..TOPICS {
        let info = info(&nodes, &topic(&format!("topic-{number}"))).await;
        assert_eq!((info.length, info.groups[&group("g")]), (0, GroupInfo::default()));
    }
    while let Some(ended) = consumers.try_join_next() {
        ended.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.published.len(), TOPICS * MESSAGES);
    let settled: BTreeSet<_> = seen.acked.union(&seen.in_doubt).copied().collect();
    assert_eq!(settled, seen.published, "what is gone was acknowledged");
    println!(
        "{} messages published, {} deliveries, {} acks in doubt, none lost",
        seen.published.len(),
        seen.deliveries,
        seen.in_doubt.len(),
    );
}
