//! Three nodes whose cache has its main memory on three Redis servers.

use super::*;
use crate::redis::test_server::RedisServer;

/// The part of a cluster's file that names these servers.
fn section(servers: &[RedisServer]) -> String {
    let urls: Vec<String> = servers.iter().map(|server| format!("'{}'", server.url())).collect();
    format!("[redis]\nurls = [{}]\n", urls.join(", "))
}

async fn start_on(servers: &[RedisServer], folder: &Path) -> Vec<RunningNode> {
    start(bind_with(3, folder, &section(servers)).await).await
}

/// A cache path for each server, whose value is on that server.
async fn paths(nodes: &[RunningNode]) -> Vec<String> {
    let servers = RedisNodes::start(nodes[0].app.config.redis().to_vec());
    let path_on = |name: &str| {
        let mut keys = (0..).map(|number| format!("key-{number}"));
        let key = keys.find(|key| servers.owner(key.as_bytes()).name() == name).unwrap();
        format!("/v1/cache/{key}")
    };
    servers.all().iter().map(|server| path_on(server.name())).collect()
}

async fn put(node: &RunningNode, path: &str, value: &str) -> StatusCode {
    send(node, Method::PUT, path, value.to_owned()).await.0
}

async fn get(node: &RunningNode, path: &str) -> (StatusCode, Bytes) {
    send(node, Method::GET, path, "").await
}

