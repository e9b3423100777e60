//! Producers and consumers go on, through every node, while node after node is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Answer, Client};
use crate::process::Cluster;

/// How many kills there are, unless `DSS_KILLS` says otherwise.
const KILLS: usize = 6;
/// How many messages are published at once, and received at most.
const BATCH: usize = 4;
const RECEIVED_MAX: usize = 16;
/// How long a delivery is one consumer's: what was delivered through a node that was killed comes
/// again soon after.
const VISIBILITY_MS: u64 = 2_000;
/// How long the rest may take to be worked off.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// What clients have seen. Messages go by their ids.
#[derive(Default)]
struct Seen {
    published: BTreeSet<String>,
    /// The attempts that were delivered.
    delivered: BTreeMap<String, BTreeSet<u64>>,
    /// The attempt whose ack was answered with done.
    acknowledged: BTreeMap<String, u64>,
    /// Acks that may have counted: one try has had no answer.
    in_doubt: BTreeSet<String>,
    /// What must not happen.
    wrong: Vec<String>,
}

impl Seen {
    fn deliver(&mut self, id: &str, attempt: u64) {
        if self.acknowledged.get(id).is_some_and(|acknowledged| attempt > *acknowledged) {
            self.wrong.push(format!("{id} was acknowledged and came back as attempt {attempt}"));
        }
        if !self.delivered.entry(id.to_owned()).or_default().insert(attempt) {
            self.wrong.push(format!("attempt {attempt} of {id} was delivered twice"));
        }
    }

    fn acknowledge(&mut self, id: &str, attempt: u64) {
        let newest = self.delivered.get(id).and_then(BTreeSet::last).copied();
        if self.acknowledged.insert(id.to_owned(), attempt).is_some() || newest > Some(attempt) {
            self.wrong.push(format!("attempt {attempt} of {id} was acknowledged out of turn"));
        }
    }

    /// Answered publishes that nobody was delivered.
    fn lost(&self) -> usize {
        self.published.iter().filter(|id| !self.delivered.contains_key(*id)).count()
    }

    /// Messages whose first deliveries nobody heard of: they came as a later attempt.
    fn late(&self) -> usize {
        self.delivered.values().filter(|attempts| attempts.first() > Some(&1)).count()
    }

    fn deliveries(&self) -> usize {
        self.delivered.values().map(BTreeSet::len).sum()
    }
}

/// What producers and consumers share.
struct Traffic {
    client: Client,
    urls: Vec<String>,
    seen: Mutex<Seen>,
    producing: AtomicBool,
    consuming: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_and_none_that_was_acknowledged_comes_back_under_kill_9() {
    let kills = std::env::var("DSS_KILLS").ok().and_then(|kills| kills.parse().ok());
    let mut cluster = Cluster::start(&[]).await;
    let settings = json!({"visibility_ms": VISIBILITY_MS, "max_attempts": 1_000}).to_string();
    let url = format!("{}/v1/queues/orders", cluster.url(0));
    let json = [("content-type", "application/json")];
    let set = cluster.client.send(hyper::Method::PUT, &url, &json, settings.into()).await;
    assert_eq!(set.expect("an answer").status, 200);

    let traffic = Arc::new(Traffic {
        client: cluster.client.clone(),
        urls: (0..3).map(|node| cluster.url(node).to_owned()).collect(),
        seen: Mutex::default(),
        producing: AtomicBool::new(true),
        consuming: AtomicBool::new(true),
    });
    let (mut producers, mut consumers) = (JoinSet::new(), JoinSet::new());
    for number in 0..3 {
        producers.spawn(Arc::clone(&traffic).produce(number));
        consumers.spawn(Arc::clone(&traffic).consume(number));
    }
    let started = Instant::now();
    let killed = kill(&mut cluster, kills.unwrap_or(KILLS)).await;
    traffic.producing.store(false, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended.expect("a producer ends well");
    }
    let drained = timeout(DRAIN_MAX, traffic.drained()).await;
    assert!(drained.is_ok(), "not worked off in {DRAIN_MAX:?}\n{}", cluster.logs());
    traffic.consuming.store(false, Ordering::Relaxed);
    while let Some(ended) = consumers.join_next().await {
        ended.expect("a consumer ends well");
    }

    let seen = traffic.seen();
    println!(
        "{killed} kills in {:?}: {} messages published, {} deliveries, of which {} again, {} \
         delivered first where nobody heard it, {} acks in doubt, {} messages lost",
        started.elapsed(),
        seen.published.len(),
        seen.deliveries(),
        seen.deliveries() - seen.delivered.len(),
        seen.late(),
        seen.in_doubt.len(),
        seen.lost(),
    );
    assert_eq!(seen.wrong, [""; 0], "{}", cluster.logs());
    assert_eq!(seen.lost(), 0, "{}", cluster.logs());
    let settled = |id: &&String| seen.acknowledged.contains_key(*id) || seen.in_doubt.contains(*id);
    assert_eq!(seen.published.iter().find(|id| !settled(id)), None, "gone without an ack");
    assert!(seen.published.len() > 5 * killed, "{} messages", seen.published.len());
}

/// Kills nodes and starts them again: by turns whoever serves the topic, one after the other, and
/// all at once. How many were killed.
async fn kill(cluster: &mut Cluster, kills: usize) -> usize {
    let mut killed = 0;
    for round in 0.. {
        if killed >= kills {
            break;
        }
        // At another moment of what goes on each time.
        sleep(Duration::from_millis(100 + round as u64 * 97 % 400)).await;
        let victims = match round % 4 {
            0 | 2 => vec![home(cluster).await.unwrap_or(round % 3)],
            1 => vec![round / 4 % 3],
            _ => vec![0, 1, 2],
        };
        killed += victims.len();
        for victim in &victims {
            cluster.take(*victim).kill();
        }
        sleep(Duration::from_millis(round as u64 * 131 % 700)).await;
        for victim in victims {
            cluster.spawn(victim);
        }
        cluster.ready().await;
    }
    killed
}

/// Which node serves the topic.
async fn home(cluster: &Cluster) -> Option<usize> {
    let topic = cluster.client.get(&format!("{}/v1/queues/orders", cluster.url(0))).await.ok()?;
    (topic.status == 200).then(|| topic.json()["home"].as_str().map(|id| cluster.index_of(id)))?
}

impl Traffic {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics with it")
    }

