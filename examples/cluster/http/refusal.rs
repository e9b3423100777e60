//! Why a handler does not do what it was asked.

use axum::response::{IntoResponse, Response};
use dss_raft::NodeId;

use super::problem::Problem;
use super::routing::Elsewhere;

/// Why a handler does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The client is told.
    Problem(Problem),
    /// Another node may do it; the client learns of it only where none can be found.
    Elsewhere(Elsewhere),
}

impl Refusal {
    /// This node does not lead what the request is about.
    pub(crate) fn not_leader(leader: Option<NodeId>) -> Self {
        Self::Elsewhere(Elsewhere(leader))
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Elsewhere(elsewhere) => elsewhere.into_response(),
        }
    }
}
