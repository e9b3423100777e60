//! The HTTP side of a node.
//!
//! ```text
//!   client ──▶ gateway ──▶ routing ──▶ handler ──▶ service        (this node leads)
//!                 │            │
//!              fencing         └─────▶ peer ──▶ handler ──▶ …     (another one does)
//! ```
//!
//! Everything that is served stands in one table ([`table`]): the gateway serves its entries to
//! clients, another node's routing reaches the handlers behind them, and the OpenAPI document
//! describes them.

mod audit;
mod backup;
mod body;
mod cache;
mod cache_version;
mod dashboard;
mod demo;
mod events;
mod extract;
mod fence;
mod gateway;
mod guide;
mod leader;
mod load;
mod locks;
mod members;
mod messages;
mod metrics;
mod names;
mod openapi;
mod operations;
mod problem;
mod refusal;
mod ring;
mod route;
mod routing;
mod sessions;
#[cfg(test)]
mod tests;
mod tokens;
mod topics;
mod values;

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, Request};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bytes::Bytes;
use dss_raft::NodeId;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument as _;

use self::audit::Auditing;
use self::events::{Events, Sampler};
use self::gateway::{Gateway, Passage};
use self::guide::Guide;
use self::route::Route;
use self::routing::{Forward, Routing, TRACE_ID};
use crate::app::App;
use crate::forward::{ForwardError, Forwarded};
use crate::peer::Peers;

pub(crate) use self::metrics::{Counter, Histogram, Recorder};
pub(crate) use self::names::Names;
pub(crate) use self::problem::{Code, PROBLEM_JSON, Problem};
pub(crate) use self::route::Access;

/// Which node answered.
pub(crate) const NODE: HeaderName = HeaderName::from_static("x-dss-node");

