//! The cache, and writes under a lock.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

use super::client::{Answered, Client};
use super::cluster::Cluster;

async fn put(client: &Client, key: &str, headers: &[(&str, &str)], value: &[u8]) -> Answered {
    let mut request = Request::put(format!("/v1/cache/{key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request.body(Body::from(value.to_vec())).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn values_are_raw_bytes_with_a_version() {
    let client = Cluster::start(1).await.client(0);
    client.get("/v1/cache/a%2Fb").await.problem(404, "not_found");
    let value = [0, 255, 10, 13];
    let written = put(&client, "a%2Fb", &[("content-type", "image/png")], &value).await;
    assert_eq!((written.status, written.text()), (204, ""));
    let etag = written.header("etag");
    let version: u64 = etag.trim_matches('"').parse().expect("a version is a number");
    assert_eq!(etag, format!("\"{version}\""));

    let read = client.get("/v1/cache/a%2Fb").await;
    assert_eq!((read.status, &read.body[..]), (200, &value[..]));
    assert_eq!((read.header("etag"), read.header("x-cache")), (etag, "hit"));
    assert!(["M", "E"].contains(&read.header("x-mesi-state")), "{read:?}");
    assert_eq!(read.header("content-type"), "application/octet-stream");

    let line = client.get("/v1/cache/a%2Fb/line").await.json(200);
    assert_eq!((&line["key"], &line["home"]), (&json!("a/b"), &json!("n1")));
    assert_eq!(line["version"], version);
    assert!(["M", "E"].contains(&line["states"]["n1"].as_str().unwrap()), "{line}");

    assert_eq!(client.delete("/v1/cache/a%2Fb").await.status, 204);
    client.delete("/v1/cache/a%2Fb").await.problem(404, "not_found");
    client.get("/v1/cache/a%2Fb").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn conditions_guard_writes_and_removals() {
    let client = Cluster::start(1).await.client(0);
    let first = put(&client, "k", &[("if-none-match", "*")], b"1").await;
    assert_eq!(first.status, 204);
    put(&client, "k", &[("if-none-match", "*")], b"2").await.problem(412, "version_mismatch");
    let first = first.header("etag").to_owned();
    let second = put(&client, "k", &[("if-match", &first)], b"2").await;
    assert_eq!(second.status, 204);
    let late = put(&client, "k", &[("if-match", &first)], b"3").await;
    late.problem(412, "version_mismatch");
    assert_eq!(late.header("etag"), second.header("etag"));
    put(&client, "k", &[("if-match", "\"foreign\"")], b"3").await.problem(412, "version_mismatch");
    put(&client, "absent", &[("if-match", &first)], b"3").await.problem(412, "version_mismatch");

    let stale = [("if-match", first.as_str())];
    let refused = client.ask_with(Method::DELETE, "/v1/cache/k", &stale, "").await;
    refused.problem(412, "version_mismatch");
    assert_eq!(client.get("/v1/cache/k").await.text(), "2");
    let current = [("if-match", second.header("etag"))];
    assert_eq!(client.ask_with(Method::DELETE, "/v1/cache/k", &current, "").await.status, 204);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_read_a_line_has_it() {
    let cluster = Cluster::start(3).await;
    let (writer, reader) = (cluster.client(0), cluster.client(1));
    put(&writer, "k", &[], b"1").await;
    let read = reader.get("/v1/cache/k").await;
    assert_eq!(
        (read.header("x-cache"), read.header("x-mesi-state"), read.text()),
        ("miss", "S", "1")
    );
    assert_eq!(reader.get("/v1/cache/k").await.header("x-cache"), "hit");
    let line = reader.get("/v1/cache/k/line").await.json(200);
    assert_eq!(line["states"], json!({"n1": "S", "n2": "S", "n3": "I"}));
    put(&writer, "k", &[], b"2").await;
    assert_eq!(reader.get("/v1/cache/k").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_fenced_write_is_done_only_under_the_newest_token() {
    let cluster = Cluster::start(3).await;
    let message = r#"{"messages":[{"payload":"a"}]}"#;
    for place in 0..3 {
        let client = cluster.client(place);
        let granted = client.post("/v1/locks/a%2Fb/acquire", r#"{"session":"s"}"#).await.json(200);
        let token = granted["fencing_token"].to_string();
        let held = [("x-dss-lock", "a/b"), ("x-dss-fencing-token", token.as_str())];
        let key = format!("k{place}");
        let path = format!("/v1/cache/{key}");
        assert_eq!(put(&client, &key, &held, b"1").await.status, 204);
        client.ask_with(Method::POST, "/v1/queues/t/messages", &held, message).await.json(201);

        client.post("/v1/locks/a%2Fb/release", r#"{"session":"s"}"#).await.json(200);
        put(&client, &key, &held, b"2").await.problem(409, "stale_token");
        client.ask_with(Method::DELETE, &path, &held, "").await.problem(409, "stale_token");
        let refused = client.ask_with(Method::POST, "/v1/queues/t/messages", &held, message).await;
        refused.problem(409, "stale_token");
        assert_eq!(client.get(&path).await.text(), "1");
        assert_eq!(client.get("/v1/queues/t").await.json(200)["length"], place + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_life_that_ends_is_done_in_the_next() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    client.put("/v1/cache/k", "v").await;
    let serving = cluster.caches(0).get();
    // A life that is in no view: what is asked of it waits.
    let waiting = cluster.lifeless_cache();
    cluster.caches(0).replace(waiting.clone());
    let asking = client.clone();
    let asked = tokio::spawn(async move { asking.get("/v1/cache/k").await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    cluster.caches(0).replace(serving);
    waiting.shutdown().await;
    let answered = asked.await.unwrap();
    assert_eq!((answered.status, answered.text()), (200, "v"));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_shut_down_for_good_is_unavailable() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    cluster.caches(0).get().shutdown().await;
    client.get("/v1/cache/k").await.problem(503, "unavailable");
    client.put("/v1/cache/k", "v").await.problem(503, "unavailable");
    client.delete("/v1/cache/k").await.problem(503, "unavailable");
    client.get("/v1/cache/k/line").await.problem(503, "unavailable");
}
