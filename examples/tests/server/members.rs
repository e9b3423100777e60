//! A fourth node joins and another leaves, while clients work.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::process::Cluster;
use crate::retrying::{Crowd, topics};

/// How long a node may take to become a member, or to be one no more.
const CHANGE_MAX: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_and_another_leaves_and_no_client_that_tries_again_notices() {
    let mut cluster = Cluster::start_alone(&[]).await;
    let crowd = Crowd::start((0..3).map(|node| cluster.url(node).to_owned()).collect());
    sleep(Duration::from_millis(500)).await;

    let fourth = cluster.another("n4");
    cluster.spawn(fourth);
    let body = json!({"id": "n4", "peer_url": format!("http://{}", cluster.peer(fourth))});
    let added = post(&cluster, 1, &body).await;
    assert_eq!(added.0, 200, "{}", added.1);
    // Again, through another node: it is decided already.
    assert_eq!(post(&cluster, 2, &body).await.0, 200);
    let elsewhere = json!({"id": "n4", "peer_url": "127.0.0.1:1"});
    assert_eq!(post(&cluster, 0, &elsewhere).await.1["code"], "already_exists");

    until(&cluster, 0, "n4 votes in every group", |members| state(members, "n4") == Some("member"))
        .await;
    cluster.ready().await;
    let status =
        cluster.client.get(&format!("{}/v1/status", cluster.url(fourth))).await.unwrap().json();
    assert_eq!(status["raft"]["voters"], json!(["n1", "n2", "n3", "n4"]));
    let ring = cluster.client.get(&format!("{}/v1/ring", cluster.url(1))).await.unwrap().json();
    assert_eq!(ring["nodes"].as_array().unwrap().len(), 4, "{ring}");
    let members = list(&cluster, 0).await;
    let url = members.iter().find(|member| member["id"] == "n4").unwrap()["url"].clone();
    assert_eq!(url, cluster.url(fourth), "where it serves clients, it says itself");

    until_spread(&cluster, fourth, &["n1", "n2", "n3", "n4"]).await;

    // The one that leads goes.
    let leader = status["raft"]["leader"].as_str().unwrap().to_owned();
    let leaving = if leader == "n4" { "n2".to_owned() } else { leader };
    let left = cluster.index_of(&leaving);
    let witness = (0..3).find(|node| *node != left).unwrap();
    assert_eq!(delete(&cluster, witness, &leaving).await, 204);
    until(&cluster, witness, "it has left", |members| state(members, &leaving).is_none()).await;
    assert_eq!(delete(&cluster, witness, &leaving).await, 404);
    let others: Vec<_> =
        ["n1", "n2", "n3", "n4"].into_iter().filter(|node| *node != leaving).collect();
    until_spread(&cluster, witness, &others).await;
    let status = cluster.exit(left).await;
    assert!(status.success(), "{status}\n{}", cluster.logs());
    sleep(Duration::from_millis(500)).await;
    crowd.finish(&cluster, fourth).await;

    // The three that are left are a cluster: one of them may die.
    let victim = (0..3).find(|node| *node != left && *node != witness).unwrap();
    cluster.take(victim).kill();
    let body = json!({"session": "after", "request_id": "after"});
    let url = format!("{}/v1/locks/after/acquire", cluster.url(fourth));
    let begun = Instant::now();
    while !cluster.client.post(&url, body.clone()).await.is_ok_and(|answer| answer.status == 200) {
        assert!(begun.elapsed() < CHANGE_MAX, "no majority\n{}", cluster.logs());
        sleep(Duration::from_millis(50)).await;
    }
    // Whoever starts again has learned who belongs to the cluster.
    cluster.spawn(victim);
    cluster.ready().await;
    until(&cluster, victim, "the members are known", |members| {
        state(members, "n4") == Some("member") && state(members, &leaving).is_none()
    })
    .await;
}

/// Waits until these nodes serve the queues, and no others.
async fn until_spread(cluster: &Cluster, node: usize, nodes: &[&str]) {
    let begun = Instant::now();
    loop {
        let topics = topics(cluster, node).await;
        let homes: BTreeSet<_> = topics.iter().filter_map(|topic| topic["home"].as_str()).collect();
        if homes.iter().eq(nodes) {
            println!("the queues are at {nodes:?} after {:?}", begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < CHANGE_MAX, "only {homes:?}: {topics:?}\n{}", cluster.logs());
        sleep(Duration::from_millis(100)).await;
    }
}

async fn post(cluster: &Cluster, node: usize, body: &Value) -> (u16, Value) {
    let url = format!("{}/v1/members", cluster.url(node));
    let answer = cluster.client.post(&url, body.clone()).await.expect("the node answers");
    (answer.status.as_u16(), answer.json())
}

async fn delete(cluster: &Cluster, node: usize, id: &str) -> u16 {
    let url = format!("{}/v1/members/{id}", cluster.url(node));
    let answer = cluster.client.send(Method::DELETE, &url, &[], Bytes::new()).await;
    answer.expect("the node answers").status.as_u16()
}

async fn list(cluster: &Cluster, node: usize) -> Vec<Value> {
    let answer = cluster.client.get(&format!("{}/v1/members", cluster.url(node))).await;
    answer.expect("the node answers").json()["members"].as_array().expect("a list").clone()
}

fn state<'a>(members: &'a [Value], id: &str) -> Option<&'a str> {
    members.iter().find(|member| member["id"] == id)?["state"].as_str()
}

async fn until(cluster: &Cluster, node: usize, what: &str, holds: impl Fn(&[Value]) -> bool) {
    let begun = Instant::now();
    loop {
        let members = list(cluster, node).await;
        if holds(&members) {
            println!("{what} after {:?}", begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < CHANGE_MAX, "never: {what}: {members:?}\n{}", cluster.logs());
        sleep(Duration::from_millis(50)).await;
    }
}