/// Waits until the value can be put again.
async fn until_put(node: &RunningNode, path: &str, value: &str) {
    let succeeded = async { while put(node, path, value).await != StatusCode::NO_CONTENT {} };
    tokio::time::timeout(PATIENCE, succeeded).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn values_outlive_a_redis_server_that_stops_the_nodes_and_their_data_folders() {
    let mut servers = RedisServer::start_several(3).await;
    let folder = tempfile::tempdir().unwrap();
    let nodes = start_on(&servers, folder.path()).await;
    let paths = paths(&nodes).await;

    for (number, path) in paths.iter().enumerate() {
        assert_eq!(put(&nodes[number], path, "first").await, StatusCode::NO_CONTENT);
        assert_eq!(get(&nodes[(number + 1) % 3], path).await, (StatusCode::OK, "first".into()));
    }
    let removed = "/v1/cache/removed";
    assert_eq!(put(&nodes[0], removed, "x").await, StatusCode::NO_CONTENT);
    assert_eq!(send(&nodes[1], Method::DELETE, removed, "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(get(&nodes[2], removed).await.0, StatusCode::NOT_FOUND);

    // A server that is away takes its keys along, and nothing else.
    servers[0].stop().await;
    assert_eq!(put(&nodes[0], &paths[1], "second").await, StatusCode::NO_CONTENT);
    let status = put(&nodes[1], &paths[0], "second").await;
    assert!(
        matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT),
        "{status}"
    );
    assert_eq!(get(&nodes[2], "/readyz").await.0, StatusCode::OK, "the rest is served");
    take_lock(&nodes[0], "orders").await;
    servers[0].restart().await;
    until_put(&nodes[2], &paths[0], "third").await;
    assert_eq!(get(&nodes[1], &paths[0]).await, (StatusCode::OK, "third".into()));

    // Caches start empty: what they have then comes from Redis.
    crate::local::shutdown(nodes).await;
    let nodes = start_on(&servers, folder.path()).await;
    for (path, value) in paths.iter().zip(["third", "second", "first"]) {
        assert_eq!(get(&nodes[0], path).await, (StatusCode::OK, value.into()));
    }
    assert_eq!(get(&nodes[2], removed).await.0, StatusCode::NOT_FOUND);
    let former = nodes[0].app.view.borrow().epoch;
    crate::local::shutdown(nodes).await;

    // Without their data folders the nodes are another cluster, which goes on from there.
    let folder = tempfile::tempdir().unwrap();
    let nodes = start_on(&servers, folder.path()).await;
    assert_eq!(get(&nodes[0], &paths[0]).await, (StatusCode::OK, "third".into()));
    until_put(&nodes[1], &paths[0], "fourth").await;
    assert_eq!(get(&nodes[2], &paths[0]).await, (StatusCode::OK, "fourth".into()));
    assert!(nodes[0].app.view.borrow().epoch > former);
    crate::local::shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn nodes_start_without_their_redis_servers_say_so_and_serve_locks() {
    let mut servers = RedisServer::start_several(1).await;
    servers[0].stop().await;
    let folder = tempfile::tempdir().unwrap();
    let bound = bind_with(1, folder.path(), &section(&servers)).await.remove(0);
    let node = bound.start().await.unwrap();
    let without_redis = async {
        while !matches!(node.app.ready.check(), Err(crate::ready::NotReady::Redis { .. })) {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, without_redis).await.expect("all else is ready in time");

    take_lock(&node, "orders").await;
    let (status, problem) = get(&node, "/readyz").await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    let server = servers[0].url().replace("redis://", "");
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem["detail"].as_str().unwrap().contains(&server), "{problem}");
    let (status, problem) = get(&node, "/v1/cache/k").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem:?}");

    servers[0].restart().await;
    tokio::time::timeout(PATIENCE, node.ready()).await.expect("it is ready in time");
    assert_eq!(put(&node, "/v1/cache/k", "value").await, StatusCode::NO_CONTENT);
    node.shutdown().await;

    // Started without Redis, the nodes know that the values are not where they would look.
    let node = bind(1, folder.path()).await.remove(0).start().await.unwrap();
    let (status, _) = get(&node, "/v1/cache/k").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "the value is not gone");
    node.shutdown().await;
}

async fn publish(node: &RunningNode, topic: &str, payloads: &[&str]) {
    let messages: Vec<Value> = payloads.iter().map(|payload| json!({"payload": payload})).collect();
    let path = format!("/v1/queues/{topic}/messages");
    let (status, published) = post(node, &path, json!({"messages": messages})).await;
    assert_eq!(status, StatusCode::CREATED, "{published}");
}

/// Receives and acknowledges until there were `count` different payloads, and returns those. What
/// is not answered while a server comes and goes is asked again, as a client would.
async fn consume(node: &RunningNode, topic: &str, count: usize) -> Vec<String> {
    let path = format!("/v1/queues/{topic}/groups/workers");
    let mut payloads = std::collections::BTreeSet::new();
    let consumed = async {
        while payloads.len() < count {
            let request =
                json!({"consumer": "me", "max": 10, "wait_ms": 1000, "visibility_ms": 2000});
            let (status, received) = post(node, &format!("{path}/receive"), request).await;
            if status != StatusCode::OK {
                tokio::time::sleep(READY_POLL).await;
                continue;
            }
            for message in received["messages"].as_array().unwrap() {
                payloads.insert(message["payload"].as_str().unwrap().to_owned());
                let receipts = json!({"receipts": [message["receipt"]]});
                post(node, &format!("{path}/ack"), receipts).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, consumed).await.expect("in time");
    payloads.into_iter().collect()
}

/// A topic for each server, whose home that server is.
async fn topics(node: &RunningNode, servers: &[RedisServer]) -> Vec<String> {
    let mut topics = vec![None; servers.len()];
    for number in 0.. {
        if topics.iter().all(Option::is_some) {
            break;
        }
        let topic = format!("topic-{number}");
        publish(node, &topic, &["first"]).await;
        let (status, info) = get(node, &format!("/v1/queues/{topic}")).await;
        let info: Value = serde_json::from_slice(&info).unwrap();
        assert_eq!(status, StatusCode::OK, "{info}");
        let home = format!("redis://{}", info["home"].as_str().unwrap());
        let home = servers.iter().position(|server| server.url() == home).unwrap();
        topics[home].get_or_insert(topic);
    }
    topics.into_iter().map(Option::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn no_acknowledged_message_is_lost_while_a_redis_server_stops_and_starts() {
    let mut servers = RedisServer::start_several(3).await;
    let folder = tempfile::tempdir().unwrap();
    let nodes = start_on(&servers, folder.path()).await;
    assert!(nodes[0].app.queue_groups.is_empty());
    let topics = topics(&nodes[0], &servers).await;
    let topic = &topics[0];

    assert_eq!(consume(&nodes[1], topic, 1).await, ["first"]);
    publish(&nodes[2], topic, &["second", "third"]).await;
    let redis = RedisNodes::start(nodes[0].app.config.redis().to_vec());
    let mut xinfo = redis::cmd("XINFO");
    xinfo.arg("STREAM").arg(format!("dss:test:queue:{{{topic}}}:s"));
    let stream: std::collections::BTreeMap<String, redis::Value> =
        redis.all()[0].run(&xinfo).await.unwrap();
    assert!(matches!(stream["length"], redis::Value::Int(2..)), "{stream:?}");

    servers[0].stop().await;
    // The topic goes on elsewhere; what its home has waits there.
    let message = json!({"messages": [{"payload": "fourth"}]});
    let path = format!("/v1/queues/{topic}/messages");
    let published = async {
        while post(&nodes[0], &path, message.clone()).await.0 != StatusCode::CREATED {
            tokio::time::sleep(READY_POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("in time");
    assert_eq!(consume(&nodes[0], &topics[1], 1).await, ["first"]);
    servers[0].restart().await;

    let payloads = consume(&nodes[1], topic, 3).await;
    assert_eq!(payloads, ["fourth", "second", "third"]);
    crate::local::shutdown(nodes).await;
    let nodes = start_on(&servers, folder.path()).await;
    assert_eq!(consume(&nodes[2], &topics[2], 1).await, ["first"]);
    crate::local::shutdown(nodes).await;
}
