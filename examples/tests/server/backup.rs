//! What was in a cluster is in the one that is restored from its backup.

use std::process::Command;

use serde_json::json;

use crate::process::{Cluster, program};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_folders_are_lost_goes_on_from_its_backup() {
    let mut cluster = Cluster::start(&[]).await;
    let base = cluster.url(0).to_owned();
    let lock = format!("{base}/v1/locks/kept/acquire");
    let body = json!({"session": "s", "ttl_ms": 600_000});
    let granted = cluster.client.post(&lock, body).await.unwrap().json();
    let messages = format!("{base}/v1/queues/kept/messages");
    let body = json!({"messages": [{"payload": "one"}, {"payload": "two"}]});
    assert_eq!(cluster.client.post(&messages, body).await.unwrap().status, 201);
    let key = format!("{base}/v1/cache/kept");
    assert_eq!(cluster.client.put_bytes(&key, "value").await.unwrap().status, 204);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let backup = |node: usize| {
        let status = Command::new(program())
            .args(["backup", "--target", cluster.url(node), "--out"])
            .arg(&file)
            .status();
        status.expect("the program starts").success()
    };
    // Of a follower as well as of a leader, and never over another one.
    assert!(backup(1));
    assert!(!backup(2));
    // What comes after it is not in it.
    assert_eq!(cluster.client.put_bytes(&key, "later").await.unwrap().status, 204);

    for node in 0..3 {
        cluster.take(node).kill();
    }
    cluster.restore_from(&file).await;
    let shown = cluster.client.get(&format!("{base}/v1/locks/kept")).await.unwrap().json();
    assert_eq!(shown["holders"][0]["fencing_token"], granted["fencing_token"], "{shown}");
    let topic = cluster.client.get(&format!("{base}/v1/queues/kept")).await.unwrap().json();
    assert_eq!(topic["length"], 2, "{topic}");
    assert_eq!(cluster.client.get(&key).await.unwrap().body, "value");

    // It works on, and tokens rise.
    let body = json!({"session": "s"});
    let next = cluster.client.post(&format!("{base}/v1/locks/next/acquire"), body).await.unwrap();
    let token = |answer: &serde_json::Value| answer["fencing_token"].as_u64();
    assert!(token(&next.json()) > token(&granted));
    assert_eq!(cluster.client.put_bytes(&key, "new").await.unwrap().status, 204);
}
