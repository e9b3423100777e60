//! What watchers are told, and the page that shows it.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::client::Client;
use super::cluster::Cluster;

/// A stream of events, as it comes.
struct Watching {
    body: Body,
    text: String,
}

impl Watching {
    async fn begin(client: &Client, keys: &str) -> Self {
        let request = Request::get(format!("/v1/events?keys={keys}")).body(Body::empty()).unwrap();
        let answer = client.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The next event, or comment.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let Some((name, data)) = event.split_once("\ndata: ") else {
                    return Some((event, Value::Null));
                };
                let name = name.strip_prefix("event: ").expect("an event has a name");
                return Some((name.to_owned(), serde_json::from_str(data).expect("JSON")));
            }
            let bytes = self.body.frame().await?.unwrap().into_data().unwrap();
            self.text += str::from_utf8(&bytes).unwrap();
        }
    }

    /// The next event of this name for which this holds.
    async fn until(&mut self, wanted: &str, holds: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await.expect("the stream goes on");
            if name == wanted && holds(&data) {
                return data;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn watchers_are_told_what_changes_and_nothing_twice() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    cluster.leader_of_locks().await;
    let mut watching = Watching::begin(&client, "colour").await;
    let nodes =
        watching.until("nodes", |nodes| nodes["nodes"].as_array().unwrap().len() == 3).await;
    assert_eq!(nodes["here"], "n1");
    watching.until("locks", |locks| locks["locks"] == json!([])).await;
    let line = |lines: &Value, node: &str| lines[0]["line"]["states"][node].clone();
    watching.until("lines", |lines| line(lines, "n2") == "I").await;

    client.post("/v1/locks/a/acquire", r#"{"session":"s"}"#).await.json(200);
    watching.until("locks", |locks| locks["locks"][0]["lock"] == "a").await;
    assert_eq!(cluster.client(1).put("/v1/cache/colour", "blue").await.status, 204);
    watching.until("lines", |lines| line(lines, "n2") == "E").await;

    // In a cluster at rest nothing is said but that the connection lives.
    while watching.next().await.unwrap().0 != ": nothing new" {}
    assert_eq!(watching.next().await.unwrap().0, ": nothing new");
    // After a minute one has to ask again.
    while watching.next().await.unwrap().0 != "again" {}
    assert!(watching.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_request_is_done_by_the_node_that_it_names_or_by_none() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    let at = |node: &'static str| [("x-dss-at", node)];
    let put = axum::http::Method::PUT;
    let put_there = client.ask_with(put.clone(), "/v1/cache/k", &at("n3"), "v").await;
    assert_eq!(put_there.status, 204);
    let line = client.get("/v1/cache/k/line").await.json(200);
    assert_eq!(line["states"]["n3"], "E");
    assert_eq!(line["states"]["n1"], "I");
    let status = client.ask_with(axum::http::Method::GET, "/v1/status", &at("n2"), "").await;
    assert_eq!(status.json(200)["node"], "n2");
    cluster.kill(2);
    let answer = client.ask_with(put.clone(), "/v1/cache/k", &at("n3"), "w").await;
    answer.problem(503, "unavailable");
    let answer = client.ask_with(put, "/v1/cache/k", &at("nobody"), "w").await;
    answer.problem(400, "invalid_request");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_may_watch_and_only_so_many_keys() {
    let client = Cluster::start(1).await.client(0);
    let keys = ["k"; 9].join("%0A");
    client.get(&format!("/v1/events?keys={keys}")).await.problem(400, "invalid_request");
    client.get("/v1/events?keys=a%07").await.problem(400, "invalid_request");
    client.get("/v1/events?key=a").await.problem(400, "invalid_request");
    let mut watching = Vec::new();
    for _ in 0..64 {
        watching.push(Watching::begin(&client, "").await);
    }
    client.get("/v1/events").await.problem(429, "overloaded");
    watching.pop();
    Watching::begin(&client, "").await;
}

#[tokio::test(start_paused = true)]
async fn the_page_may_do_nothing_that_its_own_files_do_not_do() {
    let client = Cluster::start(1).await.client(0);
    let page = client.get("/").await;
    assert_eq!(page.status, 200);
    let text = String::from_utf8(page.body.to_vec()).unwrap();
    let mut paths = vec!["/".to_owned()];
    for quoted in text.split('"').filter(|quoted| quoted.starts_with("/dashboard/")) {
        paths.push(quoted.to_owned());
    }
    assert!(paths.len() > 3);
    assert!(!text.contains("style=") && !text.contains("<style") && !text.contains("onclick"));
    for path in paths {
        let answer = client.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'self';"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    // Every script that a script asks for is there.
    let main = client.get("/dashboard/main.js").await;
    let main = String::from_utf8(main.body.to_vec()).unwrap();
    for module in main.split('"').filter_map(|quoted| quoted.strip_prefix("./")) {
        assert_eq!(client.get(&format!("/dashboard/{module}")).await.status, 200, "{module}");
    }
    client.get("/dashboard/nothing.js").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn members_are_checked_before_anything_is_decided() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0);
    for body in [
        json!({"id": "", "peer_url": "h:1"}),
        json!({"id": "../x", "peer_url": "h:1"}),
        json!({"id": "n4", "peer_url": "h"}),
        json!({"id": "n4", "peer_url": "ftp://h:1"}),
        json!({"id": "n4"}),
    ] {
        client.post("/v1/members", &body.to_string()).await.problem(400, "invalid_request");
    }
    for body in [
        json!({"id": "n4", "peer_url": "127.0.0.1:9001"}),
        json!({"id": "n1", "peer_url": "127.0.0.1:9009"}),
    ] {
        client.post("/v1/members", &body.to_string()).await.problem(409, "already_exists");
    }
    client.delete("/v1/members/n9").await.problem(404, "not_found");
    let added = client.post("/v1/members", r#"{"id":"n4","peer_url":"http://h:9/"}"#).await;
    assert_eq!(added.json(200)["state"], "joining");
    let members = client.get("/v1/members").await.json(200);
    assert_eq!(members["members"][3]["peer_url"], "http://h:9");
    for _ in 0..2 {
        assert_eq!(client.delete("/v1/members/n4").await.status, 204);
    }
}
