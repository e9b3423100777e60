//! Locks, messages and cached values outlive the nodes that hold them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Answer;
use crate::process::Cluster;

/// How often the leader is killed and the cluster restarted.
const ROUNDS: usize = 5;
/// How long requests may fail after the leader's death.
const OUTAGE_MAX: Duration = Duration::from_secs(3);
/// How long everything may take to be answered after a restart.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

/// What the servers have acknowledged, and so must never forget.
#[derive(Default)]
struct Acknowledged {
    newest_token: u64,
    held: Vec<(String, u64)>,
    messages: BTreeSet<String>,
    cached: Vec<(String, String)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_leader_is_killed_and_all_are_restarted() {
    let mut cluster = Cluster::start_alone(&[]).await;
    let mut acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        for node in 0..3 {
            acknowledged.write(&cluster, node, &format!("{round}-{node}"), RECOVERY_MAX).await;
        }

        let leader = leader(&cluster).await;
        let survivors: Vec<_> = (0..3).filter(|node| *node != leader).collect();
        cluster.kill(leader);
        let killed = Instant::now();
        for node in &survivors {
            let left = OUTAGE_MAX.saturating_sub(killed.elapsed());
            acknowledged.write(&cluster, *node, &format!("{round}-{node}-after"), left).await;
        }
        println!("round {round}: served again {} ms after the kill", killed.elapsed().as_millis());
        acknowledged.check(&cluster, survivors[0]).await;

        for node in survivors {
            if round % 2 == 0 {
                cluster.kill(node);
            } else {
                let status = cluster.terminate(node).await;
                assert!(status.success(), "{status}\n{}", cluster.logs());
            }
        }
        for node in 0..3 {
            cluster.spawn(node);
        }
        cluster.ready().await;
        for node in 0..3 {
            acknowledged.write(&cluster, node, &format!("{round}-{node}-back"), RECOVERY_MAX).await;
            acknowledged.check(&cluster, node).await;
        }
    }
    acknowledged.receive_all(&cluster).await;
}

/// The node that leads the locks.
async fn leader(cluster: &Cluster) -> usize {
    let url = format!("{}/v1/status", cluster.url(0));
    let status = until(RECOVERY_MAX, cluster, || async {
        let answer = cluster.client.get(&url).await.ok()?;
        let status = answer.json();
        status["raft"]["leader"].is_string().then_some(status)
    });
    let status = status.await;
    cluster.index_of(status["raft"]["leader"].as_str().expect("checked above"))
}

impl Acknowledged {
    /// Takes a lock and keeps it, publishes a message and caches a value, all through `node`, each
    /// repeated until it is acknowledged.
    async fn write(&mut self, cluster: &Cluster, node: usize, name: &str, within: Duration) {
        let base = cluster.url(node);
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());

        let url = format!("{base}/v1/locks/lock-{name}/acquire");
        let body = json!({"session": "keeper", "ttl_ms": 600_000, "request_id": name});
        let grant = acknowledged_post(cluster, &url, &body, left()).await;
        let token = grant["fencing_token"].as_u64().expect("a grant has a token");
        assert!(token > self.newest_token, "{token} after {}", self.newest_token);
        self.newest_token = token;
        self.held.push((format!("lock-{name}"), token));

        let url = format!("{base}/v1/queues/kept/messages");
        let body = json!({"messages": [{"payload": name, "dedupe_id": name}]});
        acknowledged_post(cluster, &url, &body, left()).await;
        self.messages.insert(name.to_owned());

        let url = format!("{base}/v1/cache/key-{name}");
        until(left(), cluster, || async {
            let answer = cluster.client.put_bytes(&url, name.to_owned()).await.ok()?;
            accepted(answer)
        })
        .await;
        self.cached.push((format!("key-{name}"), name.to_owned()));
    }

    /// Every lock is still held under its token, and every value still cached.
    async fn check(&self, cluster: &Cluster, node: usize) {
        let base = cluster.url(node);
        for (lock, token) in &self.held {
            let url = format!("{base}/v1/locks/{lock}/validate");
            let body = json!({"fencing_token": token});
            let answer = acknowledged_post(cluster, &url, &body, RECOVERY_MAX).await;
            assert_eq!(answer["valid"], true, "{lock} under {token}");
        }
        for (key, value) in &self.cached {
            let url = format!("{base}/v1/cache/{key}");
            let answer = until(RECOVERY_MAX, cluster, || async {
                accepted(cluster.client.get(&url).await.ok()?)
            })
            .await;
            assert_eq!(answer.body, value.as_bytes(), "{key}");
        }
    }

    /// Every message is there, exactly as often as it was published.
    async fn receive_all(&self, cluster: &Cluster) {
        let url = format!("{}/v1/queues/kept/groups/readers/receive", cluster.url(0));
        let body = json!({"consumer": "reader", "max": 100, "wait_ms": 0, "visibility_ms": 60_000});
        let mut received = BTreeSet::new();
        loop {
            let answer = acknowledged_post(cluster, &url, &body, RECOVERY_MAX).await;
            let messages = answer["messages"].as_array().expect("a list").clone();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let payload = message["payload"].as_str().expect("text").to_owned();
                assert!(received.insert(payload), "delivered twice: {message}");
            }
        }
        assert_eq!(received, self.messages);
    }
}

/// Posts until it is acknowledged. Only what is safe to repeat may be posted so.
async fn acknowledged_post(cluster: &Cluster, url: &str, body: &Value, within: Duration) -> Value {
    let answer = until(within, cluster, || async {
        accepted(cluster.client.post(url, body.clone()).await.ok()?)
    });
    answer.await.json()
}

/// The answer, where it is neither "not at the moment" nor "perhaps".
fn accepted(answer: Answer) -> Option<Answer> {
    match answer.status.as_u16() {
        503 | 504 => None,
        200..=299 => Some(answer),
        _ => panic!("refused: {answer:?}"),
    }
}

/// Tries until there is an answer, or panics with the servers' logs.
async fn until<T, F: Future<Output = Option<T>>>(
    within: Duration,
    cluster: &Cluster,
    attempt: impl Fn() -> F,
) -> T {
    let tries = async {
        loop {
            if let Some(answer) = attempt().await {
                return answer;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(within, tries).await {
        Ok(answer) => answer,
        Err(_) => panic!("no answer within {within:?}\n{}", cluster.logs()),
    }
}
