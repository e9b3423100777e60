//! Who waits for whom is known on every node, and waiting ends with the connection.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::process::Cluster;

/// How long anything may take that should take a moment.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for a lock and waits for it, on a connection of its own.
async fn wait_for(cluster: &Cluster, node: usize, lock: &str, session: &str) -> TcpStream {
    let address = cluster.url(node).trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("the node lets it in");
    let body = json!({"session": session, "wait_ms": 60_000}).to_string();
    let request = format!(
        "POST /v1/locks/{lock}/acquire HTTP/1.1\r\nhost: {address}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    queue_becomes(cluster, lock, &[session]).await;
    stream
}

/// Waits until just these sessions wait for a lock, as every node sees it.
async fn queue_becomes(cluster: &Cluster, lock: &str, sessions: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    for node in 0..3 {
        loop {
            let shown = get(cluster, node, &format!("/v1/locks/{lock}")).await;
            let queue = shown["queue"].as_array().expect("an array");
            if queue.iter().map(|waiter| &waiter["session"]).eq(sessions) {
                break;
            }
            assert!(Instant::now() < deadline, "{shown}, and {sessions:?} should wait");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn get(cluster: &Cluster, node: usize, path: &str) -> Value {
    let answer = cluster.client.get(&format!("{}{path}", cluster.url(node))).await;
    let answer = answer.expect("the node answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The status of a request that changes a lock, and what it is answered.
async fn ask(cluster: &Cluster, node: usize, path: &str, body: Value) -> (u16, Value) {
    let answer = cluster.client.post(&format!("{}{path}", cluster.url(node)), body).await;
    let answer = answer.expect("the node answers");
    (answer.status.as_u16(), answer.json())
}

async fn take(cluster: &Cluster, node: usize, lock: &str, session: &str) {
    let body = json!({"session": session, "ttl_ms": 120_000});
    let (status, granted) = ask(cluster, node, &format!("/v1/locks/{lock}/acquire"), body).await;
    assert_eq!(status, 200, "{granted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_connection_closes_leaves_the_queue_through_whichever_node_it_waits() {
    let cluster = Cluster::start(&[]).await;
    take(&cluster, 0, "a", "holder").await;
    for node in 0..3 {
        let waiting = wait_for(&cluster, node, "a", &format!("waiter-{node}")).await;
        drop(waiting);
        queue_becomes(&cluster, "a", &[]).await;
    }
    let (status, _) = ask(&cluster, 1, "/v1/locks/a/release", json!({"session": "holder"})).await;
    assert_eq!(status, 200);
    let free = cluster.client.get(&format!("{}/v1/locks/a", cluster.url(2))).await;
    assert_eq!(free.expect("the node answers").status, 404, "it went to nobody who is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn waits_and_deadlocks_are_shown_by_every_node() {
    let cluster = Cluster::start(&[]).await;
    take(&cluster, 0, "a", "one").await;
    take(&cluster, 1, "b", "two").await;
    let _waiting = wait_for(&cluster, 2, "b", "one").await;
    let edges = json!({"edges": [{"waiter": "one", "holder": "two", "lock": "b"}]});
    for node in 0..3 {
        assert_eq!(get(&cluster, node, "/v1/wait-for").await, edges);
        let body = json!({"session": "two", "wait_ms": 60_000});
        let (status, refused) = ask(&cluster, node, "/v1/locks/a/acquire", body).await;
        assert_eq!((status, &refused["code"]), (409, &"deadlock".into()), "{refused}");
        assert_eq!(refused["cycle"], json!(["two", "one"]));
    }
    for node in 0..3 {
        let history = get(&cluster, node, "/v1/deadlocks").await;
        let deadlocks = history["deadlocks"].as_array().expect("an array");
        assert_eq!(deadlocks.len(), 3, "{history}");
        let index = |place: usize| deadlocks[place]["log_index"].as_u64().expect("a number");
        assert!(index(0) < index(1) && index(1) < index(2), "{history}");
        for deadlock in deadlocks {
            assert_eq!((&deadlock["session"], &deadlock["lock"]), (&"two".into(), &"a".into()));
            assert_eq!(deadlock["cycle"], json!(["two", "one"]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_answered_every_other_node_knows_at_once() {
    const ROUNDS: usize = 20;
    let cluster = Cluster::start(&[]).await;
    for round in 0..ROUNDS {
        let (writer, reader) = (round % 3, (round + 1) % 3);
        take(&cluster, writer, "a", "one").await;
        let shown = get(&cluster, reader, "/v1/locks/a").await;
        assert_eq!(shown["holders"][0]["session"], "one", "round {round}");
        let session = get(&cluster, (reader + 1) % 3, "/v1/sessions/one").await;
        assert_eq!(session["holds"], json!(["a"]), "round {round}");
        let (status, _) =
            ask(&cluster, reader, "/v1/locks/a/release", json!({"session": "one"})).await;
        assert_eq!(status, 200, "round {round}");
        let url = format!("{}/v1/locks/a", cluster.url(writer));
        let free = cluster.client.get(&url).await.expect("the node answers");
        assert_eq!(free.status, 404, "round {round}");
    }
}
