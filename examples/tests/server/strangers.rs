//! What does not belong on the peer port loses its connection, and disturbs nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

use crate::process::Cluster;

/// How long the server may take to close a connection: handshakes and silence have a limit of
/// seconds.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
/// How long nodes may take to connect to each other and to agree on who leads.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);
/// Leaders change by themselves where a machine has much else to do; here they are not to change.
pub(crate) const STEADY: &str = "[timing]\nelection_timeout_ms = 4000\n";

/// A frame as nodes write it.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(1 + payload.len()).expect("a small frame");
    [&length.to_le_bytes()[..], &[kind], payload].concat()
}

/// What a node says first.
pub(crate) fn hello(cluster: &str, from: &str, to: &str) -> Vec<u8> {
    let names = (cluster, xxh3_64(from.as_bytes()), xxh3_64(to.as_bytes()));
    let names = postcard::to_allocvec(&names).expect("text and numbers");
    frame(1, &[b"dss-peer\x01\x00", &names[..]].concat())
}

/// A connection to the peer port of `n1` on which these bytes were sent.
async fn connected(cluster: &Cluster, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.peer(0)).await.expect("the port is open");
    // The server may have closed it already: the first bytes can be enough.
    let _ = stream.write_all(bytes).await;
    stream
}

/// What the server still says before it closes the connection, which it must.
async fn until_closed(mut stream: TcpStream, what: &str) -> Vec<u8> {
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    let reading = async {
        // An error is a reset: bytes of ours were not read, and never will be.
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            said.extend_from_slice(&buffer[..read]);
        }
    };
    let closed = tokio::time::timeout(CLOSED_WITHIN, reading).await;
    assert!(closed.is_ok(), "still open: {what}");
    said
}

/// The leader and its term, once all nodes are connected and see the same. A node may serve before
/// it is connected to every other.
pub(crate) async fn leadership(cluster: &Cluster) -> Value {
    let deadline = Instant::now() + CONNECTED_WITHIN;
    loop {
        let (mut seen, mut all_up) = (Vec::new(), true);
        for node in 0..3 {
            let url = format!("{}/v1/status", cluster.url(node));
            let status = cluster.client.get(&url).await.expect("the node answers").json();
            all_up &= status["nodes"].as_array().expect("a list").iter().all(|up| up["up"] == true);
            seen.push(json!([status["raft"]["term"], status["raft"]["leader"]]));
        }
        if all_up && seen.iter().all(|view| *view == seen[0] && view[1].is_string()) {
            return seen.swap_remove(0);
        }
        assert!(Instant::now() < deadline, "{all_up}, {seen:?}\n{}", cluster.logs());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Locks and values are served by every node, at the first try.
async fn serves(cluster: &mut Cluster, round: &str) {
    for node in 0..3 {
        assert!(cluster.is_running(node), "{}", cluster.logs());
        let base = cluster.url(node);
        let url = format!("{base}/v1/locks/{round}-{node}/acquire");
        let taken = cluster.client.post(&url, json!({"session": "me"})).await;
        assert_eq!(taken.expect("an answer").status, 200, "{}", cluster.logs());
        let url = format!("{base}/v1/cache/{round}");
        let written = cluster.client.put_bytes(&url, round.to_owned()).await;
        assert_eq!(written.expect("an answer").status, 204, "{}", cluster.logs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_peer_port_closes_that_connection_and_nothing_else() {
    let mut cluster = Cluster::start_configured(STEADY).await;
    let before = leadership(&cluster).await;
    let member = hello("test", "n2", "n1");
    let too_long = u32::MAX.to_le_bytes();
    let after_hello = |bytes: &[u8]| [&member[..], bytes].concat();
    for (what, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("noise", (0..=u8::MAX).cycle().step_by(167).take(4096).collect()),
        ("an empty frame", vec![0; 4]),
        ("a frame that is too long", [&too_long[..], b"\x01"].concat()),
        ("a hello longer than any", frame(1, &[7; 2000])),
        ("another protocol's hello", frame(1, b"not-dss!\x01\x00")),
        ("another cluster's hello", hello("other", "n2", "n1")),
        ("a hello for another node", hello("test", "n2", "n3")),
        ("a stranger's hello", hello("test", "n9", "n1")),
        ("its own hello", hello("test", "n1", "n1")),
        ("a frame before the hello", frame(5, b"abc")),
        ("a member's frame that is too long", after_hello(&too_long)),
        ("a member's unknown frame", after_hello(&frame(99, b""))),
        ("a member's garbled Raft message", after_hello(&frame(5, &[0xff; 100]))),
        ("a member's garbled cache message", after_hello(&frame(6, &[0xff; 100]))),
        ("a member's garbled request", after_hello(&frame(7, &[0xff; 100]))),
        ("a member's garbled question", after_hello(&frame(8, &[0xff; 100]))),
        ("an answer that nobody wants", after_hello(&frame(9, &[0; 8]))),
    ] {
        until_closed(connected(&cluster, &bytes).await, what).await;
    }
    serves(&mut cluster, "garbage").await;
    assert_eq!(leadership(&cluster).await, before, "{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_more_are_closed_and_hold_nobody_up() {
    /// More than may be in their handshake at once.
    const IDLE: usize = 80;
    let mut cluster = Cluster::start_configured(STEADY).await;
    let before = leadership(&cluster).await;
    let member = hello("test", "n2", "n1");
    let mut idle = Vec::new();
    for number in 0..IDLE {
        // Nothing, half a length, half a frame.
        idle.push(connected(&cluster, &member[..number % member.len()]).await);
    }
    let silent = connected(&cluster, &member).await;
    serves(&mut cluster, "idle").await;
    for stream in idle {
        until_closed(stream, "a handshake that was not finished").await;
    }
    until_closed(silent, "a member that went silent").await;
    serves(&mut cluster, "after").await;
    assert_eq!(leadership(&cluster).await, before, "{}", cluster.logs());
}
