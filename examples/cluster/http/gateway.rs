//! What every request of a client passes on its way in and out, whichever route it takes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use hyper::body::Body as _;
use tracing::Instrument as _;

use super::audit::{Auditing, names_in};
use super::body;
use super::fence::Fence;
use super::guide::{First, Guide};
use super::load::{Load, Place};
use super::metrics::{Counter, Recorder};
use super::names::Names;
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use super::routing::{Call, Conduct, Routing, TRACE_ID};
use crate::audit::Entry;
use crate::auth::{Authority, Credential, Denied, Principal, Validity, authorize};
use crate::config::Limits;
use crate::origin::Origin;

/// The way in.
#[derive(Debug)]
pub(crate) struct Gateway {
    routing: Routing,
    recorder: Arc<Recorder>,
    names: Arc<Names>,
    load: Load,
    authority: Arc<Authority>,
    /// Nothing where nothing is written down.
    auditing: Option<Auditing>,
    limits: Limits,
    guide: Guide,
}

/// What the gateway has to know of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage {
    /// Its place in the table.
    place: usize,
    /// What the document calls it.
    operation: &'static str,
    conduct: Conduct,
    access: Access,
    is_fenced: bool,
    /// Whether it is answered however much there is to do.
    is_vital: bool,
    /// Whether it needs a token even where others do not.
    is_guarded: bool,
    first: First,
    /// Whether its body names what it is done to.
    is_batch: bool,
}

/// A request that may be made.
struct Admitted {
    call: Call,
    /// What it is to be done under.
    fence: Option<Fence>,
    _place: Option<Place>,
}

/// Somebody who may not do what they ask for.
struct TurnedAway {
    principal: Principal,
    problem: Problem,
}

impl Passage {
    /// Of the route that stands at this place of the table.
    pub(crate) fn of(place: usize, route: &Route) -> Self {
        let Route { conduct, access, is_fenced, is_vital, is_guarded, first, .. } = *route;
        let (operation, is_batch) = (route.operation_id, route.is_batch);
        Self { place, operation, conduct, access, is_fenced, is_vital, is_guarded, first, is_batch }
    }
}

impl Gateway {
    pub(crate) fn new(
        routing: Routing,
        recorder: Arc<Recorder>,
        authority: Arc<Authority>,
        auditing: Option<Auditing>,
        limits: Limits,
        guide: Guide,
    ) -> Self {
        let load = Load::new(limits.requests_max, limits.waits_max);
        let names = Arc::new(Names::new());
        Self { routing, recorder, names, load, authority, auditing, limits, guide }
    }

