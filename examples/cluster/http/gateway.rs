//! What every request of a client passes on its way in and out, whichever route it takes.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};

use super::body;
use super::fence::Fence;
use super::metrics::Recorder;
use super::names::Names;
use super::problem::Problem;
use super::route::Route;
use super::routing::{Call, Conduct, Routing};

/// The way in.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    routing: Routing,
    recorder: Arc<Recorder>,
    names: Arc<Names>,
}

/// What the gateway has to know of a route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage {
    /// Its place in the table.
    place: usize,
    conduct: Conduct,
    is_fenced: bool,
}

impl Passage {
    /// Of the route that stands at this place of the table.
    pub(crate) fn of(place: usize, route: &Route) -> Self {
        Self { place, conduct: route.conduct, is_fenced: route.is_fenced }
    }
}

impl Gateway {
    pub(crate) fn new(routing: Routing, recorder: Arc<Recorder>) -> Self {
        Self { routing, recorder, names: Arc::new(Names::new()) }
    }

    /// Answers a request that matches a route.
    pub(crate) async fn serve(&self, passage: Passage, request: Request) -> Response {
        let measured = self.recorder.begin(passage.place);
        let response = match self.admit(passage, request).await {
            Ok(call) => self.routing.answer(&call).await,
            Err(response) => response,
        };
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
    async fn admit(&self, passage: Passage, request: Request) -> Result<Call, Response> {
        let (head, body) = request.into_parts();
        let body = body::read(&head.headers, body).await.map_err(IntoResponse::into_response)?;
        if passage.is_fenced
            && let Some(fence) = Fence::of(&head.headers).map_err(IntoResponse::into_response)?
        {
            fence.check(&self.routing).await?;
        }
        Ok(Call::new(passage.conduct, &head, body).named(|| self.names.next()))
    }
}
