//! The clients of a node: served from its start until a little after it is asked to stop.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Code, Problem};

/// How long clients have to finish what they began when the node stops.
const FINISH_LIMIT: Duration = Duration::from_secs(1);
/// How long those that did not have to read their answer. What they waited for is taken back
/// meanwhile, with the help of services that still run.
const CUT_LIMIT: Duration = Duration::from_millis(500);

/// The clients' listener and its connections.
pub(super) struct Clients {
    served: JoinHandle<()>,
    cut: CancellationToken,
}

impl Clients {
    /// Serves clients; no new ones once `stopping` is cancelled.
    pub(super) fn serve(
        listener: TcpListener,
        router: Router,
        node: HeaderValue,
        stopping: CancellationToken,
    ) -> Self {
        let cut = CancellationToken::new();
        let state = (cut.clone(), node);
        let router = router.layer(middleware::from_fn_with_state(state, until_cut));
        let listener = listener.tap_io(|tcp| {
            if let Err(error) = tcp.set_nodelay(true) {
                tracing::debug!("a client's connection cannot be set to send at once: {error}");
            }
        });
        let served = async move {
            let served = axum::serve(listener, router);
            let served = served.with_graceful_shutdown(stopping.cancelled_owned());
            if let Err(error) = served.await {
                tracing::error!("no client is served any more: {error}");
            }
        };
        Self { served: tokio::spawn(served), cut }
    }

    /// Waits for the requests under way, and ends those that take too long: most of them wait for
    /// a lock or a message. Whether all ended by themselves.
    pub(super) async fn finish(&mut self) -> bool {
        if tokio::time::timeout(FINISH_LIMIT, &mut self.served).await.is_ok() {
            return true;
        }
        self.cut.cancel();
        if tokio::time::timeout(CUT_LIMIT, &mut self.served).await.is_err() {
            self.served.abort();
        }
        false
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
