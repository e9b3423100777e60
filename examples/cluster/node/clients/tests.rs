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
    let router = Router::new().route("/", get(async || (named, "hello"))).route(
        "/never",
        get(async move || {
            begins.send(()).unwrap();
            std::future::pending::<()>().await;
        }),
    );
    let stopping = CancellationToken::new();
    let clients = Clients::serve(listener, router, node, limits, stopping.clone());
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

#[tokio::test]
async fn a_head_that_does_not_come_ends_its_connection() {
    let served = serve(Limits { head: Duration::from_millis(100) }).await;
    for begun in ["", "GET", "GET / HTTP/1.1\r\nhost: "] {
        said(&served, begun.as_bytes()).await;
    }
    // Nor does one last on which nothing more is asked.
    let said = said(&served, b"GET / HTTP/1.1\r\n\r\n").await;
    assert!(said.ends_with("hello"), "{said}");
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
