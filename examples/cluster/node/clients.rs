//! The clients of a node: served from its start until a little after it is asked to stop.

mod unreadable;

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use self::unreadable::Explained;
use crate::http::{self, Code, Problem};

/// How long clients have to finish what they began when the node stops.
const FINISH_LIMIT: Duration = Duration::from_secs(1);
/// How long those that did not have to read their answer. What they waited for is taken back
/// meanwhile, with the help of services that still run.
const CUT_LIMIT: Duration = Duration::from_millis(500);
/// The pause after the operating system refuses to accept: it is out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client may do before it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long the head of a request may take, from when it could have begun: a connection on
    /// which nothing is asked for this long is closed.
    pub(super) head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        // As long as proxies keep idle connections to those behind them.
        Self { head: Duration::from_secs(60) }
    }
}

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
        router: Router,
        node: HeaderValue,
        limits: Limits,
        stopping: CancellationToken,
    ) -> Self {
        let cut = CancellationToken::new();
        let state = (cut.clone(), node.clone());
        let router = router.layer(middleware::from_fn_with_state(state, until_cut));
        let server = Server { router, node, limits, stopping };
        Self { served: tokio::spawn(server.accept(listener)), cut }
    }

    /// Waits for the requests under way, and ends those that take too long: most of them wait for
    /// a lock or a message. Whether all ended by themselves.
    pub(super) async fn finish(&mut self) -> bool {
        if tokio::time::timeout(FINISH_LIMIT, &mut self.served).await.is_ok() {
            return true;
        }
        self.cut.cancel();
        if tokio::time::timeout(CUT_LIMIT, &mut self.served).await.is_err() {
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
    limits: Limits,
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
                Ok((tcp, _)) => drop(connections.spawn(self.clone().serve(tcp))),
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

    /// Serves one connection. Whatever limits connections, and whatever encrypts them, comes
    /// before [`converse`](Self::converse).
    async fn serve(self, tcp: TcpStream) {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!("a client's connection cannot be set to send at once: {error}");
        }
        self.converse(tcp).await;
    }

    /// Answers requests until the client goes, asks for nothing for too long, or the node stops.
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send) {
        let Self { router, node, limits, stopping } = self;
        let stream = TokioIo::new(Explained::new(stream, node));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .serve_connection(stream, TowerToHyperService::new(router));
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
