//! The clients of a node: served from its start until a little after it is asked to stop.

mod connections;
mod paced;
mod streams;
mod unreadable;

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::connections::{Connections, Counted};
use self::paced::{Paced, UnderWay};
use self::unreadable::Explained;
use crate::config::Limits;
use crate::http::{self, Code, Counter, Problem, Recorder};
use crate::origin::Origin;
use crate::tls::{self, Tls};

/// How long clients have to finish what they began when the node stops.
const FINISH_LIMIT: Duration = Duration::from_secs(1);
/// How long those that did not have to read their answer. What they waited for is taken back
/// meanwhile, with the help of services that still run.
const CUT_LIMIT: Duration = Duration::from_millis(500);
/// How long a client that is turned away has to read why.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// How many are told why at a time. The others are turned away without a word: who comes in such
/// numbers does not read.
const FAREWELLS_MAX: usize = 64;
/// The pause after the operating system refuses to accept: it is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The clients' listener and its connections.
pub(super) struct Clients {
    served: JoinHandle<()>,
    cut: CancellationToken,
}

impl Clients {
    /// Serves clients; no new ones once `stopping` is cancelled. `node` is what answers that are
    /// not of the `router` say of who answers.
    pub(super) fn serve(
        listener: TcpListener,
        tls: Option<Tls>,
        (router, node): (Router, HeaderValue),
        limits: Limits,
        recorder: Arc<Recorder>,
        stopping: CancellationToken,
    ) -> Self {
        let cut = CancellationToken::new();
        let state = (cut.clone(), node.clone());
        let router = router.layer(middleware::from_fn_with_state(state, until_cut));
        let connections = Connections::new(&limits, Arc::clone(&recorder));
        let farewells = Arc::new(Semaphore::new(FAREWELLS_MAX));
        let server =
            Server { router, node, tls, limits, connections, recorder, farewells, stopping };
        Self { served: tokio::spawn(server.accept(listener)), cut }
    }

    /// Waits for the requests under way, and ends those that take too long: most of them wait for
    /// a lock or a message. Whether all ended by themselves.
    pub(super) async fn finish(&mut self) -> bool {
        if timeout(FINISH_LIMIT, &mut self.served).await.is_ok() {
            return true;
        }
        self.cut.cancel();
        if timeout(CUT_LIMIT, &mut self.served).await.is_err() {
            // Its connections end with it.
            self.served.abort();
        }
        false
    }
}

/// What serves each connection.
#[derive(Clone)]
struct Server {
    router: Router,
    node: HeaderValue,
    tls: Option<Tls>,
    limits: Limits,
    connections: Connections,
    recorder: Arc<Recorder>,
    farewells: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Server {
    /// Accepts connections until the node stops, then waits for them to end.
    async fn accept(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => break,
                Some(_ended) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, from)) => match self.connections.count(from.ip()) {
                    Some(counted) => {
                        drop(connections.spawn(self.clone().serve(tcp, Origin(from), counted)));
                    }
                    // Whoever expects encryption could not read why.
                    None if self.tls.is_some() => drop(tcp),
                    None => self.turn_away(tcp, unreadable::turned_away(&self.node)),
                },
                Err(error) => {
                    tracing::warn!("cannot accept a client's connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Nobody is let in any more.
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Says why there will be no other answer, without waiting for it to be heard.
    fn turn_away(&self, mut tcp: TcpStream, answer: Bytes) {
        let Ok(place) = Arc::clone(&self.farewells).try_acquire_owned() else { return };
        tokio::spawn(timeout(FAREWELL_MAX, async move {
            let _place = place;
            // It is told if it listens. What it has asked is read, since closing a connection
            // with something unread resets it, and the answer is lost.
            if tcp.write_all(&answer).await.is_ok() && tcp.shutdown().await.is_ok() {
                let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
            }
        }));
    }

    /// Serves one connection. Whatever encrypts it comes before [`converse`](Self::converse).
    async fn serve(self, tcp: TcpStream, from: Origin, _counted: Counted) {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!("a client's connection cannot be set to send at once: {error}");
        }
        // That a socket may be readable says little: what counts is a byte.
        let mut first = [0];
        let peeked = tokio::select! {
            peeked = timeout(self.limits.first_byte, tcp.peek(&mut first)) => peeked,
            () = self.stopping.cancelled() => return,
        };
        let Ok(Ok(1..)) = peeked else { return };
        match &self.tls {
            None => self.converse(tcp, from).await,
            Some(_) if first != [tls::HANDSHAKE] => {
                self.count_failed_handshake("a client does not encrypt");
                self.turn_away(tcp, unreadable::not_encrypted(&self.node));
            }
            Some(tls) => {
                let handshake = timeout(self.limits.handshake, tls.clients().accept(tcp));
                let stream = tokio::select! {
                    stream = handshake => stream,
                    () = self.stopping.cancelled() => return,
                };
                match stream {
                    Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2) => {
                        self.converse_in_streams(stream, from).await;
                    }
                    Ok(Ok(stream)) => self.converse(stream, from).await,
                    Ok(Err(error)) => self.count_failed_handshake(error),
                    Err(_) => self.count_failed_handshake("it took too long"),
                }
            }
        }
    }

    fn count_failed_handshake(&self, problem: impl Display) {
        self.recorder.count(Counter::HandshakesFailed, 1);
        tracing::debug!("a client's handshake failed: {problem}");
    }

    /// Answers requests until the client goes, asks for nothing for too long, or the node stops.
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, from: Origin) {
        let Self { router, node, limits, stopping, .. } = self;
        let under_way = UnderWay::default();
        let stream = Explained::new(stream, node);
        let stream = Paced::new(stream, under_way.clone(), &limits);
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: hyper::Request<_>| {
            request.extensions_mut().insert(from);
            let request_under_way = under_way.begin();
            let answer = router.call(request);
            async move {
                let answer = answer.await;
                drop(request_under_way);
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a client's connection ended: {error}");
        }
    }
}

/// Answers a request, unless it is cut off: its handler is dropped then, which takes back what it
/// waited for, be it here or on another node.
async fn until_cut(
    State((cut, node)): State<(CancellationToken, HeaderValue)>,
    request: Request,
    next: Next,
) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        () = cut.cancelled() => {
            let problem = Problem::new(Code::OutcomeUnknown, "the node is shutting down");
            ([(http::NODE, node)], problem).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
