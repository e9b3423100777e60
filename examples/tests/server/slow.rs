//! Clients that take their time are cut off, and nobody else has to wait for them.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::process::Cluster;

const LIMITS: &str = "[limits]\nfirst_byte_ms = 1000\nheaders_ms = 1000\nbody_ms = 1000\n\
                      idle_ms = 1000\nanswer_ms = 1000\n";
/// How many of each kind there are.
const CLIENTS: usize = 100;
/// When all must be cut off: well above the limits, well below the defaults.
const CUT_MAX: Duration = Duration::from_secs(8);
/// How long anybody else may have to wait. It is a few milliseconds on a machine that does nothing
/// else, and a second where it does everything else.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How a client takes its time.
#[derive(Debug, Clone, Copy)]
enum Slow {
    /// It says nothing at all.
    Silent,
    /// Its head comes a byte at a time, and never ends.
    Head,
    /// The same with its body.
    Body,
    /// It asks for more than the connection holds, and never reads.
    Deaf,
    /// It has asked once, and keeps the connection.
    Idle,
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_off_while_others_are_served() {
    let cluster = Cluster::start_configured(LIMITS).await;
    let url = cluster.url(0).to_owned();
    let large = format!("{url}/v1/cache/large");
    let stored = cluster.client.put_bytes(&large, vec![b'x'; 1 << 20]).await;
    assert_eq!(stored.expect("an answer").status, 204);
    let address: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");

    let start = Instant::now();
    let mut slow = JoinSet::new();
    for kind in [Slow::Silent, Slow::Head, Slow::Body, Slow::Deaf, Slow::Idle] {
        for _ in 0..CLIENTS {
            // More at once than the operating system lets wait to be accepted would wait for it.
            sleep(Duration::from_millis(2)).await;
            slow.spawn(async move {
                let cut = timeout(CUT_MAX, dawdle(kind, address)).await;
                assert!(cut.is_ok(), "a client of kind {kind:?} is still there");
            });
        }
    }
    let good = tokio::spawn(worst_answer(cluster.client.clone(), url.clone()));
    while let Some(cut) = slow.join_next().await {
        cut.expect("every slow client is cut off");
    }
    println!("all cut off after {:?}", start.elapsed());
    let worst = good.await.expect("everybody else is served");
    println!("the longest answer took {worst:?}");
    assert!(worst < ANSWER_MAX, "{worst:?}");
}

/// Keeps a connection until the node closes it.
async fn dawdle(kind: Slow, address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.expect("the node lets it in");
    let begin = match kind {
        Slow::Silent => String::new(),
        Slow::Head => "GET /healthz HTTP/1.1\r\nx: ".to_owned(),
        Slow::Body => {
            "PUT /v1/cache/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n".to_owned()
        }
        Slow::Deaf => "GET /v1/cache/large HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20),
        Slow::Idle => "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
    };
    // What breaks off here is what is waited for.
    let _ = stream.write_all(begin.as_bytes()).await;
    match kind {
        Slow::Silent | Slow::Idle => {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Slow::Head | Slow::Body => {
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
        Slow::Deaf => {
            while stream.write_all(b"GET /v1/cache/large HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok()
            {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How long the longest of many good requests takes, while the others dawdle.
async fn worst_answer(client: Client, url: String) -> Duration {
    let mut worst = Duration::ZERO;
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let begun = Instant::now();
        let body = json!({"session": "good"});
        let granted = client.post(&format!("{url}/v1/locks/good/acquire"), body.clone()).await;
        assert_eq!(granted.expect("an answer").status, 200);
        worst = worst.max(begun.elapsed());
        let begun = Instant::now();
        let released = client.post(&format!("{url}/v1/locks/good/release"), body).await;
        assert_eq!(released.expect("an answer").status, 200);
        worst = worst.max(begun.elapsed());
        let begun = Instant::now();
        let status = client.send(Method::GET, &format!("{url}/v1/status"), &[], "".into()).await;
        assert_eq!(status.expect("an answer").status, 200);
        worst = worst.max(begun.elapsed());
    }
    worst
}
