use axum::routing::get;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
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

/// What is served: `/never` says that it has begun, and waits for ever.
fn router(node: &HeaderValue) -> (Router, mpsc::UnboundedReceiver<()>) {
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
    (router, begun)
}

async fn serve(limits: Limits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = HeaderValue::from_static("n1");
    let (router, begun) = router(&node);
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

/// A connection of HTTP/2, on which `/gated` is answered once the gate is open.
struct InStreams {
    requests: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
    served: JoinHandle<()>,
    stopping: CancellationToken,
    gate: Arc<Semaphore>,
    begun: mpsc::UnboundedReceiver<()>,
}

async fn serve_in_streams() -> InStreams {
    let (limits, node) = (patient(), HeaderValue::from_static("n1"));
    let (begins, begun) = mpsc::unbounded_channel();
    let (gate, stopping) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
    let opened = Arc::clone(&gate);
    let gated = get(async move || {
        begins.send(()).unwrap();
        opened.acquire().await.unwrap().forget();
        "through the gate"
    });
    let recorder = Arc::new(Recorder::new(&[]));
    let server = Server {
        router: router(&node).0.route("/gated", gated),
        node,
        tls: None,
        limits,
        connections: Connections::new(&limits, Arc::clone(&recorder)),
        recorder,
        farewells: Arc::new(Semaphore::new(1)),
        stopping: stopping.clone(),
    };
    let (near, far) = tokio::io::duplex(64 << 10);
    let from = Origin("127.0.0.1:1".parse().unwrap());
    let served = tokio::spawn(server.converse_in_streams(far, from));
    let (requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
            .await
            .unwrap();
    InStreams { requests, connection: tokio::spawn(connection), served, stopping, gate, begun }
}

fn ask_for(path: &str) -> hyper::Request<Empty<Bytes>> {
    hyper::Request::get(format!("http://n1{path}")).body(Empty::new()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_answers_what_is_under_way_in_streams_and_then_takes_its_leave() {
    let InStreams { mut requests, connection, served, stopping, gate, mut begun } =
        serve_in_streams().await;
    let under_way: Vec<_> =
        (0..3).map(|_| tokio::spawn(requests.send_request(ask_for("/gated")))).collect();
    for _ in 0..3 {
        begun.recv().await.unwrap();
    }
    assert_eq!(requests.send_request(ask_for("/")).await.unwrap().status(), 200);

    stopping.cancel();
    let turned_away = async {
        while requests.ready().await.is_ok() && requests.send_request(ask_for("/")).await.is_ok() {}
    };
    timeout(PATIENCE, turned_away).await.expect("nothing new is begun");
    // However long it takes: it is not for the connection to say when the node has no more time.
    tokio::time::sleep(LONG / 2).await;
    assert!(!served.is_finished() && under_way.iter().all(|asked| !asked.is_finished()));
    gate.add_permits(3);
    for asked in under_way {
        let answer = asked.await.unwrap().expect("it was begun, so it is answered");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "through the gate");
    }
    timeout(PATIENCE, connection).await.unwrap().unwrap().expect("the node takes its leave");
    timeout(PATIENCE, served).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_leaves_a_connection_of_streams_on_which_nothing_is_under_way() {
    let InStreams { mut requests, connection, served, stopping, .. } = serve_in_streams().await;
    assert_eq!(requests.send_request(ask_for("/")).await.unwrap().status(), 200);
    stopping.cancel();
    timeout(PATIENCE, served).await.unwrap().unwrap();
    timeout(PATIENCE, connection).await.unwrap().unwrap().expect("the node takes its leave");
}
