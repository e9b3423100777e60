mod cache_transport;
mod lock_client;
mod on_redis;
mod reads;

use std::path::Path;

use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use dss_raft::RoleKind;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::one_line;

/// How long starting, electing and joining may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of nodes `n1`, … on free ports, with its data in `folder`.
async fn bind(size: usize, folder: &Path) -> Vec<BoundNode> {
    bind_with(size, folder, "").await
}

/// As [`bind`], with `more` at the end of its file.
async fn bind_with(size: usize, folder: &Path, more: &str) -> Vec<BoundNode> {
    let mut text = format!("cluster = 'test'\ndata_dir = '{}'\n", folder.display());
    let mut listeners = Vec::new();
    for number in 1..=size {
        let client = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
        text += &format!(
            "[[nodes]]\nid = 'n{number}'\nclient = '{}'\npeer = '{}'\n",
            client.local_addr().unwrap(),
            peer.local_addr().unwrap()
        );
        listeners.push((client, peer));
    }
    text += more;
    let config = Arc::new(ClusterConfig::parse("test.toml", &text).unwrap());
    let nodes = config.nodes().to_vec().into_iter().zip(listeners);
    nodes
        .map(|(node, (client, peer))| BoundNode {
            config: config.clone(),
            node,
            client,
            peer,
            tls: None,
            demo: None,
        })
        .collect()
}

async fn start(bound: Vec<BoundNode>) -> Vec<RunningNode> {
    let mut nodes = Vec::new();
    for node in bound {
        nodes.push(node.start().await.unwrap());
    }
    for node in &nodes {
        if tokio::time::timeout(PATIENCE, node.ready()).await.is_err() {
            panic!("{} is not ready: {:?}", node.app.name, node.app.ready.check());
        }
    }
    nodes
}

