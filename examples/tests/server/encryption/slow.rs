//! Clients that take their time in encrypted connections are cut off as others are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{authority, client_address, client_hello, serves};
use crate::certificates;
use crate::process::Cluster;
use crate::slow::{Dawdles, LIMITS, REST, Slow, are_cut_off, are_held};
use crate::strangers::{STEADY, leadership};

/// When a handshake that does not go on must be over, on a machine that has much else to do.
const CUT_MAX: Duration = Duration::from_secs(60);
/// How often those that send little send it.
const DRIP: Duration = Duration::from_millis(250);

/// How a client takes its time.
#[derive(Debug, Clone, Copy)]
enum SlowHello {
    /// It says nothing at all.
    Silent,
    /// Its handshake comes a byte at a time.
    Handshake,
    /// It begins a handshake and does not go on.
    Half,
    /// It takes its time once the handshake is done.
    Then(Slow),
}

/// Where it does so.
enum Connection {
    Tcp(SlowHello, TcpStream),
    Encrypted(Slow, Box<TlsStream<TcpStream>>),
}

/// What connects to a node and encrypts.
fn dialer(cluster: &Cluster) -> (SocketAddr, TlsConnector) {
    let trust = authority(&cluster.certificates(), "clients");
    (client_address(cluster, 0), Arc::new(certificates::client(&[&trust])).into())
}

/// An encrypted connection. Where so many want one at once that the node cannot do its part in
/// time, it is tried again.
async fn connect((address, connector): (SocketAddr, TlsConnector)) -> TlsStream<TcpStream> {
    loop {
        let tcp = TcpStream::connect(address).await.expect("the node lets it in");
        let name = ServerName::try_from("localhost").expect("a name");
        if let Ok(stream) = connector.connect(name, tcp).await {
            return stream;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_off_while_others_are_served() {
    let cluster = Cluster::start_alone_encrypted(LIMITS).await;
    let dialer = dialer(&cluster);
    let hellos = [SlowHello::Silent, SlowHello::Handshake, SlowHello::Half];
    let kinds: Vec<_> = hellos.into_iter().chain(Slow::ALL.map(SlowHello::Then)).collect();
    are_cut_off(&cluster, &kinds, |kind| {
        let dialer = dialer.clone();
        async move {
            match kind {
                SlowHello::Then(slow) => Connection::Encrypted(slow, connect(dialer).await.into()),
                _ => {
                    let tcp = TcpStream::connect(dialer.0).await;
                    Connection::Tcp(kind, tcp.expect("the node lets it in"))
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_rest_are_held() {
    let cluster = Cluster::start_alone_encrypted(REST).await;
    let dialer = dialer(&cluster);
    are_held(&cluster, || connect(dialer.clone())).await;
}

impl Dawdles for Connection {
    async fn dawdle(self) {
        let (kind, mut tcp) = match self {
            Self::Tcp(kind, tcp) => (kind, tcp),
            Self::Encrypted(slow, stream) => return (slow, stream).dawdle().await,
        };
        let hello = client_hello([3, 3]);
        if let SlowHello::Handshake = kind {
            for byte in hello.iter().cycle() {
                if tcp.write_all(&[*byte]).await.is_err() {
                    return;
                }
                sleep(DRIP).await;
            }
        }
        if let SlowHello::Half = kind {
            let _ = tcp.write_all(&hello).await;
        }
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handshakes_on_the_peer_port_are_cut_off_and_hold_nobody_up() {
    /// More than may be in their handshake at once.
    const IDLE: usize = 80;
    let cluster = Cluster::start_encrypted(STEADY).await;
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
        let closed = timeout(CUT_MAX, tcp.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "a handshake that was not finished goes on");
    }
    assert_eq!(leadership(&cluster).await, before, "{}", cluster.logs());
}
