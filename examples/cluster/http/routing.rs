//! How a request finds the node that can do it.
//!
//! A handler whose service does not lead answers with an [`Elsewhere`]. The request is then made
//! at the leader that it names, or, while there is none, here again until there is one. A request
//! that may have been done already is repeated only where doing it twice changes nothing.

mod call;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use dss_raft::NodeId;
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt as _;

use super::audit::AnsweredAt;
use super::problem::{Code, Problem};
use crate::forward::ForwardError;

pub(crate) use call::{Call, Conduct, REQUEST_ID, Repeating, TRACE_ID};

/// Says, between nodes and never to clients, which node leads where this one does not: its number,
/// or nothing where no leader is known.
const ELSEWHERE: HeaderName = HeaderName::from_static("x-dss-elsewhere");

/// For how long a leader is looked for: more than two elections with the default timing.
const SEARCH_MAX: Duration = Duration::from_secs(5);

/// How long a node may take for what does not wait: the time in which a leader that has lost its
/// followers notices that, and then some.
const ATTEMPT_MAX: Duration = Duration::from_secs(8);

/// The same for what may be repeated: asking a node that hangs ends early enough to ask its
/// successor.
const REPEATABLE_ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// How long to pause before the same nodes are asked again; doubled up to the maximum, which is
/// short beside an election.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(160);

/// How many hints are followed before a pause. One is the rule, two when leadership has just
/// moved; nodes that name each other lead nowhere.
const HINTS_MAX: u32 = 3;

/// The answer of a node that does not lead: not for clients, but for [`Routing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elsewhere(pub(crate) Option<NodeId>);

impl IntoResponse for Elsewhere {
    fn into_response(self) -> axum::response::Response {
        let node = self.0.map(|node| node.to_string()).unwrap_or_default();
        let value = HeaderValue::try_from(node).expect("digits are a header value");
        (StatusCode::MISDIRECTED_REQUEST, [(ELSEWHERE, value)]).into_response()
    }
}

impl Elsewhere {
    fn of(response: &Response<Body>) -> Option<Self> {
        let node = response.headers().get(ELSEWHERE)?.to_str().ok()?;
        Some(Self(node.parse().ok().map(NodeId::new)))
    }
}

/// Carries a request to another node; dropping the future cancels it there.
#[async_trait]
pub(crate) trait Forward: Send + Sync + 'static {
    /// Whether there is such a node, connected or not, besides this one.
    fn knows(&self, node: NodeId) -> bool;

    /// Has `to` answer `request`.
    async fn forward(
        &self,
        to: NodeId,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ForwardError>;
}

/// Finds the node for each request.
#[derive(Clone)]
pub(crate) struct Routing {
    here: NodeId,
    local: Router,
    peers: std::sync::Arc<dyn Forward>,
}

/// What became of a request at one node.
enum Attempt {
    /// This.
    Answered(Response<Body>),
    /// Surely nothing: that node does not lead.
    Elsewhere(Option<NodeId>),
    /// Surely nothing: that node is not there.
    Unreachable,
    /// Perhaps it was done, perhaps not.
    Unknown(Response<Body>),
}

impl Routing {
    /// Routing on the node `here`, whose own handlers are `local`.
    pub(crate) fn new(here: NodeId, local: Router, peers: std::sync::Arc<dyn Forward>) -> Self {
        Self { here, local, peers }
    }

    /// Has `call` answered by whichever node can. Dropping the future cancels it there.
    pub(crate) async fn answer(&self, call: &Call) -> Response<Body> {
        if let Some(node) = call.node() {
            return self.answer_at(node, call).await;
        }
        let mut at = call.first().unwrap_or(self.here);
        let mut search = Search::new(call.wait());
        let mut perhaps_done = false;
        loop {
            match self.attempt(at, call).await {
                Attempt::Answered(mut response) => {
                    if at != self.here {
                        response.extensions_mut().insert(AnsweredAt(at));
                    }
                    return response;
                }
                Attempt::Elsewhere(Some(leader)) if leader != at && search.follows_hint() => {
                    at = leader;
                    continue;
                }
                Attempt::Elsewhere(_) | Attempt::Unreachable => {}
                Attempt::Unknown(response) => match call.repeating() {
                    Repeating::IsUnsafe => return response,
                    Repeating::IsSafe => perhaps_done = true,
                    Repeating::ChangesNothing => {}
                },
            }
            if !search.pause().await {
                return if perhaps_done { outcome_unknown() } else { no_leader() };
            }
            at = self.here;
        }
    }

