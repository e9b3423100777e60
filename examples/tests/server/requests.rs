//! Requests that make no sense are refused as the API says, and harm nobody.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::client::Answer;
use crate::process::Cluster;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Sends a body as JSON.
async fn ask(cluster: &Cluster, node: usize, method: Method, path: &str, body: &str) -> Answer {
    let url = format!("{}{path}", cluster.url(node));
    let body = Bytes::copy_from_slice(body.as_bytes());
    cluster.client.send(method, &url, JSON, body).await.expect("every request is answered")
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    let problem = answer.json();
    assert_eq!(
        (answer.status.as_u16(), problem["code"].as_str()),
        (status, Some(code)),
        "{problem}"
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(problem["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(problem[member].is_string(), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_their_codes_and_harm_nobody() {
    let mut cluster = Cluster::start(&[]).await;
    for node in 0..3 {
        refused_bodies(&cluster, node).await;
        refused_names(&cluster, node).await;
        refused_states(&cluster, node).await;
    }
    for node in 0..3 {
        assert!(cluster.is_running(node));
        let log = cluster.log(node);
        assert!(!log.contains("panicked"), "{log}");
    }
    cluster.ready().await;
    for node in 0..3 {
        let acquire = json!({"session": format!("after-{node}")}).to_string();
        let path = format!("/v1/locks/after-{node}/acquire");
        assert_eq!(ask(&cluster, node, Method::POST, &path, &acquire).await.status, 200);
    }
}

/// Bodies that are no JSON, or say what cannot be.
async fn refused_bodies(cluster: &Cluster, node: usize) {
    let acquire = "/v1/locks/a/acquire";
    for body in [
        "{",
        "[]",
        "nonsense",
        "\u{0}",
        r#"{"session":"s"}}"#,
        r#"{"session":"s","wait":1}"#,
        r#"{"session":"s","wait_ms":1000000000000000000}"#,
        r#"{"session":"s","wait_ms":-1}"#,
        r#"{"session":"s","ttl_ms":0}"#,
        r#"{"session":"s","mode":"both"}"#,
        r#"{"session":7}"#,
        r#"{"mode":"shared"}"#,
        r#"{"session":""}"#,
    ] {
        let answer = ask(cluster, node, Method::POST, acquire, body).await;
        assert_refused(&answer, 400, "invalid_request");
    }
    let receive = r#"{"consumer":"c","wait_ms":1000000000000000000}"#;
    let path = "/v1/queues/q/groups/g/receive";
    let answer = ask(cluster, node, Method::POST, path, receive).await;
    assert_refused(&answer, 400, "invalid_request");

    let large = "x".repeat(10_000_000);
    for (method, path) in [(Method::POST, acquire), (Method::PUT, "/v1/cache/large")] {
        let answer = ask(cluster, node, method, path, &large).await;
        assert_refused(&answer, 413, "payload_too_large");
    }
    let url = format!("{}{acquire}", cluster.url(node));
    let text = [("content-type", "text/plain")];
    let answer = cluster.client.send(Method::POST, &url, &text, Bytes::from("{}")).await;
    assert_refused(&answer.expect("an answer"), 415, "unsupported_media_type");
}

/// Names that are empty, too long or not text.
async fn refused_names(cluster: &Cluster, node: usize) {
    let long = "a".repeat(513);
    for name in ["", &long, "%00", "a%0Ab", "%7F", "%C2%80", "%FF", "%4"] {
        for (method, path, body) in [
            (Method::POST, format!("/v1/locks/{name}/acquire"), r#"{"session":"s"}"#),
            (Method::PUT, format!("/v1/sessions/{name}"), r#"{"ttl_ms":1000}"#),
            (Method::POST, format!("/v1/queues/{name}/messages"), r#"{"messages":[]}"#),
            (Method::GET, format!("/v1/cache/{name}"), ""),
            (Method::GET, format!("/v1/cache/{name}/line"), ""),
        ] {
            let answer = ask(cluster, node, method, &path, body).await;
            assert_refused(&answer, 400, "invalid_request");
        }
    }
    let session = json!({"session": "a".repeat(513)}).to_string();
    let answer = ask(cluster, node, Method::POST, "/v1/locks/a/acquire", &session).await;
    assert_refused(&answer, 400, "invalid_request");
    let longest = format!("/v1/cache/{}", "a".repeat(512));
    assert_refused(&ask(cluster, node, Method::GET, &longest, "").await, 404, "not_found");
}

/// What would be all right if things were otherwise.
async fn refused_states(cluster: &Cluster, node: usize) {
    for path in ["/v1/cache/nothing", "/v1/locks/nothing", "/v1/queues/nothing", "/v2/nothing"] {
        assert_refused(&ask(cluster, node, Method::GET, path, "").await, 404, "not_found");
    }
    let answer = ask(cluster, node, Method::GET, "/v1/sessions/nobody", "").await;
    assert_refused(&answer, 404, "session_expired");
    assert_refused(
        &ask(cluster, node, Method::DELETE, "/v1/status", "").await,
        405,
        "invalid_request",
    );

    let acquire = json!({"session": "owner"}).to_string();
    let granted = ask(cluster, node, Method::POST, "/v1/locks/held/acquire", &acquire).await;
    assert_eq!(granted.status, 200, "{granted:?}");
    let token = granted.json()["fencing_token"].as_u64().expect("a token");
    let stranger = json!({"session": "stranger"}).to_string();
    let answer = ask(cluster, node, Method::POST, "/v1/locks/held/release", &stranger).await;
    assert_refused(&answer, 409, "not_holder");
    let stale = json!({"session": "owner", "fencing_token": token + 1}).to_string();
    let answer = ask(cluster, node, Method::POST, "/v1/locks/held/release", &stale).await;
    assert_refused(&answer, 409, "stale_token");
    let answer = ask(cluster, node, Method::POST, "/v1/locks/held/acquire", &stranger).await;
    assert_refused(&answer, 409, "lock_held");

    let topic = format!("/v1/queues/topic-{node}");
    let publish = json!({"messages": [{"payload": "one"}, {"payload": "two"}]}).to_string();
    let path = format!("{topic}/messages");
    assert_eq!(ask(cluster, node, Method::POST, &path, &publish).await.status, 201);
    let receive = json!({"consumer": "c"}).to_string();
    let mut receipts = Vec::new();
    for group in ["mine", "theirs"] {
        let path = format!("{topic}/groups/{group}/receive");
        let received = ask(cluster, node, Method::POST, &path, &receive).await.json();
        receipts.push(received["messages"][0]["receipt"].clone());
    }
    let foreign = [receipts[1].clone(), Value::from("no receipt at all")];
    let path = format!("{topic}/groups/mine/ack");
    let body = json!({"receipts": foreign}).to_string();
    let answer = ask(cluster, node, Method::POST, &path, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({"acked": 0, "stale": foreign}));
}
