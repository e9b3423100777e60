//! The broker over three nodes.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use dss_queue::{Broker, BrokerError, NewMessage, TopicSettings};
use tokio::time::Instant;

use crate::bench::{group, message, millis, receipts, texts, topic};
use crate::cluster::{Cluster, SHARDS};

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(600);

#[tokio::test(start_paused = true)]
async fn the_leader_serves_and_the_others_name_it() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let ids = leader.broker.publish(&topic("orders"), vec![message("a"), message("b")]).await;
    assert_eq!(ids.unwrap().len(), 2);
    let deliveries = leader.receive(10, NOW).await.unwrap();
    assert_eq!(texts(&deliveries), ["a", "b"]);
    tokio::time::sleep(millis(200)).await;

    let elsewhere = BrokerError::NotLeader { leader: Some(leader.id) };
    for other in cluster.others(leader.id) {
        let publish = other.broker.publish(&topic("orders"), vec![message("c")]).await;
        assert_eq!(publish, Err(elsewhere));
        assert_eq!(other.receive(1, LONG).await, Err(elsewhere));
        let (orders, g) = (topic("orders"), group("g"));
        let ack = other.broker.ack(&orders, &g, receipts(&deliveries)).await;
        assert_eq!(ack, Err(elsewhere));
        assert_eq!(other.broker.topics().await.unwrap(), [topic("orders")]);
        let info = other.broker.topic(&topic("orders")).await.unwrap();
        assert_eq!((info.length, info.groups[&g].in_flight), (2, 2));
        assert_eq!((info.shard, info.home), (SHARDS[0].to_owned(), Some(leader.id.to_string())));
    }
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_refused_anywhere_and_leave_no_trace_in_the_log() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let before = leader.last_index();
    for member in &cluster.members {
        let publish = member.broker.publish(&topic("orders"), vec![]).await;
        assert!(matches!(publish, Err(BrokerError::Invalid { field: "messages", .. })));
        let large = NewMessage::new(vec![0; 2 << 20]);
        let publish = member.broker.publish(&topic("orders"), vec![large]).await;
        assert!(matches!(publish, Err(BrokerError::TooLarge { .. })));
        let receive = member.receive(0, NOW).await;
        assert!(matches!(receive, Err(BrokerError::Invalid { field: "max", .. })));
        let receive = member.receive(1, Duration::from_millis(1_000_000_000_000_000_000)).await;
        assert!(matches!(receive, Err(BrokerError::Invalid { field: "wait", .. })));
        let settings = TopicSettings { max_attempts: 0, ..TopicSettings::default() };
        let configure = member.broker.configure(&topic("orders"), settings).await;
        assert!(matches!(configure, Err(BrokerError::Invalid { field: "max_attempts", .. })));
        let unknown = member.broker.topic(&topic("orders")).await;
        assert_eq!(unknown, Err(BrokerError::NotFound));
    }
    assert_eq!(leader.receive(1, LONG).await, Err(BrokerError::NotFound));
    assert_eq!(leader.last_index(), before);
}

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_or_comes_back_when_the_leader_is_cut_off() {
    let cluster = Cluster::start(1).await;
    let first = cluster.leader(None).await;
    let mut published = BTreeSet::new();
    for number in 0..100 {
        let ids = first.broker.publish(&topic("orders"), vec![message(&number.to_string())]).await;
        published.extend(ids.unwrap());
    }
    let deliveries = first.receive(50, NOW).await.unwrap();
    let (orders, g) = (topic("orders"), group("g"));
    let acked = receipts(&deliveries[..30]);
    assert_eq!(first.broker.ack(&orders, &g, acked).await.unwrap().done, 30);
    for delivery in &deliveries[..30] {
        published.remove(&delivery.id);
    }

    cluster.network.isolate(first.id);
    let second = cluster.leader(Some(first.id)).await;
    assert!(first.broker.publish(&orders, vec![message("lost")]).await.is_err());
    let mut delivered = BTreeSet::new();
    // The leases of the first leader run on: the last of these waits for their end.
    while delivered.len() < published.len() {
        let deliveries = second.receive(7, Duration::from_secs(60)).await.unwrap();
        assert!(!deliveries.is_empty(), "{} of {}", delivered.len(), published.len());
        for delivery in &deliveries {
            assert!(published.contains(&delivery.id), "{delivery:?} was acknowledged");
            assert!(delivered.insert(delivery.id), "{delivery:?} came twice");
        }
        let done = second.broker.ack(&orders, &g, receipts(&deliveries)).await.unwrap().done;
        assert_eq!(done, deliveries.len());
    }
    assert_eq!(delivered, published);

    cluster.network.heal();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for member in &cluster.members {
        let info = member.broker.topic(&orders).await.unwrap();
        assert_eq!((info.length, info.groups[&g]), (0, dss_queue::GroupInfo::default()));
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_there_after_all_nodes_were_killed() {
    let mut cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let (orders, g) = (topic("orders"), group("g"));
    let mut last = None;
    // Enough for several snapshots.
    for number in 0..150 {
        let text = number.to_string();
        let ids = leader.broker.publish(&orders, vec![message(&text)]).await.unwrap();
        assert!(last < Some(ids[0]));
        last = Some(ids[0]);
    }
    let deliveries = leader.receive(10, NOW).await.unwrap();
    leader.broker.ack(&orders, &g, receipts(&deliveries[..9])).await.unwrap();

    cluster.restart().await;
    let leader = cluster.leader(None).await;
    let info = leader.broker.topic(&orders).await.unwrap();
    assert_eq!((info.length, info.groups[&g].ready, info.groups[&g].in_flight), (141, 140, 1));
    let held = vec![deliveries[9].receipt];
    assert_eq!(leader.broker.ack(&orders, &g, held).await.unwrap().done, 1, "leases survive");
    let next = leader.broker.publish(&orders, vec![message("next")]).await.unwrap();
    assert!(last < Some(next[0]), "ids go on rising");
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_back_after_its_visibility_without_any_traffic() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    leader.broker.publish(&topic("orders"), vec![message("a")]).await.unwrap();
    let first = leader.receive(1, NOW).await.unwrap();
    let leased = Instant::now();
    tokio::time::sleep(millis(100)).await;
    let parked = leader.last_index();
    let again = leader.receive(1, LONG).await.unwrap();
    let waited = leased.elapsed();
    assert!((millis(29_950)..millis(30_100)).contains(&waited), "{waited:?}");
    assert_eq!((again[0].id, again[0].attempt), (first[0].id, 2));
    assert_eq!(leader.last_index(), parked + 2, "a tick and a lease, no more");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_ends_the_leases_of_the_old_one() {
    let cluster = Cluster::start(1).await;
    let first = cluster.leader(None).await;
    first.broker.publish(&topic("orders"), vec![message("a")]).await.unwrap();
    first.receive(1, NOW).await.unwrap();
    cluster.network.isolate(first.id);
    let second = cluster.leader(Some(first.id)).await;
    let again = second.receive(1, LONG).await.unwrap();
    assert_eq!((texts(&again), again[0].attempt), (vec!["a"], 2));
}

#[tokio::test(start_paused = true)]
async fn a_publish_wakes_one_waiter_the_first() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    // The group is known: parking costs nothing.
    leader.broker.configure(&topic("orders"), TopicSettings::default()).await.unwrap();
    leader.receive(1, NOW).await.unwrap();
    let before = leader.last_index();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let broker = Arc::clone(&leader.broker);
        let (topic, group) = (topic("orders"), group("g"));
        let request = dss_queue::ReceiveRequest {
            consumer: crate::bench::consumer(),
            max: 1,
            wait: LONG,
            visibility: None,
        };
        waiting.push(tokio::spawn(async move { broker.receive(&topic, &group, request).await }));
        tokio::time::sleep(millis(50)).await;
    }
    assert_eq!(leader.last_index(), before, "nobody who waits writes to the log");

    for (served, waiter) in waiting.into_iter().enumerate() {
        let published = Instant::now();
        let text = served.to_string();
        leader.broker.publish(&topic("orders"), vec![message(&text)]).await.unwrap();
        let deliveries = waiter.await.unwrap().unwrap();
        assert_eq!(texts(&deliveries), [text]);
        assert!(published.elapsed() < millis(50), "{:?}", published.elapsed());
        let entries = 2 * (served as u64 + 1);
        assert_eq!(leader.last_index(), before + entries, "one publish, one lease");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_its_time_with_the_topic_and_with_the_leadership() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let orders = topic("orders");
    leader.broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let asked = Instant::now();
    assert_eq!(leader.receive(1, Duration::from_secs(5)).await, Ok(vec![]));
    assert!((millis(5_000)..millis(5_050)).contains(&asked.elapsed()), "{:?}", asked.elapsed());

    let delete = async {
        tokio::time::sleep(millis(100)).await;
        leader.broker.delete(&orders).await.unwrap();
        Instant::now()
    };
    let (received, deleted) = tokio::join!(leader.receive(1, LONG), delete);
    assert_eq!(received, Err(BrokerError::NotFound));
    assert!(deleted.elapsed() < millis(50));

    leader.broker.configure(&orders, TopicSettings::default()).await.unwrap();
    let resign = async {
        tokio::time::sleep(millis(100)).await;
        leader.groups[0].transfer_leadership(None).await.unwrap();
        Instant::now()
    };
    let (received, resigned) = tokio::join!(leader.receive(1, LONG), resign);
    assert!(matches!(received, Err(BrokerError::NotLeader { .. })), "{received:?}");
    assert!(resigned.elapsed() < millis(50));
}

/// However far a receive has got when it is dropped, the message is soon there for another, and it
/// has not cost an attempt.
#[tokio::test(start_paused = true)]
async fn a_receive_that_is_dropped_keeps_nothing() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let (orders, g) = (topic("orders"), group("g"));
    leader.broker.configure(&orders, TopicSettings::default()).await.unwrap();
    leader.receive(1, NOW).await.unwrap();
    let (mut untouched, mut handed_back, mut finished) = (0, 0, 0);
    for (wait, polls) in [NOW, LONG].into_iter().flat_map(|wait| (0..8).map(move |n| (wait, n))) {
        let before = leader.last_index();
        let mut done = false;
        {
            let mut receive = pin!(leader.receive(1, wait));
            let mut context = Context::from_waker(Waker::noop());
            let mut poll = || receive.as_mut().poll(&mut context).is_ready();
            if wait == LONG {
                for _ in 0..10 {
                    assert!(!poll(), "there is nothing yet");
                    tokio::task::yield_now().await;
                }
            }
            leader.broker.publish(&orders, vec![message("a")]).await.unwrap();
            for _ in 0..polls {
                done = done || poll();
                tokio::task::yield_now().await;
            }
        }
        if done {
            finished += 1;
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let dropped = Instant::now();
        let deliveries = leader.receive(1, LONG).await.unwrap();
        assert!(dropped.elapsed() < millis(1_000), "{polls} polls: {:?}", dropped.elapsed());
        assert_eq!(deliveries[0].attempt, if done { 2 } else { 1 }, "{polls} polls");
        let settled = leader.broker.ack(&orders, &g, receipts(&deliveries)).await.unwrap();
        assert_eq!(settled.done, 1);
        match leader.last_index() - before {
            _ if done => {}
            3 => untouched += 1,
            // The next one may have asked while the lease was on its way back.
            5 | 6 => handed_back += 1,
            entries => panic!("{entries} entries for a publish, a lease and an ack"),
        }
    }
    let all = (untouched, handed_back, finished);
    assert!(untouched > 0 && handed_back > 0 && finished > 0, "not every case came up: {all:?}");
}

#[tokio::test(start_paused = true)]
async fn topics_are_spread_over_the_shards_and_listed_together() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader(None).await;
    // Every shard is led by somebody; ask each node, as the server does.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let names: Vec<_> = (10..40).map(|number| topic(&format!("topic-{number}"))).collect();
    let mut ids = BTreeSet::new();
    for name in &names {
        let mut published = None;
        for member in &cluster.members {
            match member.broker.publish(name, vec![message("a")]).await {
                Ok(ids) => published = Some(ids),
                Err(error) => assert!(matches!(error, BrokerError::NotLeader { .. })),
            }
        }
        ids.extend(published.expect("one of them leads"));
    }
    assert_eq!(ids.len(), names.len(), "ids are unique over all shards");
    let mut shards = BTreeSet::new();
    for name in &names {
        shards.insert(leader.broker.topic(name).await.unwrap().shard);
    }
    assert_eq!(shards.into_iter().collect::<Vec<_>>(), SHARDS);
    for member in &cluster.members {
        assert_eq!(member.broker.topics().await.unwrap(), names);
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_read_anywhere_and_redriven_by_the_leader() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    let (orders, g) = (topic("orders"), group("g"));
    let settings = TopicSettings { max_attempts: 1, ..TopicSettings::default() };
    leader.broker.configure(&orders, settings).await.unwrap();
    for _ in 0..3 {
        leader.broker.publish(&orders, vec![message("a"); 500]).await.unwrap();
    }
    for _ in 0..2 {
        let deliveries = leader.receive(1_000, NOW).await.unwrap();
        leader.broker.nack(&orders, &g, receipts(&deliveries), NOW).await.unwrap();
    }
    for member in &cluster.members {
        assert_eq!(member.broker.dead_letters(&orders, &g).await.unwrap().len(), 1_000);
        let unknown = member.broker.dead_letters(&orders, &group("other")).await;
        assert_eq!(unknown, Err(BrokerError::NotFound));
    }
    assert_eq!(leader.broker.redrive(&orders, &g).await, Ok(1_500));
    let info = leader.broker.topic(&orders).await.unwrap().groups[&g];
    assert_eq!((info.ready, info.dead), (1_500, 0));
    let extended = leader.receive(1, NOW).await.unwrap();
    let settled = leader.broker.extend(&orders, &g, receipts(&extended), LONG).await.unwrap();
    assert_eq!(settled.done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_hands_over_and_ends_waits() {
    let cluster = Cluster::start(1).await;
    let leader = cluster.leader(None).await;
    leader.broker.publish(&topic("orders"), vec![message("a")]).await.unwrap();
    leader.receive(1, NOW).await.unwrap();
    let stop = async {
        tokio::time::sleep(millis(100)).await;
        leader.node.shutdown().await;
    };
    let (received, ()) = tokio::join!(leader.receive(1, LONG), stop);
    assert!(received.is_err());
    let publish = leader.broker.publish(&topic("orders"), vec![message("b")]).await;
    assert!(matches!(publish, Err(BrokerError::Unavailable | BrokerError::NotLeader { .. })));
    let next = cluster.leader(Some(leader.id)).await;
    assert_eq!(next.broker.topics().await.unwrap(), [topic("orders")]);
}
