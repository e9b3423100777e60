//! A fourth node joins and another leaves, while clients work.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::failover::leader;
use crate::process::{Cluster, issue};
use crate::retrying::{Crowd, topics};

/// How long a node may take to become a member, or to be one no more.
const CHANGE_MAX: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_and_another_leaves_and_no_client_that_tries_again_notices() {
    let mut cluster = Cluster::start_alone(&[]).await;
    let crowd = Crowd::start(&cluster);
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
    belongs(&cluster, fourth).await;

    until_spread(&cluster, fourth, &["n1", "n2", "n3", "n4"]).await;

    // The one that leads goes.
    let leader = leader(&cluster).await;
    let left = if leader == fourth { 1 } else { leader };
    let witness = (0..3).find(|node| *node != left).unwrap();
    leaves(&mut cluster, witness, left).await;
    let leaving = cluster.id(left);
    let others: Vec<_> = ["n1", "n2", "n3", "n4"].into_iter().filter(|id| *id != leaving).collect();
    until_spread(&cluster, witness, &others).await;
    sleep(Duration::from_millis(500)).await;
    crowd.finish(&cluster, fourth).await;

    // The three that are left are a cluster: one of them may die.
    let victim = (0..3).find(|node| *node != left && *node != witness).unwrap();
    cluster.take(victim).kill();
    locks(&cluster, fourth, "after").await;
    // Whoever starts again has learned who belongs to the cluster.
    cluster.spawn(victim);
    cluster.ready().await;
    let leaving = cluster.id(left).to_owned();
    until(&cluster, victim, "the members are known", |members| {
        state(members, "n4") == Some("member") && state(members, &leaving).is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_cluster_takes_in_whoever_its_authority_has_signed_and_lets_it_go() {
    let mut cluster = Cluster::start_encrypted("").await;
    let certs = cluster.certificates();
    let fourth = cluster.another("n4");
    let folder = tempfile::tempdir().unwrap();
    issue(folder.path(), &["n4"]);
    std::fs::rename(folder.path().join("n4"), certs.join("n4")).unwrap();
    let body = json!({"id": "n4", "peer_url": format!("https://{}", cluster.peer(fourth))});
    assert_eq!(post(&cluster, 1, &body).await.0, 200);
    // What another authority has signed makes nobody a node, though it has the name of one.
    cluster.spawn(fourth);
    let begun = Instant::now();
    while !cluster.log(fourth).contains("no encrypted connection") {
        assert!(begun.elapsed() < CHANGE_MAX, "it is believed\n{}", cluster.logs());
        sleep(Duration::from_millis(50)).await;
    }
    let members = list(&cluster, 0).await;
    assert_eq!(state(&members, "n4"), Some("joining"), "{members:?}");
    assert!(members.iter().all(|member| member["id"] != "n4" || member["up"] == false));
    cluster.take(fourth).kill();

    issue(&certs, &["n4"]);
    cluster.spawn(fourth);
    belongs(&cluster, fourth).await;
    locks(&cluster, fourth, "joined").await;
    leaves(&mut cluster, 0, 1).await;
    locks(&cluster, fourth, "first-left").await;
    leaves(&mut cluster, 0, fourth).await;
    locks(&cluster, 0, "both-left").await;
}

/// Waits until the node votes in every group, serves, and has said where.
async fn belongs(cluster: &Cluster, node: usize) {
    let id = cluster.id(node);
    for witness in [0, node] {
        until(cluster, witness, "it votes in every group", |members| {
            state(members, id) == Some("member")
                && members.iter().any(|one| one["id"] == id && one["url"] == cluster.url(node))
        })
        .await;
    }
    cluster.ready().await;
    let status = cluster.client.get(&format!("{}/v1/status", cluster.url(node))).await;
    let status = status.expect("the node answers").json();
    assert_eq!(status["raft"]["voters"], json!(["n1", "n2", "n3", id]));
    let begun = Instant::now();
    loop {
        let ring = cluster.client.get(&format!("{}/v1/ring", cluster.url(1))).await;
        let ring = ring.expect("the node answers").json();
        if ring["nodes"].as_array().expect("a list").len() == 4 {
            return;
        }
        assert!(begun.elapsed() < CHANGE_MAX, "{ring}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Has a node leave, and waits until it has.
async fn leaves(cluster: &mut Cluster, witness: usize, node: usize) {
    let id = cluster.id(node).to_owned();
    assert_eq!(delete(cluster, witness, &id).await, 204);
    until(cluster, witness, "it has left", |members| state(members, &id).is_none()).await;
    assert_eq!(delete(cluster, witness, &id).await, 404);
    let status = cluster.exit(node).await;
    assert!(status.success(), "{status}\n{}", cluster.logs());
}

/// Waits until a lock is granted through this node.
async fn locks(cluster: &Cluster, node: usize, name: &str) {
    let body = json!({"session": name, "request_id": name});
    let url = format!("{}/v1/locks/{name}/acquire", cluster.url(node));
    let begun = Instant::now();
    while !cluster.client.post(&url, body.clone()).await.is_ok_and(|answer| answer.status == 200) {
        assert!(begun.elapsed() < CHANGE_MAX, "no majority\n{}", cluster.logs());
        sleep(Duration::from_millis(50)).await;
    }
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
