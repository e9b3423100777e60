//! Clients that ask again, and another node, where one does not answer or cannot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client::{Answer, Client};
use crate::process::Cluster;

const CLIENTS: usize = 4;
/// Over how many topics the messages are spread: enough for each shard to get some.
const TOPICS: u64 = 64;
/// How long a client tries again before it says that its request has failed. Handing leadership
/// over takes well below a second; the rest is for a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(20);

/// Clients that keep a cluster busy.
pub(crate) struct Crowd {
    stop: watch::Sender<bool>,
    clients: JoinSet<Retrying>,
}

impl Crowd {
    /// Clients that ask the first three nodes.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let nodes: Arc<[String]> = (0..3).map(|node| cluster.url(node).to_owned()).collect();
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Retrying::new(number, Arc::clone(&nodes));
            clients.spawn(client.work(stopped.clone()));
        }
        Self { stop, clients }
    }

    /// Has them stop, and checks that no request has failed and nothing that was acknowledged is
    /// lost; `witness` is the node that is asked.
    pub(crate) async fn finish(mut self, cluster: &Cluster, witness: usize) {
        self.stop.send_replace(true);
        let (mut rounds, mut longest) = (0, Duration::ZERO);
        while let Some(done) = self.clients.join_next().await {
            let mut done = done.unwrap_or_else(|failed| panic!("{failed}\n{}", cluster.logs()));
            done.nodes = vec![cluster.url(witness).to_owned()].into();
            done.check().await;
            rounds += done.rounds;
            longest = longest.max(done.longest);
        }
        println!("{rounds} rounds, the longest request took {longest:?}");
        assert!(rounds > 2 * CLIENTS as u64, "{rounds} rounds are no load");
        let topics = topics(cluster, witness).await;
        let messages: u64 = topics.iter().filter_map(|topic| topic["length"].as_u64()).sum();
        assert_eq!(messages, rounds, "{topics:?}");
    }
}

/// What a node says of the topics that the clients publish to.
pub(crate) async fn topics(cluster: &Cluster, node: usize) -> Vec<Value> {
    let mut topics = Vec::new();
    for number in 0..TOPICS {
        let url = format!("{}/v1/queues/rolling-{number}", cluster.url(node));
        topics.push(cluster.client.get(&url).await.expect("the node answers").json());
    }
    topics
}

/// A client that asks the next node where one does not answer, or cannot.
struct Retrying {
    number: usize,
    nodes: Arc<[String]>,
    client: Client,
    at: usize,
    rounds: u64,
    longest: Duration,
}

impl Retrying {
    fn new(number: usize, nodes: Arc<[String]>) -> Self {
        let (client, longest) = (Client::new(), Duration::ZERO);
        Self { number, nodes, client, at: number, rounds: 0, longest }
    }

    /// Publishes, writes and locks until it is told to stop.
    async fn work(mut self, stopped: watch::Receiver<bool>) -> Self {
        while !*stopped.borrow() {
            let name = format!("{}-{}", self.number, self.rounds);
            let message = json!({"messages": [{"payload": name, "dedupe_id": name}]});
            let topic = format!("/v1/queues/rolling-{}/messages", self.rounds % TOPICS);
            self.post(&topic, &message).await;
            let key = format!("/v1/cache/rolling-{}", self.number);
            let written = self.ask(Method::PUT, &key, self.rounds.to_string().into()).await;
            assert_eq!(written.status, 204, "{written:?}");

            let lock = format!("/v1/locks/rolling-{}", self.number);
            let session = format!("session-{}", self.number);
            let body = json!({"session": session, "ttl_ms": 60_000, "request_id": name});
            let granted = self.post(&format!("{lock}/acquire"), &body).await;
            let body = json!({"session": session, "fencing_token": granted["fencing_token"]});
            let released =
                self.ask(Method::POST, &format!("{lock}/release"), body.to_string().into()).await;
            // It may have been released by a request whose answer was lost.
            assert!([200, 409].contains(&released.status.as_u16()), "{released:?}");
            self.rounds += 1;
        }
        self
    }

    /// What was acknowledged last is there.
    async fn check(&mut self) {
        let key = format!("/v1/cache/rolling-{}", self.number);
        let value = self.ask(Method::GET, &key, Bytes::new()).await;
        assert_eq!(value.body, (self.rounds - 1).to_string().as_bytes(), "{value:?}");
    }

    async fn post(&mut self, path: &str, body: &Value) -> Value {
        let answer = self.ask(Method::POST, path, body.to_string().into()).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
        answer.json()
    }

    /// The answer that is neither "not at the moment" nor "perhaps".
    async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Answer {
        let begun = Instant::now();
        loop {
            let url = format!("{}{path}", self.nodes[self.at % self.nodes.len()]);
            let json = [("content-type", "application/json")];
            let answer = self.client.send(method.clone(), &url, &json, body.clone()).await;
            let tried_for = begun.elapsed();
            match answer {
                Ok(answer) if ![503, 504].contains(&answer.status.as_u16()) => {
                    self.longest = self.longest.max(tried_for);
                    return answer;
                }
                other => assert!(tried_for < PATIENCE, "{method} {path} fails: {other:?}"),
            }
            self.at += 1;
            sleep(Duration::from_millis(20)).await;
        }
    }
}
