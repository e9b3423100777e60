//! HTTP/2, which clients and nodes agree on as they begin to encrypt.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Method, Request, Response, Version, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::encrypted;
use crate::process::Cluster;

const LIMITS: &str = "[limits]\nidle_ms = 2000\nanswer_ms = 1000\nstreams_max = 5\n\
                      headers_max = 20\nhead_bytes_max = 8192\nresets_max = 10\n";
/// How long a connection may take to end that should.
const ENDS_MAX: Duration = Duration::from_secs(40);

type Requests = SendRequest<Full<Bytes>>;
type Connection = JoinHandle<hyper::Result<()>>;

/// A connection of HTTP/2 to a node.
async fn connected(cluster: &Cluster, node: usize) -> (Requests, Connection) {
    let stream = encrypted(cluster, node, &[b"h2", b"http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (requests, connection) = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .handshake(TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    (requests, tokio::spawn(connection))
}

fn request(method: Method, path: &str, headers: usize, value: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
    for number in 0..headers {
        request = request.header(format!("x-{number}"), value);
    }
    request.body(Full::new(Bytes::from_static(b"hello"))).expect("a request")
}

async fn ask(
    requests: &mut Requests,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    requests.ready().await?;
    let asked = requests.send_request(request);
    timeout(ENDS_MAX, asked).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_served_within_its_limits() {
    let cluster = Cluster::start_encrypted(LIMITS).await;
    let (mut requests, connection) = connected(&cluster, 0).await;
    let put = ask(&mut requests, request(Method::PUT, "/v1/cache/two", 1, "y")).await.unwrap();
    assert_eq!((put.status().as_u16(), put.version()), (204, Version::HTTP_2));
    let read = ask(&mut requests, request(Method::GET, "/v1/cache/two", 1, "y")).await.unwrap();
    assert_eq!(read.headers()["x-dss-node"], "n1");
    assert_eq!(read.into_body().collect().await.unwrap().to_bytes(), "hello");

    let many = ask(&mut requests, request(Method::GET, "/healthz", 30, "y")).await.unwrap();
    assert_eq!(many.status(), 431);
    assert_eq!(many.headers()["x-dss-node"], "n1");
    let large = "y".repeat(2000);
    let large = ask(&mut requests, request(Method::GET, "/healthz", 10, &large)).await;
    assert!(large.is_err() || large.unwrap().status() == 431);

    // Two of three nodes pass it on.
    for node in 0..3 {
        let (mut requests, _connection) = connected(&cluster, node).await;
        let path = format!("/v1/locks/two-{node}/acquire");
        let mut acquire = request(Method::POST, &path, 0, "");
        acquire.headers_mut().insert("content-type", "application/json".parse().unwrap());
        *acquire.body_mut() = Full::new(Bytes::from_static(br#"{"session":"me"}"#));
        let taken = ask(&mut requests, acquire).await.unwrap();
        assert_eq!(taken.status(), 200);
    }

    // Nothing more is asked: the connection ends, and orderly.
    let ended = timeout(ENDS_MAX, connection).await.expect("an idle connection ends");
    ended.expect("it does not panic").expect("the node takes its leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_over_http_2_that_are_not_taken_end_their_connection() {
    let cluster = Cluster::start_encrypted(LIMITS).await;
    let url = format!("{}/v1/cache/large", cluster.url(0));
    let stored = cluster.client.put_bytes(&url, vec![b'x'; 1 << 20]).await;
    assert_eq!(stored.expect("an answer").status, 204);
    let (mut requests, connection) = connected(&cluster, 0).await;
    let untaken = ask(&mut requests, request(Method::GET, "/v1/cache/large", 0, "")).await.unwrap();
    assert_eq!(untaken.status(), 200);
    // It is busy meanwhile, and so it is not idle.
    let busy = async {
        while ask(&mut requests, request(Method::GET, "/v1/cache/none", 0, "")).await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(ENDS_MAX, busy).await.expect("the connection ends");
    let _ = timeout(ENDS_MAX, connection).await.expect("the connection ends");
    assert!(untaken.into_body().collect().await.is_err(), "the answer is not complete");

    // One that is taken, however large, is none of that.
    let (mut requests, _connection) = connected(&cluster, 0).await;
    let taken = ask(&mut requests, request(Method::GET, "/v1/cache/large", 0, "")).await.unwrap();
    assert_eq!(taken.into_body().collect().await.unwrap().to_bytes().len(), 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_answers_every_request_that_is_under_way() {
    const WAITERS: usize = 10;
    let mut cluster = Cluster::start_encrypted("").await;
    let lock = |node: usize| format!("{}/v1/locks/held", cluster.url(node));
    let (acquire, shown) = (format!("{}/acquire", lock(1)), lock(1));
    let body = serde_json::json!({"session": "holder", "ttl_ms": 600_000});
    assert_eq!(cluster.client.post(&acquire, body).await.expect("an answer").status, 200);
    let (requests, connection) = connected(&cluster, 0).await;
    let waiting: Vec<_> = (0..WAITERS)
        .map(|number| {
            let body = format!(r#"{{"session":"waiter-{number}","wait_ms":60000}}"#);
            let mut acquire = request(Method::POST, "/v1/locks/held/acquire", 0, "");
            acquire.headers_mut().insert("content-type", "application/json".parse().unwrap());
            *acquire.body_mut() = Full::new(body.into());
            tokio::spawn(requests.clone().send_request(acquire))
        })
        .collect();
    let queue_has = async |count: usize| {
        let begun = Instant::now();
        loop {
            let shown = cluster.client.get(&shown).await.expect("an answer").json();
            if shown["queue"].as_array().is_some_and(|queue| queue.len() == count) {
                return;
            }
            assert!(begun.elapsed() < ENDS_MAX, "{shown}");
            sleep(Duration::from_millis(20)).await;
        }
    };
    queue_has(WAITERS).await;

    cluster.signal(0, "TERM");
    for asked in waiting {
        let answer = timeout(ENDS_MAX, asked).await.expect("it is answered").unwrap();
        let answer = answer.expect("the connection outlives what was begun on it");
        assert_eq!(answer.status(), 504);
        let problem = answer.into_body().collect().await.expect("all of it").to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["code"], "outcome_unknown", "{problem}");
    }
    let ended = timeout(ENDS_MAX, connection).await.expect("the connection ends");
    ended.expect("it does not panic").expect("the node takes its leave");
    // What they waited for is taken back.
    queue_has(0).await;
    let status = cluster.exit(0).await;
    assert!(status.success(), "{status}\n{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_and_takes_back_without_end_loses_the_connection() {
    let cluster = Cluster::start_encrypted(LIMITS).await;
    let (requests, connection) = connected(&cluster, 0).await;
    let storm = async {
        loop {
            let mut requests = requests.clone();
            if requests.is_closed() {
                return;
            }
            // Dropped as soon as it is sent.
            let asked = requests.send_request(request(Method::GET, "/healthz", 0, ""));
            let _ = timeout(Duration::ZERO, asked).await;
            tokio::task::yield_now().await;
        }
    };
    timeout(ENDS_MAX, storm).await.expect("the node ends the connection");
    drop(connection);
    super::serves(&cluster, "after").await;
}