/// Sends a request to a node's client port.
async fn send(
    node: &RunningNode,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> (StatusCode, Bytes) {
    let address = &node.app.config.node(&node.app.name).unwrap().client;
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{address}{path}"))
        .header("content-type", "application/json")
        .body(Full::new(body.into()))
        .unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = tokio::time::timeout(PATIENCE, client.request(request)).await.unwrap().unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

async fn post(node: &RunningNode, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, bytes) = send(node, Method::POST, path, body.to_string()).await;
    (status, serde_json::from_slice(&bytes).unwrap())
}

async fn take_lock(node: &RunningNode, lock: &str) -> u64 {
    let path = format!("/v1/locks/{lock}/acquire");
    let (status, grant) = post(node, &path, json!({"session": "me", "ttl_ms": 600_000})).await;
    assert_eq!(status, StatusCode::OK, "{grant}");
    grant["fencing_token"].as_u64().unwrap()
}

async fn receive(node: &RunningNode) -> Value {
    let path = "/v1/queues/jobs/groups/workers/receive";
    let (status, received) = post(node, path, json!({"consumer": "me", "wait_ms": 5000})).await;
    assert_eq!(status, StatusCode::OK, "{received}");
    received["messages"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_serve_locks_messages_and_values_and_still_do_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = start(bind(3, folder.path()).await).await;

    let token = take_lock(&nodes[0], "orders").await;
    let (status, refused) =
        post(&nodes[1], "/v1/locks/orders/acquire", json!({"session": "other"})).await;
    assert_eq!((status, refused["code"].as_str()), (StatusCode::CONFLICT, Some("lock_held")));

    let messages = json!({"messages": [{"payload": "first"}, {"payload": "second"}]});
    let (status, _) = post(&nodes[1], "/v1/queues/jobs/messages", messages).await;
    assert_eq!(status, StatusCode::CREATED);
    let message = receive(&nodes[2]).await;
    assert_eq!(message["payload"], "first");
    let receipts = json!({"receipts": [message["receipt"]]});
    let (_, settled) = post(&nodes[0], "/v1/queues/jobs/groups/workers/ack", receipts).await;
    assert_eq!(settled, json!({"acked": 1, "stale": []}));

    let path = "/v1/cache/greeting";
    assert_eq!(send(&nodes[0], Method::PUT, path, "hello").await.0, StatusCode::NO_CONTENT);
    for node in &nodes {
        assert_eq!(send(node, Method::GET, path, "").await, (StatusCode::OK, "hello".into()));
    }

    crate::local::shutdown(nodes).await;
    let nodes = start(bind(3, folder.path()).await).await;

    let (status, _) =
        post(&nodes[2], "/v1/locks/orders/acquire", json!({"session": "other"})).await;
    assert_eq!(status, StatusCode::CONFLICT, "the lock is still held");
    assert!(take_lock(&nodes[1], "another").await > token);
    assert_eq!(receive(&nodes[0]).await["payload"], "second");
    assert_eq!(send(&nodes[1], Method::GET, path, "").await, (StatusCode::OK, "hello".into()));
    crate::local::shutdown(nodes).await;
}

#[tokio::test]
async fn a_taken_port_is_named_and_the_data_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let bound = bind(1, folder.path()).await;
    let error = BoundNode::bind(&bound[0].config, &bound[0].node).await.err().unwrap();
    let line = one_line(&error);
    assert!(line.starts_with("test.toml: nodes[0].client: cannot listen on 127.0.0.1:"), "{line}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn the_folder_of_another_cluster_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let node = bind(1, folder.path()).await.remove(0).start().await.unwrap();
    node.shutdown().await;
    let files = || {
        let mut files: Vec<_> = std::fs::read_dir(folder.path().join("n1"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            // The log may still be preparing its next file when the node has stopped.
            .filter(|path| !path.to_string_lossy().contains("spare-"))
            .map(|path| {
                let content = std::fs::read(&path).unwrap();
                (path, content.len(), xxhash_rust::xxh3::xxh3_64(&content))
            })
            .collect();
        files.sort();
        files
    };
    let before = files();

    let bound = bind(1, folder.path()).await.remove(0);
    let text = format!(
        "cluster = 'other'\ndata_dir = '{}'\n[[nodes]]\nid = 'n1'\nclient = '{}'\npeer = '{}'\n",
        folder.path().display(),
        bound.node.client,
        bound.node.peer
    );
    let config = Arc::new(ClusterConfig::parse("other.toml", &text).unwrap());
    let error = BoundNode { config, ..bound }.start().await.err().unwrap();
    let line = one_line(&error);
    assert!(line.contains("n1") && line.contains("test") && line.contains("other"), "{line}");
    assert_eq!(files(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_when_a_node_stops_is_told_and_leaves_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = start(bind(3, folder.path()).await).await;
    take_lock(&nodes[0], "orders").await;
    let leader = nodes[0].app.lock_group.status().leader.unwrap();
    let (mut others, mut leaders): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| node.app.id != leader);
    let mut stopping = others.remove(0);
    let leading = leaders.remove(0);

    let name = dss_lock::LockName::new("orders").unwrap();
    let queue = async || leading.app.locks.lock(name.clone()).await.unwrap().unwrap().queue.len();
    let address = stopping.app.config.node(&stopping.app.name).unwrap().client.clone();
    let waiting = tokio::spawn(async move {
        let body = json!({"session": "other", "wait_ms": 60_000}).to_string();
        let request = Request::post(format!("http://{address}/v1/locks/orders/acquire"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap()
    });
    while queue().await == 0 {
        tokio::time::sleep(READY_POLL).await;
    }
    stopping.stop_serving().await;
    let response = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(response.headers()["x-dss-node"], stopping.app.name);
    let left = async {
        while queue().await > 0 {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("the wait is taken back");
    others.extend([stopping, leading]);
    for node in others {
        node.stop().await;
    }
}

/// Waits until `condition` holds.
async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_given_up_after_its_leader_was_deposed_leaves_the_queue() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = start(bind(3, folder.path()).await).await;
    take_lock(&nodes[0], "orders").await;
    let of = |id| nodes.iter().find(|node| node.app.id == id).unwrap();
    let former = of(nodes[0].app.lock_group.status().leader.unwrap());
    let name = dss_lock::LockName::new("orders").unwrap();
    let queue = async |node: &RunningNode| match node.app.locks.lock(name.clone()).await {
        Ok(lock) => lock.map(|lock| lock.queue.len()),
        Err(_) => None,
    };

    // The client talks to the leader itself, which goes on waiting for it when it is deposed.
    let address = former.app.config.node(&former.app.name).unwrap().client.clone();
    let waiting = tokio::spawn(async move {
        let body = json!({"session": "other", "wait_ms": 600_000, "ttl_ms": 900_000}).to_string();
        let request = Request::post(format!("http://{address}/v1/locks/orders/acquire"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        Client::builder(TokioExecutor::new()).build_http().request(request).await
    });
    eventually("it waits", async || queue(former).await == Some(1)).await;
    former.app.lock_group.transfer_leadership(None).await.unwrap();
    let leads = |node: &&RunningNode| node.app.lock_group.status().role == RoleKind::Leader;
    eventually("another leads", async || {
        nodes.iter().any(|node| node.app.id != former.app.id && leads(&node))
    })
    .await;
    let successor = nodes.iter().find(leads).unwrap();
    eventually("it still waits", async || queue(successor).await == Some(1)).await;

    waiting.abort();
    eventually("the wait is taken back", async || queue(successor).await == Some(0)).await;
    crate::local::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_forgot_its_lives_begins_one_that_the_others_accept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("n1").join("incarnation");
    for node in bind(3, folder.path()).await {
        let data = folder.path().join(&node.node.name);
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("incarnation"), "1000000\n").unwrap();
        drop(node);
    }
    let nodes = start(bind(3, folder.path()).await).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1000001\n");
    crate::local::shutdown(nodes).await;

    std::fs::remove_file(&file).unwrap();
    let nodes = start(bind(3, folder.path()).await).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1000002\n");
    let path = "/v1/cache/greeting";
    assert_eq!(send(&nodes[0], Method::PUT, path, "hello").await.0, StatusCode::NO_CONTENT);
    assert_eq!(send(&nodes[1], Method::GET, path, "").await, (StatusCode::OK, "hello".into()));
    crate::local::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_is_out_of_the_view_without_a_wait_for_its_lease() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = start(bind(3, folder.path()).await).await;
    let mut leaving = nodes.remove(0);
    let member = leaving.membership.standing().borrow().member;
    leaving.stop_serving().await;
    // It took its leave itself: while its lease lasted nobody else could have removed it.
    let mut view = leaving.app.view.clone();
    let left = view.wait_for(|view| !view.contains(member));
    let left = tokio::time::timeout(PATIENCE, left).await.expect("it leaves the view");
    assert_eq!(left.unwrap().members.len(), 2);
    assert!(
        leaving.membership.standing().borrow().until.is_some_and(|until| until > Instant::now())
    );
    nodes.push(leaving);
    for node in nodes {
        node.stop().await;
    }
}
