//! Encrypted clusters: who is let in, who is not, and what happens to those who try.

mod reload;
mod slow;
mod strangers;
mod streams;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates;
use crate::process::{Cluster, program};

/// Where clients reach a node.
fn client_address(cluster: &Cluster, node: usize) -> SocketAddr {
    cluster.url(node).trim_start_matches("https://").parse().expect("an address")
}

/// The text of an authority's certificate.
fn authority(certs: &Path, name: &str) -> String {
    fs::read_to_string(certs.join("ca").join(format!("{name}.pem"))).expect("a readable file")
}

/// An encrypted connection to a node, as clients have them, that offers these protocols.
async fn encrypted(cluster: &Cluster, node: usize, protocols: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut config = certificates::client(&[&authority(&cluster.certificates(), "clients")]);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(client_address(cluster, node)).await.expect("the port is open");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("a handshake")
}

/// What a node shows its clients.
async fn shown(cluster: &Cluster, node: usize) -> CertificateDer<'static> {
    let stream = encrypted(cluster, node, &[]).await;
    stream.get_ref().1.peer_certificates().expect("it shows one")[0].clone().into_owned()
}

/// Locks, messages and values go through any node.
async fn serves(cluster: &Cluster, round: &str) {
    for node in 0..3 {
        let (base, next) = (cluster.url(node), cluster.url((node + 1) % 3));
        let name = format!("{round}-{node}");
        let lock = |url: &str| format!("{url}/v1/locks/{name}/acquire");
        let client = &cluster.client;
        let taken = client.post(&lock(base), json!({"session": "me"})).await.expect("an answer");
        assert_eq!(taken.status, 200, "{taken:?} {}", cluster.logs());
        let held = client.post(&lock(next), json!({"session": "other"})).await.expect("an answer");
        assert_eq!(held.json()["code"], "lock_held");

        let message = json!({"messages": [{"payload": name}]});
        let topic = format!("/v1/queues/{name}");
        let sent = client.post(&format!("{base}{topic}/messages"), message).await;
        assert_eq!(sent.expect("an answer").status, 201, "{}", cluster.logs());
        let consumer = json!({"consumer": "c", "wait_ms": 5000});
        let received = client.post(&format!("{next}{topic}/groups/g/receive"), consumer).await;
        assert_eq!(received.expect("an answer").json()["messages"][0]["payload"], name.as_str());

        let key = format!("/v1/cache/{name}");
        let written = client.put_bytes(&format!("{base}{key}"), name.clone()).await;
        assert_eq!(written.expect("an answer").status, 204, "{}", cluster.logs());
        let read = client.get(&format!("{next}{key}")).await.expect("an answer");
        assert_eq!(read.body, name.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_cluster_serves_through_every_node_and_in_no_other_way() {
    let cluster = Cluster::start_encrypted("").await;
    serves(&cluster, "encrypted").await;
    let status = cluster.client.get(&format!("{}/v1/status", cluster.url(0))).await;
    let status = status.expect("an answer").json();
    assert_eq!(status["nodes"][1]["url"], cluster.url(1));

    // Plain HTTP is told so, and what it asks is not done.
    let plain = cluster.url(0).replace("https", "http");
    let refused = cluster.client.put_bytes(&format!("{plain}/v1/cache/plain"), "x").await;
    let refused = refused.expect("an answer");
    assert_eq!(refused.status, 400);
    assert!(refused.json()["detail"].as_str().unwrap().contains("HTTPS"), "{refused:?}");
    let absent = cluster.client.get(&format!("{}/v1/cache/plain", cluster.url(0))).await;
    assert_eq!(absent.expect("an answer").status, 404);

    // Whoever does not believe the authority gets nowhere, and neither does who believes the
    // other one.
    let stranger = crate::client::Client::new();
    assert!(stranger.get(&format!("{}/healthz", cluster.url(0))).await.is_err());
    let confused = cluster.certificates().join("ca/peers.pem");
    let confused = crate::client::Client::trusting(&confused);
    assert!(confused.get(&format!("{}/healthz", cluster.url(0))).await.is_err());

    // All three are counted, the last as soon as the node hears of it.
    let begun = Instant::now();
    while figure(&cluster, 0, "dss_http_handshakes_failed_total").await < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "they are not counted");
        sleep(Duration::from_millis(20)).await;
    }

    the_programs_own_clients_speak_https(&cluster).await;
}

/// What a node tells of itself under this name.
async fn figure(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let figures = cluster.client.get(&format!("{}/metrics", cluster.url(node))).await;
    let figures = String::from_utf8(figures.expect("an answer").body.to_vec()).expect("text");
    let line = figures.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.and_then(|value| value.parse().ok()).expect("it is exported")
}

async fn the_programs_own_clients_speak_https(cluster: &Cluster) {
    let trust = cluster.certificates().join("ca/clients.pem");
    let trust = trust.to_str().expect("text");
    let url = cluster.url(0);
    let run = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(program());
        command.args(arguments);
        async move { command.output().await.expect("the program starts") }
    };
    let load = ["load", "--workload", "mixed", "--seconds", "1", "--clients", "4", "--json"];
    for arguments in [&["status"][..], &["health"], &load] {
        let target = ["--target", url, "--cacert", trust];
        let done = run(&[arguments, &target].concat()).await;
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }
    let done = run(&["lock", "--target", url, "--cacert", trust, "ours", "--", "true"]).await;
    assert!(done.status.success(), "{done:?}");
    let refused = run(&["status", "--target", url]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("--cacert"), "{said}");
}

/// The first message of a client that speaks no later version than this, on the wire.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short").to_be_bytes();
        [&length[..], bytes].concat()
    };
    let extension = |number: u8, bytes: &[u8]| [&[0, number][..], &sized(bytes)].concat();
    let groups = extension(10, &sized(&[0, 23, 0, 29]));
    let signatures = extension(13, &sized(&[4, 3, 8, 4, 4, 1, 2, 1]));
    let suites = sized(&[0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x09, 0xc0, 0x13, 0, 0x2f]);
    let extensions = sized(&[groups, signatures].concat());
    let body = [&version[..], &[7; 32], &[0], &suites, &[1, 0], &extensions].concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[0x16, 3, 1][..], &sized(&message)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_before_tls_1_2_are_refused_for_what_they_are() {
    let cluster = Cluster::start_encrypted("").await;
    let answer = async |version| {
        let mut tcp = TcpStream::connect(client_address(&cluster, 0)).await.unwrap();
        tcp.write_all(&client_hello(version)).await.unwrap();
        let mut answer = [0; 7];
        tcp.read_exact(&mut answer).await.expect("an alert or a handshake");
        answer
    };
    // The same message is answered with a handshake where it speaks TLS 1.2.
    assert_eq!(answer([3, 3]).await[0], 0x16);
    for version in [[3, 0], [3, 1], [3, 2]] {
        let [kind, _, _, _, _, level, description] = answer(version).await;
        assert_eq!((kind, level, description), (0x15, 2, 70), "{version:?}: protocol_version");
    }
}