/// Every route, in the order of the documentation.
fn table() -> Vec<Route> {
    [
        sessions::routes(),
        locks::routes(),
        topics::routes(),
        messages::routes(),
        cache::routes(),
        ring::routes(),
        operations::routes(),
        leader::routes(),
        tokens::routes(),
        audit::routes(),
        members::routes(),
        backup::routes(),
        events::routes(),
        dashboard::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What every handler gets.
#[derive(Clone)]
pub(crate) struct Context {
    app: App,
    recorder: Arc<Recorder>,
    events: Events,
    /// The OpenAPI document, written once.
    document: Bytes,
}

impl FromRef<Context> for App {
    fn from_ref(context: &Context) -> Self {
        context.app.clone()
    }
}

impl FromRef<Context> for Arc<Recorder> {
    fn from_ref(context: &Context) -> Self {
        Arc::clone(&context.recorder)
    }
}

/// The HTTP side of one node; clones share it.
#[derive(Clone)]
pub(crate) struct Http {
    clients: Router,
    local: Router,
    recorder: Arc<Recorder>,
}

impl Http {
    /// The HTTP side of `app`.
    pub(crate) fn new(app: App) -> Self {
        let peers = Arc::new(app.peers.clone());
        Self::with_peers(app, peers)
    }

    fn with_peers(app: App, peers: Arc<dyn Forward>) -> Self {
        let mut routes = table();
        if app.demo.is_some() {
            routes.extend(demo::routes());
        }
        Self::with_routes(app, peers, routes)
    }

    fn with_routes(app: App, peers: Arc<dyn Forward>, routes: Vec<Route>) -> Self {
        let recorder = Arc::new(Recorder::new(&routes));
        let document = serde_json::to_vec(&openapi::document(&routes))
            .expect("an OpenAPI document is always written as JSON");
        let passages: Vec<_> = routes
            .iter()
            .enumerate()
            .map(|(place, route)| (route.path, route.method.clone(), Passage::of(place, route)))
            .collect();
        let (here, limits) = (app.id, app.config.limits());
        let guide = Guide::of(&app);
        let node = HeaderValue::from_str(&app.name).unwrap_or(HeaderValue::from_static("?"));
        let (authority, auditing) = (app.authority.clone(), Auditing::of(&app));
        let (document, events) = (Bytes::from(document), Events::new());
        let context = Context {
            app: app.clone(),
            recorder: Arc::clone(&recorder),
            events: events.clone(),
            document,
        };
        let local = local_router(routes, context);
        let routing = Routing::new(here, local.clone(), peers);
        Sampler::start(app, routing.clone(), events);
        let recorded = Arc::clone(&recorder);
        let gateway = Arc::new(Gateway::new(routing, recorded, authority, auditing, limits, guide));
        Self { clients: client_router(passages, &gateway, node), local, recorder }
    }

    /// Everything that clients see.
    pub(crate) fn router(&self) -> Router {
        self.clients.clone()
    }

    /// Where it is counted what clients do.
    pub(crate) fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    /// Answers a request that another node forwarded; never forwards it on.
    pub(crate) async fn forwarded(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.recorder.count(Counter::Forwarded, 1);
        let id = request.headers().get(TRACE_ID).cloned();
        let span = tracing::debug_span!("forwarded", ?id, method = %request.method());
        let answered = self.local.clone().oneshot(request.map(Body::from)).instrument(span);
        let Ok(response) = answered.await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("handlers answer with whole bodies");
        Response::from_parts(head, body.to_bytes())
    }
}

impl Forwarded for Http {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> {
        let http = self.clone();
        Box::pin(async move { http.forwarded(request).await })
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Http").finish_non_exhaustive()
    }
}

#[async_trait]
impl Forward for Peers {
    fn knows(&self, node: NodeId) -> bool {
        Peers::knows(self, node)
    }

    async fn forward(
        &self,
        to: NodeId,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ForwardError> {
        Peers::forward(self, to, request).await
    }
}

/// The handlers of this node alone.
fn local_router(routes: Vec<Route>, context: Context) -> Router {
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, route| router.route(route.path, route.handler));
    // A bug in a handler ends one request, not the node; how far the handler came is not known.
    router.with_state(context).layer(CatchPanicLayer::custom(|_panic| {
        tracing::error!("a handler panicked");
        Problem::new(Code::OutcomeUnknown, "the handler failed").into_response()
    }))
}

/// The same routes behind the gateway.
fn client_router(
    passages: Vec<(&'static str, Method, Passage)>,
    gateway: &Arc<Gateway>,
    node: HeaderValue,
) -> Router {
    let router = passages.into_iter().fold(Router::new(), |router, (path, method, passage)| {
        router.route(path, entrance(&method, passage, Arc::clone(gateway)))
    });
    let (unmatched, misused) = (Arc::clone(gateway), Arc::clone(gateway));
    router
        .fallback(async move |request: Request| {
            let problem = no_such_route(request.uri().path());
            unmatched.refuse(problem, request)
        })
        .method_not_allowed_fallback(async move |request: Request| {
            let problem = Problem::method_not_allowed(request.method());
            misused.refuse(problem, request)
        })
        .layer(map_response(move |mut response: Response| {
            response.headers_mut().insert(NODE, node.clone());
            std::future::ready(response)
        }))
}

fn entrance(method: &Method, passage: Passage, gateway: Arc<Gateway>) -> MethodRouter {
    let filter = MethodFilter::try_from(method.clone())
        .expect("the table has methods that axum can filter by");
    on(filter, async move |request: Request| gateway.serve(passage, request).await)
}

/// A path that matches nothing may have an empty name in the place of a name.
fn no_such_route(path: &str) -> Problem {
    let mut segments = path.split('/').skip(1);
    if path != "/" && segments.any(str::is_empty) {
        return Problem::invalid("a path segment is empty");
    }
    let detail = "no route has this path; a slash within a name is written %2F";
    Problem::new(Code::NotFound, detail)
}
