//! What every request of a client passes on its way in and out, whichever route it takes.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use dss_raft::Leadership;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::body;
use super::fence::Fence;
use super::load::{Load, Place};
use super::metrics::{Counter, Recorder};
use super::names::Names;
use super::problem::{Code, Problem};
use super::route::Route;
use super::routing::{Call, Conduct, Routing, TRACE_ID};
use crate::config::Limits;

/// The way in.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    routing: Routing,
    recorder: Arc<Recorder>,
    names: Arc<Names>,
    load: Load,
    limits: Limits,
    lock_leadership: watch::Receiver<Leadership>,
}

/// What the gateway has to know of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage {
    /// Its place in the table.
    place: usize,
    conduct: Conduct,
    is_fenced: bool,
    /// Whether it is answered however much there is to do.
    is_vital: bool,
    is_of_locks: bool,
}

/// A request that may be made.
struct Admitted {
    call: Call,
    /// What it is to be done under.
    fence: Option<Fence>,
    _place: Option<Place>,
}

impl Passage {
    /// Of the route that stands at this place of the table.
    pub(crate) fn of(place: usize, route: &Route) -> Self {
        let Route { conduct, is_fenced, is_vital, is_of_locks, .. } = *route;
        Self { place, conduct, is_fenced, is_vital, is_of_locks }
    }
}

impl Gateway {
    pub(crate) fn new(
        routing: Routing,
        recorder: Arc<Recorder>,
        limits: Limits,
        lock_leadership: watch::Receiver<Leadership>,
    ) -> Self {
        let load = Load::new(limits.requests_max, limits.waits_max);
        let names = Arc::new(Names::new());
        Self { routing, recorder, names, load, limits, lock_leadership }
    }

    /// Answers a request that matches a route.
    pub(crate) async fn serve(&self, passage: Passage, mut request: Request) -> Response {
        let measured = self.recorder.begin(passage.place);
        let id = trace_id(request.headers()).unwrap_or_else(|| self.names.next());
        request.headers_mut().insert(TRACE_ID, id.clone());
        let span = tracing::debug_span!("request", ?id, method = %request.method());
        let answered = async {
            let mut response = match self.admit(passage, request).await {
                Ok(Admitted { call, fence: None, .. }) => self.routing.answer(&call).await,
                Ok(Admitted { call, fence: Some(fence), .. }) => {
                    fence.guard(&self.routing, &call).await
                }
                Err(response) => response,
            };
            tracing::debug!(status = response.status().as_u16(), "answered");
            response.headers_mut().insert(TRACE_ID, id);
            response
        };
        let response = answered.instrument(span).await;
        measured.answered(response.status());
        response
    }

    /// Answers a request that matches none.
    pub(crate) fn refuse(&self, problem: Problem, request: Request) -> Response {
        let measured = self.recorder.begin(self.recorder.unmatched());
        body::discard(request.into_body());
        let response = problem.into_response();
        measured.answered(response.status());
        response
    }

    /// Checks all that is not the handler's own business.
    ///
    /// Who calls, and whether the route's [`Access`](super::route::Access) lets them, belongs here
    /// before the body is read; what an audit log has to keep of the answer, into
    /// [`serve`](Self::serve).
    async fn admit(&self, passage: Passage, request: Request) -> Result<Admitted, Response> {
        let (head, body) = request.into_parts();
        // What is refused for load is refused before its body takes memory.
        let place = match passage.is_vital.then_some(None).or_else(|| self.load.enter().map(Some)) {
            Some(place) => place,
            None => {
                body::discard(body);
                return Err(self.overloaded());
            }
        };
        let body = body::read(&head.headers, body, self.limits.body);
        let body = body.await.map_err(IntoResponse::into_response)?;
        let fence = if passage.is_fenced { Fence::of(&head.headers) } else { Ok(None) };
        let fence = fence.map_err(IntoResponse::into_response)?;
        let mut call = Call::new(passage.conduct, &head, body).named(|| self.names.next());
        if passage.is_of_locks {
            call = call.first_asked_of(self.lock_leadership.borrow().leader);
        }
        if call.wait().is_zero() {
            return Ok(Admitted { call, fence, _place: place });
        }
        // Who waits has little to do, and takes no place of those who do not.
        let place = self.load.wait().ok_or_else(|| self.overloaded())?;
        Ok(Admitted { call, fence, _place: Some(place) })
    }

    fn overloaded(&self) -> Response {
        self.recorder.count(Counter::RequestsShed, 1);
        let detail = "this node is working on as many requests as it may";
        Problem::new(Code::Overloaded, detail).into_response()
    }
}

/// The name that the client has given its request, where it is one that may stand in a log.
fn trace_id(headers: &HeaderMap) -> Option<HeaderValue> {
    const BYTES_MAX: usize = 128;
    let id = headers.get(TRACE_ID)?;
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(byte);
    let good = (1..=BYTES_MAX).contains(&id.len()) && id.as_bytes().iter().all(allowed);
    good.then(|| id.clone())
}
