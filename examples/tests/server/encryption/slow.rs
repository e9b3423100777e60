//! Clients that take their time in encrypted connections are cut off as others are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{authority, client_address, client_hello, serves};
use crate::certificates;
use crate::process::Cluster;
use crate::strangers::leadership;

const LIMITS: &str = "[limits]\nfirst_byte_ms = 1000\nhandshake_ms = 1000\nheaders_ms = 1000\n\
                      body_ms = 1000\nidle_ms = 1000\nanswer_ms = 1000\n";
/// How many of each kind there are.
const CLIENTS: usize = 50;
/// When all must be cut off: well above the limits, well below the defaults.
const CUT_MAX: Duration = Duration::from_secs(8);
/// How long anybody else may have to wait.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How a client takes its time.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// It says nothing at all.
    Silent,
    /// Its handshake comes a byte at a time.
    Handshake,
    /// It begins a handshake and does not go on.
    Half,
    /// It says nothing once the handshake is done.
    Idle,
    /// Its head comes a byte at a time, and never ends.
    Head,
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_are_cut_off_while_others_are_served() {
    let cluster = Cluster::start_encrypted(LIMITS).await;
    let address = client_address(&cluster, 0);
    let trust = authority(&cluster.certificates(), "clients");
    let connector = TlsConnector::from(Arc::new(certificates::client(&[&trust])));
    let start = Instant::now();
    let mut slow = JoinSet::new();
    for kind in [Slow::Silent, Slow::Handshake, Slow::Half, Slow::Idle, Slow::Head] {
        for _ in 0..CLIENTS {
            sleep(Duration::from_millis(2)).await;
            let connector = connector.clone();
            slow.spawn(async move {
                let cut = timeout(CUT_MAX, dawdle(kind, address, connector)).await;
                assert!(cut.is_ok(), "a client of kind {kind:?} is still there");
            });
        }
    }
    let mut worst = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(3) {
        for step in ["acquire", "release"] {
            let begun = Instant::now();
            let url = format!("{}/v1/locks/good/{step}", cluster.url(0));
            let done = cluster.client.post(&url, json!({"session": "good"})).await;
            assert_eq!(done.expect("an answer").status, 200);
            worst = worst.max(begun.elapsed());
        }
    }
    while let Some(cut) = slow.join_next().await {
        cut.expect("every slow client is cut off");
    }
    println!("all cut off after {:?}; the longest answer took {worst:?}", start.elapsed());
    assert!(worst < ANSWER_MAX, "{worst:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_on_the_peer_port_are_cut_off_and_hold_nobody_up() {
    /// More than may be in their handshake at once.
    const IDLE: usize = 80;
    let cluster = Cluster::start_encrypted("").await;
    let before = leadership(&cluster).await;
    let hello = client_hello([3, 3]);
    let mut idle = Vec::new();
    for number in 0..IDLE {
        let mut tcp = TcpStream::connect(cluster.peer(0)).await.expect("the port is open");
        // Nothing, the beginning of a handshake.
        let _ = tcp.write_all(&hello[..number % hello.len()]).await;
        idle.push(tcp);
    }
    serves(&cluster, "meanwhile").await;
    for mut tcp in idle {
        let closed = timeout(2 * CUT_MAX, tcp.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a handshake that was not finished goes on");
    }
    assert_eq!(leadership(&cluster).await, before, "{}", cluster.logs());
}

/// Keeps a connection until the node closes it.
async fn dawdle(kind: Slow, address: SocketAddr, connector: TlsConnector) {
    let mut tcp = TcpStream::connect(address).await.expect("the node lets it in");
    let name = ServerName::try_from("localhost").expect("a name");
    let hello = client_hello([3, 3]);
    match kind {
        Slow::Silent => {
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        }
        Slow::Handshake => {
            for byte in hello.iter().cycle() {
                if tcp.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Slow::Half => {
            let _ = tcp.write_all(&hello).await;
            let _ = tcp.read_to_end(&mut Vec::new()).await;
        }
        Slow::Idle => {
            let mut stream = connector.connect(name, tcp).await.expect("a handshake");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Slow::Head => {
            let mut stream = connector.connect(name, tcp).await.expect("a handshake");
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await;
            while stream.write_all(b"x").await.is_ok() && stream.flush().await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