    async fn post(&self, node: usize, path: &str, body: &Value) -> Option<Answer> {
        let url = format!("{}/v1/queues/orders/{path}", self.urls[node % 3]);
        let answer = self.client.post(&url, body.clone()).await.ok()?;
        match answer.status.as_u16() {
            200 | 201 => Some(answer),
            503 | 504 | 429 => None,
            _ => panic!("refused: {answer:?}"),
        }
    }

    /// Publishes through one node after the other, the same again until there is an answer.
    async fn produce(self: Arc<Self>, number: usize) {
        let mut turn = number;
        for batch in 0_u64.. {
            if !self.producing.load(Ordering::Relaxed) {
                break;
            }
            let message = |place| {
                let name = format!("{number}-{batch}-{place}");
                json!({"payload": name, "dedupe_id": name})
            };
            let body = json!({"messages": (0..BATCH).map(message).collect::<Vec<_>>()});
            let answer = loop {
                turn += 1;
                if let Some(answer) = self.post(turn, "messages", &body).await {
                    break answer.json();
                }
                sleep(Duration::from_millis(20)).await;
            };
            let ids = answer["ids"].as_array().expect("a list");
            assert_eq!(ids.len(), BATCH);
            for id in ids {
                let id = id.as_str().expect("text").to_owned();
                assert!(self.seen().published.insert(id), "two messages of one id");
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn consume(self: Arc<Self>, number: usize) {
        let mut turn = number;
        let body = json!({"consumer": format!("c{number}"), "max": RECEIVED_MAX, "wait_ms": 500});
        while self.consuming.load(Ordering::Relaxed) {
            turn += 1;
            let Some(answer) = self.post(turn, "groups/workers/receive", &body).await else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let mut deliveries = Vec::new();
            for message in answer.json()["messages"].as_array().expect("a list") {
                let text = |field: &str| message[field].as_str().expect("text").to_owned();
                let attempt = message["attempt"].as_u64().expect("a number");
                self.seen().deliver(&text("id"), attempt);
                deliveries.push((text("id"), attempt, text("receipt")));
            }
            if !deliveries.is_empty() {
                self.acknowledge(turn, deliveries).await;
            }
        }
    }

    /// Acknowledges through another node than the messages came from, and through one after the
    /// other until there is an answer.
    async fn acknowledge(&self, turn: usize, deliveries: Vec<(String, u64, String)>) {
        let receipts: Vec<_> = deliveries.iter().map(|(.., receipt)| receipt).collect();
        let body = json!({ "receipts": receipts });
        let mut in_doubt = false;
        for attempt in 1.. {
            let Some(answer) = self.post(turn + attempt, "groups/workers/ack", &body).await else {
                in_doubt = true;
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let answer = answer.json();
            let stale = answer["stale"].as_array().expect("a list");
            let mut seen = self.seen();
            for (id, attempt, receipt) in deliveries {
                if !stale.iter().any(|stale| *stale == receipt) {
                    seen.acknowledge(&id, attempt);
                } else if in_doubt {
                    seen.in_doubt.insert(id);
                }
            }
            return;
        }
    }

    /// Waits until nothing is left.
    async fn drained(&self) {
        let url = format!("{}/v1/queues/orders", self.urls[0]);
        loop {
            if let Ok(answer) = self.client.get(&url).await
                && answer.status == 200
                && answer.json()["length"] == 0
            {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}
