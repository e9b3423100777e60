//! Locks, messages and cached values outlive the nodes that hold them.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Answer;
use crate::process::Cluster;

/// How often the leader is killed and the cluster restarted.
const ROUNDS: usize = 5;
/// How long requests may fail after the leader's death. It is less than 3 s on a machine that does
/// nothing else; how long it was is printed.
const OUTAGE_MAX: Duration = Duration::from_secs(12);
/// How long everything may take to be answered after a restart.
const RECOVERY_MAX: Duration = Duration::from_secs(80);

/// What the servers have acknowledged, and so must never forget.
#[derive(Default)]
struct Acknowledged {
    newest_token: u64,
    written: Vec<Written>,
}

/// A lock that is held, a message and a cached value, all of one name.
struct Written {
    name: String,
    token: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_leader_is_killed_and_all_are_restarted() {
    let mut cluster = Cluster::start_alone(&[]).await;
    let mut acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        acknowledged.write(&cluster, &[0, 1, 2], &format!("{round}-before"), RECOVERY_MAX).await;

        let leader = leader(&cluster).await;
        let survivors: Vec<_> = (0..3).filter(|node| *node != leader).collect();
        let victim = cluster.take(leader);
        let killing = async {
            // Into the middle of what is under way.
            sleep(Duration::from_millis(5)).await;
            victim.kill();
            Instant::now()
        };
        let during = format!("{round}-during");
        let writing = acknowledged.write(&cluster, &survivors, &during, OUTAGE_MAX);
        let (killed, ()) = tokio::join!(killing, writing);
        let left = OUTAGE_MAX.saturating_sub(killed.elapsed());
        acknowledged.write(&cluster, &survivors, &format!("{round}-after"), left).await;
        println!("round {round}: served again {} ms after the kill", killed.elapsed().as_millis());
        acknowledged.check(&cluster, survivors[0]).await;

        for node in survivors {
            if round % 2 == 0 {
                cluster.take(node).kill();
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
            acknowledged.check(&cluster, node).await;
        }
        acknowledged.write(&cluster, &[0, 1, 2], &format!("{round}-back"), RECOVERY_MAX).await;
    }
    acknowledged.receive_all(&cluster).await;
}

/// The node that leads the locks.
pub(crate) async fn leader(cluster: &Cluster) -> usize {
    let url = format!("{}/v1/status", cluster.url(0));
    let status = until(async || {
        let status = cluster.client.get(&url).await.ok()?.json();
        status["raft"]["leader"].is_string().then_some(status)
    });
    let status = within_recovery(cluster, &url, status).await;
    cluster.index_of(status["raft"]["leader"].as_str().expect("checked above"))
}

impl Acknowledged {
    /// Takes a lock and keeps it, publishes a message and caches a value through each of `nodes`,
    /// all at once, each repeated until it is acknowledged.
    async fn write(&mut self, cluster: &Cluster, nodes: &[usize], name: &str, within: Duration) {
        let writes = nodes.iter().map(|node| write(cluster, *node, format!("{name}-{node}")));
        let Ok(written) = timeout(within, join_all(writes)).await else {
            panic!("{name}: not served within {within:?}\n{}", cluster.logs());
        };
        let newest_before = self.newest_token;
        for Written { name, token } in &written {
            assert!(*token > newest_before, "{name}: {token} after {newest_before}");
            self.newest_token = self.newest_token.max(*token);
        }
        self.written.extend(written);
        let tokens: BTreeSet<_> = self.written.iter().map(|written| written.token).collect();
        assert_eq!(tokens.len(), self.written.len(), "a token was given twice");
    }

    /// Every lock is still held under its token, every message kept, and every value cached.
    async fn check(&self, cluster: &Cluster, node: usize) {
        let base = cluster.url(node);
        for Written { name, token } in &self.written {
            let url = format!("{base}/v1/locks/lock-{name}/validate");
            let body = json!({"fencing_token": token});
            let answer = acknowledged_post(cluster, &url, &body).await;
            assert_eq!(answer["valid"], true, "{name} under {token}");
            let value = acknowledged_get(cluster, &format!("{base}/v1/cache/key-{name}")).await;
            assert_eq!(value.body, name.as_bytes());
        }
        let topic = acknowledged_get(cluster, &format!("{base}/v1/queues/kept")).await.json();
        assert_eq!(topic["length"], self.written.len(), "{topic}");
    }

    /// Every message is there, exactly as often as it was published.
    async fn receive_all(&self, cluster: &Cluster) {
        let url = format!("{}/v1/queues/kept/groups/readers/receive", cluster.url(0));
        let body = json!({"consumer": "reader", "max": 100, "wait_ms": 0, "visibility_ms": 60_000});
        let mut received = BTreeSet::new();
        loop {
            let answer = acknowledged_post(cluster, &url, &body).await;
            let messages = answer["messages"].as_array().expect("a list").clone();
            if messages.is_empty() {
                break;
            }
            for message in messages {
                let payload = message["payload"].as_str().expect("text").to_owned();
                assert!(received.insert(payload), "delivered twice: {message}");
            }
        }
        let published: BTreeSet<_> =
            self.written.iter().map(|written| written.name.clone()).collect();
        assert_eq!(received, published);
    }
}

/// Takes a lock, publishes a message and caches a value of this name through `node`.
async fn write(cluster: &Cluster, node: usize, name: String) -> Written {
    let base = cluster.url(node);
    let lock = async {
        let url = format!("{base}/v1/locks/lock-{name}/acquire");
        let body = json!({"session": "keeper", "owner": name, "ttl_ms": 600_000});
        let grant = until(async || accepted(cluster.client.post(&url, body.clone()).await.ok()?));
        grant.await.json()["fencing_token"].as_u64().expect("a grant has a token")
    };
    let message = async {
        let url = format!("{base}/v1/queues/kept/messages");
        let body = json!({"messages": [{"payload": name, "dedupe_id": name}]});
        until(async || accepted(cluster.client.post(&url, body.clone()).await.ok()?)).await;
    };
    let value = async {
        let url = format!("{base}/v1/cache/key-{name}");
        let put = || cluster.client.put_bytes(&url, name.clone());
        until(async || accepted(put().await.ok()?)).await;
    };
    let (token, (), ()) = tokio::join!(lock, message, value);
    Written { name, token }
}

/// Posts until it is acknowledged. Only what is safe to repeat may be posted so.
async fn acknowledged_post(cluster: &Cluster, url: &str, body: &Value) -> Value {
    let answer = until(async || accepted(cluster.client.post(url, body.clone()).await.ok()?));
    within_recovery(cluster, url, answer).await.json()
}

/// Gets until there is an answer.
async fn acknowledged_get(cluster: &Cluster, url: &str) -> Answer {
    let answer = until(async || accepted(cluster.client.get(url).await.ok()?));
    within_recovery(cluster, url, answer).await
}

/// The answer, where it is neither "not at the moment" nor "perhaps".
fn accepted(answer: Answer) -> Option<Answer> {
    match answer.status.as_u16() {
        503 | 504 => None,
        200..=299 => Some(answer),
        _ => panic!("refused: {answer:?}"),
    }
}

/// Tries until there is an answer.
async fn until<T>(attempt: impl AsyncFn() -> Option<T>) -> T {
    loop {
        if let Some(answer) = attempt().await {
            return answer;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// What is answered in time after a restart; panics with the servers' logs where nothing is.
async fn within_recovery<T>(cluster: &Cluster, what: &str, answer: impl Future<Output = T>) -> T {
    match timeout(RECOVERY_MAX, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what}: no answer within {RECOVERY_MAX:?}\n{}", cluster.logs()),
    }
}
