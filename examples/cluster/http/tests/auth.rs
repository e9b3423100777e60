//! Who may call what.

use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::cluster::Cluster;
use crate::auth::Credential;

/// How long a revocation may take to be known everywhere.
const KNOWN_MAX: Duration = Duration::from_secs(1);

/// A new token of this role; the second is its id.
async fn create(admin: &Client, role: &str, more: &str) -> (String, String) {
    let body = format!(r#"{{"role":"{role}","name":"{role} of a test"{more}}}"#);
    let created = admin.post("/v1/tokens", &body).await.json(201);
    let text = |member: &str| created[member].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

/// Waits until `client` is told this; then how long that took.
async fn until(client: &Client, uri: &str, status: u16) -> Duration {
    let start = tokio::time::Instant::now();
    while client.get(uri).await.status != status {
        assert!(start.elapsed() < KNOWN_MAX, "{uri} is not {status} in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

/// Every operation of the document: its method, its path with names filled in, and who may call.
async fn operations(client: &Client) -> Vec<(String, String, String)> {
    let document = client.get("/openapi.json").await.json(200);
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path: Vec<_> = path
            .split('/')
            .map(|segment| if segment.starts_with('{') { "x" } else { segment })
            .collect();
        for (method, operation) in item.as_object().unwrap() {
            let access = operation["x-dss-access"].as_str().expect("every route has an access");
            operations.push((method.to_uppercase(), path.join("/"), access.to_owned()));
        }
    }
    assert!(operations.len() > 30, "only {} operations", operations.len());
    operations
}

#[tokio::test(start_paused = true)]
async fn every_route_lets_in_whom_its_description_names_and_nobody_else() {
    let limits = ["limits.auth_failures_per_address_max=100000", "limits.auth_failures_max=100000"];
    let (cluster, admin) = Cluster::start_guarded(1, &limits).await;
    let client = cluster.client(0);
    let admin = client.with_token(admin.reveal());
    let mut tokens = Vec::new();
    for role in ["reader", "writer", "admin"] {
        tokens.push((role, create(&admin, role, "").await.0));
    }
    let (expired, _) = create(&admin, "admin", r#","expires_in_ms":0"#).await;
    let (revoked, id) = create(&admin, "admin", "").await;
    assert_eq!(admin.delete(&format!("/v1/tokens/{id}")).await.status, 204);
    let bad = Credential::generate().unwrap().reveal().to_owned();
    // The right id with the secret of another one.
    let secret = bad.rsplit('_').next().unwrap();
    let wrong_secret = format!("{}_{secret}", &tokens[2].1[..tokens[2].1.rfind('_').unwrap()]);
    let worthless = [
        ("none", None),
        ("bad", Some(bad.as_str())),
        ("wrong secret", Some(wrong_secret.as_str())),
        ("expired", Some(expired.as_str())),
        ("revoked", Some(revoked.as_str())),
    ];
    let order = ["public", "reader", "writer", "admin"];
    let rank = |name: &str| order.iter().position(|other| *other == name).unwrap();
    let mut tried = 0;
    for (method, path, access) in operations(&admin).await {
        let ask = async |token: Option<&str>| {
            let client = token.map_or(client.clone(), |token| client.with_token(token));
            client.ask(method.parse().unwrap(), &path, "").await
        };
        for (what, token) in worthless {
            let answered = ask(token).await;
            let case = format!("{method} {path} with {what}");
            if access == "public" {
                assert!(!matches!(answered.status, 401 | 403), "{case}: {}", answered.status);
            } else {
                answered.problem(401, "unauthenticated");
                let challenge = answered.header("www-authenticate");
                assert!(challenge.starts_with("Bearer"), "{case}: {challenge}");
            }
            tried += 1;
        }
        for (role, token) in &tokens {
            let answered = ask(Some(token)).await;
            if rank(role) < rank(&access) {
                answered.problem(403, "forbidden");
            } else {
                let case = format!("{method} {path} as {role}: {}", answered.text());
                assert!(!matches!(answered.status, 401 | 403), "{case}");
            }
            tried += 1;
        }
    }
    assert!(tried > 8 * 30, "{tried} cases");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_known_and_revoked_on_every_node_within_a_second() {
    let (cluster, admin) = Cluster::start_guarded(3, &[]).await;
    let follower = (cluster.leader_of_locks().await + 1) % 3;
    let admin = cluster.client(follower).with_token(admin.reveal());
    let (token, id) = create(&admin, "reader", "").await;
    let clients = [0, 1, 2].map(|place| cluster.client(place).with_token(&token));
    let here = clients[follower].get("/v1/status").await;
    assert_eq!(here.status, 200, "who has made it can use it at once where it was made");
    for client in &clients {
        until(client, "/v1/status", 200).await;
    }
    let listed = admin.get("/v1/tokens").await.json(200);
    assert_eq!(listed["tokens"][0]["id"], id.as_str());
    assert_eq!(listed["tokens"][0]["valid"], true);
    assert!(!listed.to_string().contains(token.rsplit('_').next().unwrap()), "{listed}");
    let path = format!("/v1/tokens/{id}");
    assert_eq!(admin.delete(&path).await.status, 204);
    for client in &clients {
        until(client, "/v1/status", 401).await;
    }
    assert_eq!(admin.delete(&path).await.status, 204, "it is revoked");
    admin.delete("/v1/tokens/nobody").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn what_a_token_has_begun_ends_with_it() {
    let (cluster, admin) = Cluster::start_guarded(3, &[]).await;
    let admin = cluster.client(0).with_token(admin.reveal());
    let (token, id) = create(&admin, "writer", "").await;
    let writer = cluster.client(1).with_token(&token);
    until(&writer, "/v1/status", 200).await;
    admin.post("/v1/locks/l/acquire", r#"{"session":"admin"}"#).await.json(200);
    let waiting = writer.clone();
    let waiting = tokio::spawn(async move {
        let wait = r#"{"session":"w","wait_ms":60000}"#;
        waiting.post("/v1/locks/l/acquire", wait).await
    });
    let watching = writer.clone();
    let watching = tokio::spawn(async move { watching.get("/v1/events").await });
    tokio::time::sleep(KNOWN_MAX).await;
    assert!(!waiting.is_finished() && !watching.is_finished());
    let queue = admin.get("/v1/locks/l").await.json(200)["queue"].clone();
    assert_eq!(queue.as_array().unwrap().len(), 1, "it waits");
    assert_eq!(admin.delete(&format!("/v1/tokens/{id}")).await.status, 204);
    let ended = tokio::time::timeout(KNOWN_MAX, async { (waiting.await, watching.await) }).await;
    let (waited, watched) = ended.expect("both end within a second");
    waited.unwrap().problem(401, "unauthenticated");
    assert_eq!(watched.unwrap().status, 200, "it was allowed when it began");
    tokio::time::sleep(KNOWN_MAX).await;
    let queue = admin.get("/v1/locks/l").await.json(200)["queue"].clone();
    assert_eq!(queue, serde_json::json!([]), "the wait is taken back");
}

#[tokio::test(start_paused = true)]
async fn every_key_of_a_batch_is_refused_with_it_and_nothing_is_done() {
    let (cluster, admin) = Cluster::start_guarded(3, &[]).await;
    let admin = cluster.client(0).with_token(admin.reveal());
    let (token, _) = create(&admin, "reader", "").await;
    let reader = cluster.client(0).with_token(&token);
    let locks = r#"{"session":"s","locks":[{"lock":"a"},{"lock":"b"}]}"#;
    let messages = r#"{"messages":[{"payload":"1"},{"payload":"2"}]}"#;
    reader.post("/v1/locks", locks).await.problem(403, "forbidden");
    reader.post("/v1/queues/t/messages", messages).await.problem(403, "forbidden");
    let fenced = [("x-dss-lock", "a"), ("x-dss-fencing-token", "1")];
    let fenced = reader.ask_with(axum::http::Method::PUT, "/v1/cache/k", &fenced, "v").await;
    fenced.problem(403, "forbidden");
    assert_eq!(reader.get("/v1/locks").await.json(200)["locks"], serde_json::json!([]));
    assert_eq!(reader.get("/v1/queues").await.json(200)["topics"], serde_json::json!([]));
    reader.get("/v1/cache/k").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn failures_are_answered_429_where_there_are_too_many_and_good_tokens_are_heard() {
    let (cluster, admin) =
        Cluster::start_guarded(1, &["limits.auth_failures_per_address_max=5"]).await;
    let client = cluster.client(0);
    let (here, there) = (client.from("10.0.0.1:1"), client.from("10.0.0.2:1"));
    for _ in 0..5 {
        here.get("/v1/status").await.problem(401, "unauthenticated");
    }
    here.get("/v1/status").await.problem(429, "overloaded");
    here.with_token("dss_a_b").get("/v1/status").await.problem(429, "overloaded");
    there.get("/v1/status").await.problem(401, "unauthenticated");
    assert_eq!(here.with_token(admin.reveal()).get("/v1/status").await.status, 200);
    tokio::time::sleep(Duration::from_secs(15)).await;
    here.get("/v1/status").await.problem(401, "unauthenticated");
}

#[tokio::test(start_paused = true)]
async fn without_authentication_everything_is_allowed_but_to_make_tokens() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    assert_eq!(client.get("/v1/status").await.status, 200);
    assert_eq!(client.with_token("nonsense").get("/v1/status").await.status, 200);
    let body = r#"{"role":"admin","name":"for later"}"#;
    client.post("/v1/tokens", body).await.problem(401, "unauthenticated");
    client.get("/v1/tokens").await.problem(401, "unauthenticated");
}

#[tokio::test(start_paused = true)]
async fn tokens_can_be_made_before_they_are_needed() {
    let (cluster, admin) = Cluster::start_guarded(1, &["auth.enabled=false"]).await;
    let admin = cluster.client(0).with_token(admin.reveal());
    let (token, _) = create(&admin, "writer", "").await;
    let writer = cluster.client(0).with_token(&token);
    writer.get("/v1/tokens").await.problem(403, "forbidden");
    assert_eq!(cluster.client(0).get("/v1/status").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_in_no_metric_and_no_refusal() {
    let (cluster, admin) = Cluster::start_guarded(1, &[]).await;
    let admin = cluster.client(0).with_token(admin.reveal());
    let (token, id) = create(&admin, "reader", "").await;
    let secret = token.rsplit('_').next().unwrap();
    let reader = cluster.client(0).with_token(&token);
    let wrong = cluster.client(0).with_token(&format!("dss_{id}_{}", &secret[1..]));
    for answered in [
        reader.get("/metrics").await,
        reader.post("/v1/tokens", "{}").await,
        reader.get("/v1/nothing").await,
        wrong.get("/v1/status").await,
        admin.get("/v1/tokens").await,
    ] {
        assert!(!answered.text().contains(&secret[1..]), "{}", answered.text());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_makes_no_sense_makes_no_token() {
    let (cluster, admin) = Cluster::start_guarded(1, &[]).await;
    let admin = cluster.client(0).with_token(admin.reveal());
    for body in [
        "",
        r#"{"role":"admin"}"#,
        r#"{"role":"owner","name":"x"}"#,
        r#"{"role":"admin","name":""}"#,
        r#"{"role":"admin","name":"a\u0007"}"#,
        r#"{"role":"admin","name":"x","expires":"30d"}"#,
    ] {
        admin.post("/v1/tokens", body).await.problem(400, "invalid_request");
    }
    assert_eq!(admin.get("/v1/tokens").await.json(200)["tokens"], Value::Array(Vec::new()));
}
