//! Load is shed before it queues.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cluster::Cluster;
use crate::config::ClusterConfig;

const FILE: &str = "cluster='c'\n[[nodes]]\nid='n1'\nclient='h:1'\npeer='h:2'\n";

async fn cluster(limits: &str) -> Cluster {
    let text = format!("{FILE}[limits]\n{limits}");
    Cluster::start_configured(1, ClusterConfig::parse("c.toml", &text).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_may_be_worked_on_are_refused_at_once() {
    let cluster = cluster("requests_max = 3").await;
    let client = cluster.client(0);
    let mut asked = JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        asked.spawn(async move {
            let body = json!({"session": format!("s{number}")}).to_string();
            client.post(&format!("/v1/locks/{number}/acquire"), &body).await
        });
    }
    let answers = asked.join_all().await;
    let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(with(200) + with(429), 20, "{answers:?}");
    assert!(with(200) >= 3 && with(429) >= 1, "{} done", with(200));
    for refused in answers.iter().filter(|answer| answer.status == 429) {
        refused.problem(429, "overloaded");
    }
    let metrics = client.get("/metrics").await;
    let shed = format!("dss_http_requests_shed_total {}", with(429));
    assert!(metrics.text().lines().any(|line| line == shed), "{}", metrics.text());
}

#[tokio::test(start_paused = true)]
async fn who_waits_takes_no_place_of_those_who_do_not() {
    let cluster = cluster("requests_max = 2\nwaits_max = 2").await;
    let client = cluster.client(0);
    client.post("/v1/locks/a/acquire", r#"{"session":"holder"}"#).await.json(200);
    let mut waiting = JoinSet::new();
    for session in ["one", "two"] {
        let waiter = client.clone();
        let body = json!({"session": session, "wait_ms": 60_000}).to_string();
        waiting.spawn(async move { waiter.post("/v1/locks/a/acquire", &body).await });
        let queued = |lock: &serde_json::Value| lock["queue"].to_string().contains(session);
        loop {
            let lock = client.get("/v1/locks/a").await;
            if lock.status == 200 && queued(&lock.json(200)) {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
    let third = r#"{"session":"three","wait_ms":60000}"#;
    client.post("/v1/locks/a/acquire", third).await.problem(429, "overloaded");
    client.post("/v1/locks/b/acquire", r#"{"session":"three"}"#).await.json(200);
    for session in ["holder", "one", "two"] {
        let release = json!({"session": session}).to_string();
        client.post("/v1/locks/a/release", &release).await.json(200);
        if let Some(granted) = waiting.join_next().await {
            granted.unwrap().json(200);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_and_probes_are_answered_however_much_there_is_to_do() {
    let cluster = cluster("requests_max = 1").await;
    let client = cluster.client(0);
    let mut asked = JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        asked.spawn(async move {
            let session = format!("/v1/sessions/s{number}");
            client.put(&session, r#"{"ttl_ms":10000}"#).await.json(200);
            assert_eq!(client.get("/healthz").await.status, 200);
        });
    }
    while let Some(answered) = asked.join_next().await {
        answered.unwrap();
    }
}
