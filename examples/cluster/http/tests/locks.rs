//! Sessions and locks.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::client::{Answered, Client};
use super::cluster::Cluster;

async fn acquire(client: &Client, lock: &str, body: Value) -> Answered {
    client.post(&format!("/v1/locks/{lock}/acquire"), &body.to_string()).await
}

/// Acquires what must be free, and gives its fencing token.
async fn take(client: &Client, lock: &str, session: &str) -> u64 {
    let granted = acquire(client, lock, json!({ "session": session })).await.json(200);
    granted["fencing_token"].as_u64().unwrap()
}

/// Begins to wait for a lock, and returns once it does.
async fn begin_to_wait(
    client: &Client,
    lock: &str,
    body: Value,
) -> tokio::task::JoinHandle<Answered> {
    let queued = |answer: &Answered| answer.json(200)["queue"].as_array().unwrap().len();
    let path = format!("/v1/locks/{lock}");
    let before = queued(&client.get(&path).await);
    let (waiter, name) = (client.clone(), lock.to_owned());
    let waiting = tokio::spawn(async move { acquire(&waiter, &name, body).await });
    while queued(&client.get(&path).await) == before {
        tokio::task::yield_now().await;
    }
    waiting
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_acquired_shown_validated_and_released() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    let granted = acquire(&client, "orders%2F42", json!({"session": "worker-7"})).await.json(200);
    let token = granted["fencing_token"].as_u64().unwrap();
    let expected = json!({"lock": "orders/42", "session": "worker-7", "mode": "exclusive", "fencing_token": token});
    assert_eq!(granted, expected);

    let holder = json!({"session": "worker-7", "mode": "exclusive", "fencing_token": token});
    let lock = json!({"lock": "orders/42", "mode": "exclusive", "holders": [holder], "queue": [], "fencing_token": token});
    assert_eq!(client.get("/v1/locks/orders%2F42").await.json(200), lock);
    assert_eq!(client.get("/v1/locks").await.json(200), json!({"locks": [lock], "next": null}));

    let ask = json!({"fencing_token": token}).to_string();
    let valid = client.post("/v1/locks/orders%2F42/validate", &ask).await;
    assert_eq!(valid.json(200), json!({"valid": true}));
    let other = json!({"fencing_token": token + 1}).to_string();
    client.post("/v1/locks/orders%2F42/validate", &other).await.problem(409, "stale_token");

    let release = json!({"session": "worker-7", "fencing_token": token}).to_string();
    let released = client.post("/v1/locks/orders%2F42/release", &release).await;
    assert_eq!(released.json(200), json!({"released": true}));
    client.get("/v1/locks/orders%2F42").await.problem(404, "not_found");
    client.post("/v1/locks/orders%2F42/validate", &ask).await.problem(409, "stale_token");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_refused_at_once_or_after_the_wait() {
    let client = Cluster::start(1).await.client(0);
    take(&client, "a", "one").await;
    acquire(&client, "a", json!({"session": "two"})).await.problem(409, "lock_held");
    let start = Instant::now();
    let waited = acquire(&client, "a", json!({"session": "two", "wait_ms": 2000})).await;
    waited.problem(409, "wait_timeout");
    assert!(start.elapsed() >= Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_releases_nothing() {
    let client = Cluster::start(1).await.client(0);
    let token = take(&client, "a", "one").await;
    for body in
        [r#"{"session":"two"}"#.to_owned(), r#"{"session":"one","owner":"other"}"#.to_owned()]
    {
        client.post("/v1/locks/a/release", &body).await.problem(409, "not_holder");
    }
    let stale = json!({"session": "one", "fencing_token": token - 1}).to_string();
    client.post("/v1/locks/a/release", &stale).await.problem(409, "stale_token");
    client.get("/v1/locks/a").await.json(200);
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_is_refused_with_its_cycle() {
    let client = Cluster::start(1).await.client(0);
    take(&client, "a", "one").await;
    take(&client, "b", "two").await;
    let _waiting = begin_to_wait(&client, "b", json!({"session": "one", "wait_ms": 60_000})).await;
    let edges = client.get("/v1/wait-for").await.json(200);
    assert_eq!(edges, json!({"edges": [{"waiter": "one", "holder": "two", "lock": "b"}]}));
    let session = client.get("/v1/sessions/one").await.json(200);
    assert_eq!((&session["holds"], &session["waits_for"]), (&json!(["a"]), &json!(["b"])));

    let refused = acquire(&client, "a", json!({"session": "two", "wait_ms": 60_000})).await;
    assert_eq!(refused.problem(409, "deadlock")["cycle"], json!(["two", "one"]));
}

#[tokio::test(start_paused = true)]
async fn an_owner_waits_for_one_lock_at_a_time() {
    let client = Cluster::start(1).await.client(0);
    take(&client, "a", "one").await;
    take(&client, "b", "one").await;
    let _waiting = begin_to_wait(&client, "a", json!({"session": "two", "wait_ms": 60_000})).await;
    let again = acquire(&client, "b", json!({"session": "two", "wait_ms": 60_000})).await;
    again.problem(409, "owner_busy");
    let other = json!({"session": "two", "owner": "task-2", "wait_ms": 10});
    acquire(&client, "b", other).await.problem(409, "wait_timeout");
}

#[tokio::test(start_paused = true)]
async fn a_release_grants_the_next_waiter_and_shared_holders_share() {
    let client = Cluster::start(1).await.client(0);
    let first = take(&client, "a", "one").await;
    let reader = json!({"session": "two", "mode": "shared", "wait_ms": 60_000});
    let waiting = begin_to_wait(&client, "a", reader).await;
    client.post("/v1/locks/a/release", r#"{"session":"one"}"#).await.json(200);
    let granted = waiting.await.unwrap().json(200);
    assert!(granted["fencing_token"].as_u64().unwrap() > first);
    assert_eq!(granted["mode"], "shared");
    acquire(&client, "a", json!({"session": "three", "mode": "shared"})).await.json(200);
    assert_eq!(client.get("/v1/locks/a").await.json(200)["holders"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_the_queue() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client(0);
    take(&client, "a", "one").await;
    let waiting = begin_to_wait(&client, "a", json!({"session": "two", "wait_ms": 60_000})).await;
    waiting.abort();
    let emptied = async {
        while client.get("/v1/locks/a").await.json(200)["queue"] != json!([]) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), emptied).await.expect("the waiter is gone");
    client.post("/v1/locks/a/release", r#"{"session":"one"}"#).await.json(200);
    client.get("/v1/locks/a").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn a_request_id_is_answered_once_and_for_all() {
    let client = Cluster::start(1).await.client(0);
    let body = json!({"session": "one", "request_id": "r-1"});
    let first = acquire(&client, "a", body.clone()).await.json(200);
    assert_eq!(acquire(&client, "a", body.clone()).await.json(200), first);
    client.post("/v1/locks/a/release", r#"{"session":"one"}"#).await.json(200);
    assert_eq!(acquire(&client, "a", body).await.json(200), first);
    client.get("/v1/locks/a").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_kept_alive_shown_and_closed() {
    let client = Cluster::start(1).await.client(0);
    let opened = client.put("/v1/sessions/worker%207", r#"{"ttl_ms":10000}"#).await.json(200);
    assert_eq!((&opened["session"], &opened["ttl_ms"]), (&json!("worker 7"), &json!(10_000)));
    let left = opened["expires_in_ms"].as_u64().unwrap();
    assert!((1..=10_000).contains(&left), "{left}");
    take(&client, "a", "worker 7").await;
    let shown = client.get("/v1/sessions/worker%207").await.json(200);
    assert_eq!((&shown["holds"], &shown["waits_for"]), (&json!(["a"]), &json!([])));

    let closed = client.delete("/v1/sessions/worker%207").await;
    assert_eq!((closed.status, closed.text()), (204, ""));
    assert_eq!(client.delete("/v1/sessions/worker%207").await.status, 204);
    client.get("/v1/sessions/worker%207").await.problem(404, "session_expired");
    client.get("/v1/locks/a").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_sign_of_life_expires() {
    let client = Cluster::start(1).await.client(0);
    client.put("/v1/sessions/s", r#"{"ttl_ms":1000}"#).await.json(200);
    take(&client, "a", "s").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.get("/v1/sessions/s").await.problem(404, "session_expired");
    take(&client, "a", "other").await;
}

#[tokio::test(start_paused = true)]
async fn locks_are_listed_in_pages() {
    let client = Cluster::start(1).await.client(0);
    for lock in ["a%2F1", "a%2F2", "a%2F3", "b"] {
        take(&client, lock, "one").await;
    }
    let names = |page: &Value| -> Vec<String> {
        let locks = page["locks"].as_array().unwrap();
        locks.iter().map(|lock| lock["lock"].as_str().unwrap().to_owned()).collect()
    };
    let page = client.get("/v1/locks?prefix=a%2F&limit=2").await.json(200);
    assert_eq!((names(&page), &page["next"]), (vec!["a/1".into(), "a/2".into()], &json!("a/2")));
    let page = client.get("/v1/locks?prefix=a%2F&limit=2&after=a%2F2").await.json(200);
    assert_eq!((names(&page), &page["next"]), (vec!["a/3".into()], &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_lock_is_taken_away_by_force() {
    let client = Cluster::start(1).await.client(0);
    let token = take(&client, "a", "one").await;
    assert_eq!(client.delete("/v1/locks/a").await.status, 204);
    let ask = json!({"fencing_token": token}).to_string();
    client.post("/v1/locks/a/validate", &ask).await.problem(409, "stale_token");
    assert!(take(&client, "a", "two").await > token);
    assert_eq!(client.delete("/v1/locks/free").await.status, 204);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_waits_for_the_other_holders_and_two_are_a_deadlock() {
    let client = Cluster::start(1).await.client(0);
    for session in ["one", "two"] {
        acquire(&client, "a", json!({"session": session, "mode": "shared"})).await.json(200);
    }
    let upgrade = json!({"session": "one", "wait_ms": 60_000});
    let waiting = begin_to_wait(&client, "a", upgrade).await;
    let other = acquire(&client, "a", json!({"session": "two", "wait_ms": 60_000})).await;
    assert_eq!(other.problem(409, "deadlock")["cycle"], json!(["two", "one"]));
    client.post("/v1/locks/a/release", r#"{"session":"two"}"#).await.json(200);
    assert_eq!(waiting.await.unwrap().json(200)["mode"], "exclusive");

    let history = client.get("/v1/deadlocks").await.json(200);
    let deadlocks = history["deadlocks"].as_array().unwrap();
    assert_eq!(deadlocks.len(), 1, "{history}");
    let deadlock = &deadlocks[0];
    assert_eq!((&deadlock["session"], &deadlock["lock"]), (&json!("two"), &json!("a")));
    assert_eq!(deadlock["cycle"], json!(["two", "one"]));
    assert_eq!(deadlock["resolution"], "refused");
    assert!(deadlock["log_index"].as_u64().unwrap() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_keeps_the_token_and_lets_readers_in() {
    let client = Cluster::start(1).await.client(0);
    let token = take(&client, "a", "one").await;
    let reader = json!({"session": "two", "mode": "shared", "wait_ms": 60_000});
    let waiting = begin_to_wait(&client, "a", reader).await;
    client.post("/v1/locks/a/downgrade", r#"{"session":"two"}"#).await.problem(409, "not_holder");
    let stale = json!({"session": "one", "fencing_token": token + 7}).to_string();
    client.post("/v1/locks/a/downgrade", &stale).await.problem(409, "stale_token");

    let held = json!({"session": "one", "fencing_token": token}).to_string();
    let downgraded = client.post("/v1/locks/a/downgrade", &held).await.json(200);
    assert_eq!(
        (&downgraded["mode"], &downgraded["fencing_token"]),
        (&json!("shared"), &json!(token))
    );
    assert_eq!(waiting.await.unwrap().json(200)["mode"], "shared");
}

#[tokio::test(start_paused = true)]
async fn several_locks_are_granted_together_or_not_at_all() {
    let client = Cluster::start(1).await.client(0);
    take(&client, "b", "other").await;
    let all = |wait: u64| {
        let locks = json!([{"lock": "b"}, {"lock": "a", "mode": "shared"}]);
        json!({"session": "one", "locks": locks, "wait_ms": wait}).to_string()
    };
    client.post("/v1/locks", &all(0)).await.problem(409, "lock_held");
    client.post("/v1/locks", &all(50)).await.problem(409, "wait_timeout");
    client.get("/v1/locks/a").await.problem(404, "not_found");

    client.post("/v1/locks/b/release", r#"{"session":"other"}"#).await.json(200);
    let granted = client.post("/v1/locks", &all(0)).await.json(200);
    let grants = granted["grants"].as_array().unwrap();
    let named = |place: usize| (grants[place]["lock"].as_str(), grants[place]["mode"].as_str());
    assert_eq!(grants.len(), 2);
    assert_eq!(named(0), (Some("a"), Some("shared")));
    assert_eq!(named(1), (Some("b"), Some("exclusive")));

    let more = json!({"session": "one", "locks": [{"lock": "b"}, {"lock": "c"}]}).to_string();
    client.post("/v1/locks", &more).await.problem(409, "already_exists");
    client.get("/v1/locks/c").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn a_lock_entered_twice_takes_two_releases() {
    let client = Cluster::start(1).await.client(0);
    let enter = json!({"session": "one", "reentrant": true});
    let first = acquire(&client, "a", enter.clone()).await.json(200);
    assert_eq!(acquire(&client, "a", enter).await.json(200), first);
    client.post("/v1/locks/a/release", r#"{"session":"one"}"#).await.json(200);
    client.get("/v1/locks/a").await.json(200);
    client.post("/v1/locks/a/release", r#"{"session":"one"}"#).await.json(200);
    client.get("/v1/locks/a").await.problem(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn locks_of_a_session_with_a_delay_are_kept_back_after_it_has_expired() {
    let client = Cluster::start(1).await.client(0);
    let open = r#"{"ttl_ms":1000,"lock_delay_ms":30000}"#;
    client.put("/v1/sessions/one", open).await.json(200);
    take(&client, "a", "one").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.get("/v1/sessions/one").await.problem(404, "session_expired");
    acquire(&client, "a", json!({"session": "two"})).await.problem(409, "lock_held");
    acquire(&client, "a", json!({"session": "two", "wait_ms": 60_000})).await.json(200);
}
