//! A node that is asked to leave does so in an orderly way.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::client::Answer;
use crate::process::Cluster;

/// Longer than any handover takes. Without one nobody would lead before this is over.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the others may take to serve without the one that has left.
const SERVED_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_asked_to_leave_hands_over_and_exits_with_success() {
    let timing = format!("[timing]\nelection_timeout_ms = {}\n", ELECTION_TIMEOUT.as_millis());
    let mut cluster = Cluster::start_configured(&timing).await;
    for signal in ["TERM", "INT"] {
        let (leader, term) = leader(&cluster, 0).await;
        let status = cluster.stop(leader, signal).await;
        let left = Instant::now();
        assert_eq!(status.code(), Some(0), "{}", cluster.logs());
        let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
        let (successor, next_term) = self::leader(&cluster, others[0]).await;
        assert!(left.elapsed() < ELECTION_TIMEOUT, "nobody was handed leadership");
        assert!(successor != leader && next_term > term, "{}", cluster.logs());
        let served = async {
            for node in &others {
                serves(&cluster, *node, &format!("{signal}-{node}")).await;
            }
        };
        assert!(timeout(SERVED_MAX, served).await.is_ok(), "{}", cluster.logs());
        println!("all is served {:?} after the leader has left", left.elapsed());
        let log = cluster.log(leader);
        assert!(!log.contains("could not") && !log.contains("ERROR"), "{log}");

        cluster.spawn(leader);
        cluster.ready().await;
    }
}

/// The node that leads the locks, and its term, as `node` sees it as soon as it sees one.
async fn leader(cluster: &Cluster, node: usize) -> (usize, u64) {
    let url = format!("{}/v1/status", cluster.url(node));
    let begun = Instant::now();
    while begun.elapsed() < SERVED_MAX {
        let status = cluster.client.get(&url).await.expect("the node answers").json();
        if let Some(leader) = status["raft"]["leader"].as_str() {
            return (cluster.index_of(leader), status["raft"]["term"].as_u64().expect("a number"));
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody leads\n{}", cluster.logs());
}

/// Locks, queues and the cache work through `node`, before long.
async fn serves(cluster: &Cluster, node: usize, name: &str) {
    let base = cluster.url(node);
    let acquire = json!({"session": "me", "request_id": name});
    let publish = json!({"messages": [{"payload": "hello", "dedupe_id": name}]});
    let (lock, queue) = (format!("{base}/v1/locks/{name}/acquire"), format!("{base}/v1/queues"));
    let cache = format!("{base}/v1/cache/{name}");
    loop {
        let lock = cluster.client.post(&lock, acquire.clone()).await;
        let messages = format!("{queue}/{name}/messages");
        let published = cluster.client.post(&messages, publish.clone()).await;
        let written = cluster.client.put_bytes(&cache, name.to_owned()).await;
        if [lock, published, written]
            .into_iter()
            .all(|answer| answer.is_ok_and(|answer| is_success(&answer)))
        {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn is_success(answer: &Answer) -> bool {
    assert!(answer.status.is_success() || answer.status.is_server_error(), "{answer:?}");
    answer.status.is_success()
}
