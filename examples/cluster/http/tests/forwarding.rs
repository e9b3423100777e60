//! Any node serves any request.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::cluster::Cluster;

#[tokio::test(start_paused = true)]
async fn every_node_serves_locks_and_queues() {
    let cluster = Cluster::start(3).await;
    let mut tokens = Vec::new();
    for place in 0..3 {
        let client = cluster.client(place);
        let acquire = json!({"session": format!("s{place}")}).to_string();
        let granted = client.post("/v1/locks/a/acquire", &acquire).await.json(200);
        tokens.push(granted["fencing_token"].as_u64().unwrap());
        let next = cluster.client((place + 1) % 3);
        assert_eq!(next.post("/v1/locks/a/release", &acquire).await.json(200)["released"], true);
        client.post("/v1/queues/t/messages", r#"{"messages":[{"payload":"a"}]}"#).await.json(201);
    }
    assert!(tokens.is_sorted_by(|earlier, later| earlier < later), "{tokens:?}");
    let receive = r#"{"consumer":"c","max":10}"#;
    let received = cluster.client(1).post("/v1/queues/t/groups/g/receive", receive).await.json(200);
    assert_eq!(received["messages"].as_array().unwrap().len(), 3);
    for place in 0..3 {
        assert_eq!(cluster.client(place).get("/v1/queues").await.json(200)["topics"], json!(["t"]));
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_are_the_same_through_every_node() {
    let cluster = Cluster::start(3).await;
    cluster.client(0).post("/v1/locks/a/acquire", r#"{"session":"s"}"#).await.json(200);
    for place in 0..3 {
        let client = cluster.client(place);
        client.post("/v1/locks/a/acquire", r#"{"session":"t"}"#).await.problem(409, "lock_held");
        client.post("/v1/locks/a/release", r#"{"session":"t"}"#).await.problem(409, "not_holder");
        client.get("/v1/locks/free").await.problem(404, "not_found");
        client.get("/v1/queues/t").await.problem(404, "not_found");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_leaves_the_queue_of_another_node() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of_locks().await;
    let (here, there) = (cluster.client(leader), cluster.client((leader + 1) % 3));
    here.post("/v1/locks/a/acquire", r#"{"session":"one","ttl_ms":86400000}"#).await.json(200);
    let waits = r#"{"session":"two","wait_ms":3600000,"ttl_ms":86400000}"#;
    let waiting = tokio::spawn(async move { there.post("/v1/locks/a/acquire", waits).await });
    let queue_is = |expected: usize| {
        let here = here.clone();
        async move {
            while here.get("/v1/locks/a").await.json(200)["queue"].as_array().unwrap().len()
                != expected
            {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(Duration::from_secs(5), queue_is(1)).await.expect("the wait was forwarded");
    waiting.abort();
    timeout(Duration::from_secs(5), queue_is(0)).await.expect("the wait was cancelled");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_leader_dies_succeeds_at_the_next_one() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of_locks().await;
    let client = cluster.client((leader + 1) % 3);
    let before = client.post("/v1/locks/a/acquire", r#"{"session":"s"}"#).await.json(200);
    // It is asked while it can no longer commit anything, and dies with that.
    cluster.cut_off(leader);
    let asking = client.clone();
    let asked =
        tokio::spawn(async move { asking.post("/v1/locks/b/acquire", r#"{"session":"s"}"#).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    cluster.kill(leader);
    let granted = asked.await.unwrap().json(200);
    assert!(granted["fencing_token"].as_u64() > before["fencing_token"].as_u64());
    client.post("/v1/locks/b/acquire", r#"{"session":"t"}"#).await.problem(409, "lock_held");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_whose_answer_is_lost_is_granted_once() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of_locks().await;
    let client = cluster.client((leader + 1) % 3);
    cluster.lose_an_answer();
    let granted = client.post("/v1/locks/a/acquire", r#"{"session":"s"}"#).await.json(200);
    let lock = client.get("/v1/locks/a").await.json(200);
    assert_eq!(lock["fencing_token"], granted["fencing_token"]);
    assert_eq!(lock["holders"].as_array().unwrap().len(), 1);

    // A refusal is told as it was given, though the lock has become free since.
    cluster.lose_an_answer();
    let next = cluster.client(leader);
    let other = client.clone();
    let refused = tokio::spawn(async move {
        other.post("/v1/locks/a/acquire", r#"{"session":"t","wait_ms":1000}"#).await
    });
    refused.await.unwrap().problem(409, "wait_timeout");
    assert_eq!(next.get("/v1/locks/a").await.json(200)["queue"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_named_is_not_made_again() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of_locks().await;
    let client = cluster.client((leader + 1) % 3);
    client.post("/v1/locks/a/acquire", r#"{"session":"s"}"#).await.json(200);
    cluster.lose_an_answer();
    let released = client.post("/v1/locks/a/release", r#"{"session":"s"}"#).await;
    released.problem(504, "outcome_unknown");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_locks_is_the_same_on_every_node() {
    let cluster = Cluster::start(3).await;
    let nodes: Vec<_> = (0..3).map(|node| cluster.client(node)).collect();
    for (node, client) in nodes.iter().enumerate() {
        // What one node has answered, every other one knows at once.
        let all = json!({"session": format!("s-{node}"), "locks": [{"lock": format!("l-{node}")}]});
        client.post("/v1/locks", &all.to_string()).await.json(200);
        for other in &nodes {
            let lock = other.get(&format!("/v1/locks/l-{node}")).await.json(200);
            assert_eq!(lock["holders"][0]["session"], format!("s-{node}"));
            other.get("/v1/wait-for").await.json(200);
            other.get("/v1/deadlocks").await.json(200);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_moves_to_whom_it_is_asked_to_through_any_node() {
    let cluster = Cluster::start(3).await;
    cluster.leader_of_locks().await;
    for place in [2, 0, 0, 1] {
        let to = json!({"to": format!("n{}", place + 1)});
        let asked = cluster.client((place + 1) % 3);
        let moved = asked.post("/v1/leader", &to.to_string()).await.json(200);
        assert_eq!(moved, json!({"leader": to["to"]}));
        let status = cluster.client(place).get("/v1/status").await.json(200);
        assert_eq!(status["raft"]["role"], "leader", "{status}");
        asked.post("/v1/locks/a/acquire", r#"{"session":"s"}"#).await.json(200);
    }
    let client = cluster.client(0);
    for wrong in ["{}", r#"{"to":"n9"}"#, r#"{"to":7}"#, r#"{"to":"n1","now":true}"#] {
        client.post("/v1/leader", wrong).await.problem(400, "invalid_request");
    }
}