    /// Has `call` answered by this node and no other.
    async fn answer_at(&self, node: NodeId, call: &Call) -> Response<Body> {
        if node != self.here && !self.peers.knows(node) {
            return Problem::invalid_field(call::AT.as_str(), "the cluster has no such node")
                .into_response();
        }
        let detail = match self.attempt(node, call).await {
            Attempt::Answered(mut response) | Attempt::Unknown(mut response) => {
                if node != self.here {
                    response.extensions_mut().insert(AnsweredAt(node));
                }
                return response;
            }
            Attempt::Elsewhere(_) => "that node does not lead what this is about",
            Attempt::Unreachable => "that node cannot be reached",
        };
        Problem::new(Code::Unavailable, detail).into_response()
    }

    async fn attempt(&self, at: NodeId, call: &Call) -> Attempt {
        let limit = match call.repeating() {
            Repeating::IsUnsafe => ATTEMPT_MAX,
            Repeating::IsSafe | Repeating::ChangesNothing => REPEATABLE_ATTEMPT_MAX,
        };
        let asked = async {
            if at == self.here {
                Ok(self.ask_here(call.request()).await)
            } else {
                self.peers.forward(at, call.request()).await.map(|answer| answer.map(Body::from))
            }
        };
        match timeout(call.wait() + limit, asked).await {
            Ok(Ok(response)) => Attempt::from(response),
            Ok(Err(ForwardError::Unreachable)) => Attempt::Unreachable,
            Ok(Err(ForwardError::Lost)) | Err(_) => Attempt::Unknown(outcome_unknown()),
        }
    }

    async fn ask_here(&self, request: Request<Bytes>) -> Response<Body> {
        let Ok(response) = self.local.clone().oneshot(request.map(Body::from)).await;
        response
    }
}

impl From<Response<Body>> for Attempt {
    fn from(response: Response<Body>) -> Self {
        if let Some(Elsewhere(leader)) = Elsewhere::of(&response) {
            return Self::Elsewhere(leader);
        }
        if response.status() == Code::OutcomeUnknown.status() {
            return Self::Unknown(response);
        }
        Self::Answered(response)
    }
}

/// How long is left to look for a leader, and how hard to look.
struct Search {
    /// What is left of [`SEARCH_MAX`] for pauses: without any leader, this is what ends the search.
    pauses: Duration,
    /// The end of it all, for requests that several nodes took on and lost.
    until: Instant,
    pause: Duration,
    hints: u32,
}

impl Search {
    /// A search for a request that itself waits for up to `wait`.
    fn new(wait: Duration) -> Self {
        let until = Instant::now() + wait + SEARCH_MAX;
        Self { pauses: SEARCH_MAX, until, pause: PAUSE_MIN, hints: 0 }
    }

    fn follows_hint(&mut self) -> bool {
        self.hints += 1;
        self.hints <= HINTS_MAX
    }

    /// Waits before the nodes are asked again; false where the time is over.
    async fn pause(&mut self) -> bool {
        let Some(pauses) = self.pauses.checked_sub(self.pause) else { return false };
        if Instant::now() + self.pause > self.until {
            return false;
        }
        sleep(self.pause).await;
        self.pauses = pauses;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.hints = 0;
        true
    }
}

fn no_leader() -> Response<Body> {
    Problem::new(Code::NoLeader, "no leader was found in time").into_response()
}

fn outcome_unknown() -> Response<Body> {
    let detail = "the node that took the request on has not answered";
    Problem::new(Code::OutcomeUnknown, detail).into_response()
}

impl std::fmt::Debug for Routing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Routing").field("here", &self.here).finish_non_exhaustive()
    }
}
