use axum::routing::get;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and where it is.
struct Served {
    address: std::net::SocketAddr,
    clients: Clients,
    stopping: CancellationToken,
    /// Says when a request has begun that waits for ever.
    begun: mpsc::UnboundedReceiver<()>,
}

async fn serve(limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = HeaderValue::from_static("n1");
    let named = [(http::NODE, node.clone())];
    let (begins, begun) = mpsc::unbounded_channel();
    let large = get(async || vec![b'x'; 1 << 20]);
    let router = Router::new().route("/large", large);
    let router = router.route("/", get(async || (named, "hello"))).route(
        "/never",
        get(async move || {
            begins.send(()).unwrap();
            std::future::pending::<()>().await;
        }),
    );
    let stopping = CancellationToken::new();
    let recorder = Arc::new(Recorder::new(&[]));
    let clients =
        Clients::serve(listener, None, (router, node), limits, recorder, stopping.clone());
    Served { address, clients, stopping, begun }
}

/// Everything that the server says to these bytes until it closes the connection.
async fn said(served: &Served, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    until_closed(&mut stream).await
}

async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // A reset comes where bytes of ours were never read.
    let _ = closed.expect("the server closes the connection");
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_a_problem() {
    let served = serve(Limits::default()).await;
    let headers = "x: y\r\n".repeat(200);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), 400),
        ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{headers}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)), 414),
    ] {
        let said = said(&served, request.as_bytes()).await;
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        assert!(head.contains("content-type: application/problem+json"), "{said}");
        assert!(head.contains("x-dss-node: n1"), "{said}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{said}");
        let problem: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&problem["status"], &problem["code"]),
            (&status.into(), &"invalid_request".into())
        );
    }
}

#[tokio::test]
async fn answers_of_the_router_are_written_as_they_are() {
    let served = serve(Limits::default()).await;
    let request = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    let said = said(&served, request).await;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nhello"), "{said}");
}

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(60);

/// Limits in time, all of them long.
fn patient() -> Limits {
    Limits { first_byte: LONG, headers: LONG, idle: LONG, answer: LONG, ..Limits::default() }
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let served = serve(Limits { first_byte: SHORT, ..patient() }).await;
    assert_eq!(said(&served, b"").await, "");
    // One that says something has all the time for the rest.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"G").await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    stream.write_all(b"ET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut stream).await.ends_with("hello"));
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_ends_its_connection_however_busy_it_is() {
    let served = serve(Limits { headers: SHORT, ..patient() }).await;
    for request in ["G", "GET / HTTP/1.1\r\nhost: "] {
        said(&served, request.as_bytes()).await;
    }
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // The first head is in time, and the second never ends: a byte at a time.
    stream.write_all(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nx: ").await.unwrap();
    let dribbled = async {
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    timeout(PATIENCE, dribbled).await.expect("the server closes the connection");
}

#[tokio::test]
async fn a_connection_on_which_nothing_more_is_asked_is_closed() {
    let served = serve(Limits { idle: SHORT, headers: SHORT, ..patient() }).await;
    let said = said(&served, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(said.ends_with("hello"), "{said}");
}

#[tokio::test]
async fn a_request_may_take_longer_than_its_head() {
    let mut served = serve(Limits { headers: SHORT, ..patient() }).await;
    let mut waiting = TcpStream::connect(served.address).await.unwrap();
    waiting.write_all(b"GET /never HTTP/1.1\r\n\r\n").await.unwrap();
    timeout(PATIENCE, served.begun.recv()).await.unwrap().unwrap();
    let mut byte = [0];
    assert!(timeout(SHORT * 3, waiting.read(&mut byte)).await.is_err(), "it still waits");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let served = serve(Limits { answer: SHORT, ..patient() }).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    // More answers than fit into the buffers between the two.
    let asked = async {
        while stream.write_all(&b"GET /large HTTP/1.1\r\n\r\n".repeat(20)).await.is_ok() {}
    };
    timeout(PATIENCE, asked).await.expect("the server closes the connection");
}

#[tokio::test]
async fn heads_are_limited_in_headers_and_bytes() {
    let limits = Limits { headers_max: 5, head_bytes_max: 8192, ..patient() };
    let served = serve(limits).await;
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(6)), "431"),
        (format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9000)), "431"),
        ("GET / HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), "200"),
    ] {
        let said = said(&served, request.as_bytes()).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_closed() {
    let served = serve(Limits { connections_per_address_max: 2, ..patient() }).await;
    let first = TcpStream::connect(served.address).await.unwrap();
    let mut second = TcpStream::connect(served.address).await.unwrap();
    let refused = said(&served, b"GET / HTTP/1.1\r\n\r\n").await;
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1"), "{head}");
    assert!(head.contains("x-dss-node: n1"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["code"], "unavailable");

    second.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut second).await.ends_with("hello"), "those that are in are served");
    drop(first);
    let let_in = async {
        while !said(&served, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")
            .await
            .ends_with("hello")
        {}
    };
    timeout(PATIENCE, let_in).await.expect("there is a place again");
}

#[tokio::test]
async fn a_stopping_node_finishes_what_it_began_and_lets_nobody_in() {
    let mut served = serve(Limits::default()).await;
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let mut waiting = TcpStream::connect(served.address).await.unwrap();
    waiting.write_all(b"GET /never HTTP/1.1\r\n\r\n").await.unwrap();
    timeout(PATIENCE, served.begun.recv()).await.unwrap().unwrap();

    served.stopping.cancel();
    assert!(!served.clients.finish().await, "one request had to be cut off");
    let said = until_closed(&mut waiting).await;
    assert!(said.starts_with("HTTP/1.1 504") && said.contains("outcome_unknown"), "{said}");
    assert_eq!(until_closed(&mut idle).await, "");
    assert!(TcpStream::connect(served.address).await.is_err(), "the port is closed");
}
