//! Certificates are replaced while nodes run.

use std::fs;
use std::time::Duration;

use rustls::version::TLS13;
use tokio::time::{Instant, sleep};

use super::strangers::try_to_be;
use super::{serves, shown};
use crate::certificates::Signed;
use crate::process::{Cluster, issue};
use crate::strangers::hello;

/// How long a node may take to notice: it looks every two seconds, and twice.
const NOTICED_MAX: Duration = Duration::from_secs(80);

/// Waits until `condition` holds.
async fn eventually(what: &str, cluster: &Cluster, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + NOTICED_MAX;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}\n{}", cluster.logs());
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_authorities_are_replaced_without_a_restart() {
    let mut cluster = Cluster::start_encrypted("").await;
    let certs = cluster.certificates();
    let former = shown(&cluster, 0).await;
    issue(&certs, &["n1"]);
    let written = Signed::read(&certs.join("n1"), "server").chain().remove(0);
    assert_ne!(former, written);
    eventually("n1 shows its new certificate", &cluster, async || {
        shown(&cluster, 0).await == written
    })
    .await;
    serves(&cluster, "new").await;

    // What cannot be used is not.
    fs::write(certs.join("n1/server.pem"), "nonsense").unwrap();
    eventually("n1 says what is wrong", &cluster, async || {
        cluster.log(0).contains("server.pem: holds no certificate")
    })
    .await;
    assert_eq!(shown(&cluster, 0).await, written, "it shows the former one");

    // Another authority for nodes: the former one counts for nothing.
    let old = Signed::read(&certs.join("n2"), "peer");
    let old_authority = fs::read_to_string(certs.join("ca/peers.pem")).unwrap();
    fs::remove_file(certs.join("ca/peers.key")).unwrap();
    issue(&certs, &["n1", "n2", "n3"]);
    assert_ne!(old_authority, fs::read_to_string(certs.join("ca/peers.pem")).unwrap());
    eventually("all nodes use it", &cluster, async || {
        (0..3).all(|node| {
            cluster.log(node).matches("new certificates are in use").count()
                >= if node == 0 { 2 } else { 1 }
        })
    })
    .await;
    eventually("all are connected again", &cluster, async || {
        let url = format!("{}/v1/status", cluster.url(0));
        let status = cluster.client.get(&url).await.expect("an answer").json();
        status["nodes"].as_array().unwrap().iter().all(|node| node["up"] == true)
    })
    .await;
    cluster.ready().await;
    serves(&cluster, "other-authority").await;
    let outcome = try_to_be(&cluster, &TLS13, Some(&old), &hello("test", "n2", "n1")).await;
    assert!(format!("{outcome:?}").contains("alert"), "{outcome:?}");
    assert!((0..3).all(|node| cluster.is_running(node)));
}