    /// Answers a request that matches a route.
    pub(crate) async fn serve(&self, passage: Passage, mut request: Request) -> Response {
        let measured = self.recorder.begin(passage.place);
        let id = trace_id(request.headers()).unwrap_or_else(|| self.names.next());
        request.headers_mut().insert(TRACE_ID, id.clone());
        let span = tracing::debug_span!("request", ?id, method = %request.method());
        let answered = async {
            let mut response = match self.identify(passage, &request) {
                Ok(principal) => self.act(passage, principal, request).await,
                Err(refused) => self.turn_away(passage, refused, request).await,
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

    /// Whoever makes a request, who may make it. Of the request only the head is looked at.
    fn identify(&self, passage: Passage, request: &Request) -> Result<Principal, Box<TurnedAway>> {
        let needs_token = self.authority.is_enabled() || passage.is_guarded;
        if !needs_token || passage.access == Access::Public {
            return Ok(Principal::Anybody);
        }
        let origin = request.extensions().get::<Origin>().copied().unwrap_or_default();
        let principal = self.authority.identify(request.headers(), origin).map_err(|denied| {
            self.recorder.count(Counter::Unauthenticated, 1);
            let id = Credential::of(request.headers()).map(|given| given.id().to_owned());
            let (principal, problem) = (Principal::Unknown { id }, refusal(denied));
            Box::new(TurnedAway { principal, problem })
        })?;
        if !authorize(&principal, passage.access) {
            self.recorder.count(Counter::Forbidden, 1);
            let detail = "the role of the token does not allow this";
            let problem = Problem::new(Code::Forbidden, detail);
            return Err(Box::new(TurnedAway { principal, problem }));
        }
        Ok(principal)
    }

    /// Refuses a request that its client may not make.
    async fn turn_away(
        &self,
        passage: Passage,
        refused: Box<TurnedAway>,
        request: Request,
    ) -> Response {
        let TurnedAway { principal, problem } = *refused;
        let (head, body) = request.into_parts();
        body::discard(body);
        let response = problem.into_response();
        match &self.auditing {
            // Who is told to ask less often is not written down each time: that is the point.
            Some(auditing) if matches!(response.status().as_u16(), 401 | 403) => {
                auditing.refused(entry(passage, principal, &head), response).await
            }
            _ => response,
        }
    }

    /// Does what a request asks for that its client may make, and writes down what it changes.
    /// What is not even taken on is not written down: there may be any amount of it.
    async fn act(&self, passage: Passage, principal: Principal, request: Request) -> Response {
        let auditing = self.auditing.as_ref().filter(|_| passage.conduct != Conduct::Reads);
        let (head, body) = request.into_parts();
        let validity = self.authority.validity(&principal);
        let entry = auditing.map(|_| entry(passage, principal, &head));
        let admitted = self.admit(passage, Request::from_parts(head, body)).await;
        let Admitted { call, fence, _place } = match admitted {
            Ok(admitted) => admitted,
            Err(response) => return response,
        };
        let Some((auditing, mut entry)) = auditing.zip(entry) else {
            return self.perform(&call, fence, validity).await;
        };
        if passage.is_batch {
            entry.names = names_in(call.request().body());
        }
        match auditing.begin(entry) {
            Ok(record) => {
                let response = self.perform(&call, fence, validity).await;
                auditing.end(record, response).await
            }
            Err(refusal) => refusal.into_response(),
        }
    }

    /// Does it. A wait, and an answer that goes on and on, end with the token that began it.
    async fn perform(
        &self,
        call: &Call,
        fence: Option<Fence>,
        validity: Option<Validity>,
    ) -> Response {
        let answered = async {
            match fence {
                None => self.routing.answer(call).await,
                Some(fence) => fence.guard(&self.routing, call).await,
            }
        };
        let Some(validity) = validity else { return answered.await };
        let response = if call.wait().is_zero() {
            answered.await
        } else {
            tokio::select! {
                response = answered => response,
                // To drop the wait takes it back, wherever it is.
                () = validity.clone().ended() => {
                    return Problem::unauthenticated(true).into_response();
                }
            }
        };
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| {
            Body::from_stream(body.into_data_stream().take_until(Box::pin(validity.ended())))
        })
    }

    /// Checks all that is neither the handler's own business nor a matter of who asks.
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
        let call = Call::new(passage.conduct, &head, body)
            .named(|| self.names.next())
            .first_asked_of(self.guide.to(passage.first, head.uri.path()));
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

/// What is written down of a request before it is done.
fn entry(passage: Passage, principal: Principal, head: &Parts) -> Entry {
    let request_id = head.headers.get(TRACE_ID).and_then(|id| id.to_str().ok());
    Entry {
        client: head.extensions.get().copied().unwrap_or_default(),
        principal,
        action: passage.operation,
        resource: head.uri.path().to_owned(),
        names: Vec::new(),
        request_id: request_id.unwrap_or_default().to_owned(),
    }
}

fn refusal(denied: Denied) -> Problem {
    match denied {
        Denied::Missing => Problem::unauthenticated(false),
        Denied::Invalid => Problem::unauthenticated(true),
        Denied::TooMany => {
            Problem::new(Code::Overloaded, "too many requests without a valid token")
        }
        Denied::NotReady => {
            Problem::new(Code::Unavailable, "this node does not know yet which tokens are valid")
        }
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
