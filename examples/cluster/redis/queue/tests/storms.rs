//! Producers and consumers while disks are lost, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dss_examples::random::Random;
use dss_queue::{Broker, GroupName, MessageId, TopicName};
use tokio::time::Instant;

use super::copies::{length_of, shadow_on, until_told};
use super::failover::all_is_home;
use super::*;
use crate::redis::test_server::RedisServer;

const TOPICS: [&str; 3] = ["orders", "mails", "jobs"];
/// What was acknowledged shortly before a loss may not be remembered by anybody: a round of half a
/// second, on a machine that is busy with other things.
const MEMORY: Duration = Duration::from_secs(5);

/// What producers and consumers saw.
#[derive(Default)]
struct Ledger {
    published: BTreeSet<String>,
    delivered: BTreeSet<String>,
    acknowledged: BTreeMap<MessageId, Instant>,
    /// When disks were lost.
    losses: Vec<Instant>,
    again: usize,
}

impl Ledger {
    fn deliver(&mut self, id: MessageId, text: &str) {
        self.delivered.insert(text.to_owned());
        let Some(at) = self.acknowledged.get(&id) else { return };
        self.again += 1;
        let excused = self.losses.iter().any(|loss| *loss > *at && *loss - *at < MEMORY);
        assert!(excused, "{id} came back, which was acknowledged long before a loss");
    }
}

struct Storm {
    brokers: [Arc<RedisBroker>; 2],
    ledger: Arc<Mutex<Ledger>>,
    goes_on: Arc<AtomicBool>,
}

impl Storm {
    async fn produce(self: Arc<Self>, broker: usize, topic: TopicName) {
        for number in 0.. {
            if !self.goes_on.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{topic}-{number}");
            let dedupe_id = (number % 2 == 0).then(|| text.clone());
            let new = NewMessage { dedupe_id, ..message(&text) };
            if self.brokers[broker].publish(&topic, vec![new]).await.is_ok() {
                self.ledger.lock().unwrap().published.insert(text);
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn consume(self: Arc<Self>, broker: usize, topic: TopicName, group: GroupName) {
        let broker = &self.brokers[broker];
        while self.goes_on.load(Ordering::Relaxed) || !self.is_all_delivered() {
            let visibility = Some(Duration::from_millis(1_500));
            let request = ReceiveRequest { visibility, ..waiting(10, 300) };
            let Ok(found) = broker.receive(&topic, &group, request).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            for (delivery, text) in found.iter().zip(texts(&found)) {
                self.ledger.lock().unwrap().deliver(delivery.id, text);
            }
            // What is not acknowledged fills the shadows.
            sleep(Duration::from_millis(50)).await;
            if let Ok(settled) = broker.ack(&topic, &group, receipts(&found)).await {
                let stale: BTreeSet<_> = settled.stale.into_iter().collect();
                let done = found.iter().filter(|delivery| !stale.contains(&delivery.receipt));
                let done = done.map(|delivery| (delivery.id, Instant::now()));
                self.ledger.lock().unwrap().acknowledged.extend(done);
            }
        }
    }

    fn is_all_delivered(&self) -> bool {
        let ledger = self.ledger.lock().unwrap();
        ledger.published.is_subset(&ledger.delivered)
    }
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn nothing_that_was_answered_is_lost_while_disks_are() {
    let mut servers = RedisServer::start_several(3).await;
    let [one, two] =
        [broker_with(&servers, Copies::Two).await, broker_with(&servers, Copies::Two).await];
    let brokers = [Arc::new(one), Arc::new(two)];
    let goes_on = Arc::new(AtomicBool::new(true));
    let storm = Arc::new(Storm { brokers, ledger: Arc::default(), goes_on });
    let mut tasks = Vec::new();
    for (number, name) in TOPICS.iter().enumerate() {
        tasks.push(tokio::spawn(Arc::clone(&storm).produce(number % 2, topic(name))));
        for broker in 0..2 {
            let consumer = Arc::clone(&storm).consume(broker, topic(name), group("billing"));
            tasks.push(tokio::spawn(consumer));
        }
    }
    let mut random = Random::new();
    let mut copy = None;
    for round in 0..8 {
        sleep(Duration::from_millis(200 + random.below(800))).await;
        let victim = random.index(3);
        storm.ledger.lock().unwrap().losses.push(Instant::now() + MEMORY / 5);
        servers[victim].kill().await;
        for broker in &storm.brokers {
            opened(broker, &servers[victim], false).await;
        }
        sleep(Duration::from_millis(random.below(1_000))).await;
        match copy.take() {
            // An older state, of the same server or of none.
            Some((other, data)) if other == victim => {
                servers[victim].put_back(data);
                servers[victim].restart().await;
            }
            _ if random.one_in(3) => {
                copy = Some((victim, servers[victim].copy_of_data()));
                servers[victim].restart().await;
            }
            kept => {
                copy = kept;
                servers[victim].restart_empty().await;
            }
        }
        for broker in &storm.brokers {
            opened(broker, &servers[victim], true).await;
        }
        println!("round {round}: server {victim}");
        all_is_home(&storm.brokers[0]).await;
        // One disk at a time: what is there has its copies again.
        storm.brokers[0].shared.keep(true).await;
        for name in TOPICS {
            until_whole(&storm.brokers[0], &topic(name)).await;
        }
    }
    storm.goes_on.store(false, Ordering::Relaxed);
    let ended = async {
        for task in tasks {
            task.await.unwrap();
        }
    };
    tokio::time::timeout(2 * PATIENCE, ended).await.expect("everything is delivered in time");
    for name in TOPICS {
        until_told(&storm.brokers[0], &storm.brokers[0].shared.home(&topic(name))).await;
    }
    let ledger = storm.ledger.lock().unwrap();
    println!(
        "{} published, {} acknowledged, {} of them delivered again",
        ledger.published.len(),
        ledger.acknowledged.len(),
        ledger.again
    );
    assert!(ledger.published.len() > 100, "{} messages", ledger.published.len());
    for broker in &storm.brokers {
        assert_eq!(broker.losses(), [], "nothing is named as lost");
    }
}

/// Waits until the first shadow of a topic's home has all that is there, and nobody helps out.
async fn until_whole(broker: &RedisBroker, topic: &TopicName) {
    until("its shadow is whole", async || {
        let place = broker.shared.home(topic);
        if !place.node.is_open() {
            return false;
        }
        let [first, helper] = [0, 1].map(|other| shadow_on(broker, &place, other));
        let mut command = redis::cmd("HGET");
        command.arg(format!("{}:meta", broker.shared.prefix(&first))).arg("whole");
        let whole = first.node.redis.run::<Option<u64>>(&command).await.ok().flatten();
        whole == Some(1) && length_of(broker, &helper).await == 0
    })
    .await;
}
