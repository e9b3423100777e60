//! Who leads the locks.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use dss_raft::{NodeId, RoleKind, TransferError};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::extract::{Answer, Json};
use super::problem::{Code, Problem};
use super::refusal::Refusal;
use super::route::{Access, Route};
use super::routing::Conduct;
use crate::app::App;

/// How long the next leader may take to be elected and known here, once this one has let go.
const ELECTION_MAX: Duration = Duration::from_secs(2);

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/leader", Access::Admin, hand_over)
            .named("moveLeadership", "Hands leadership of the locks over to a node.")
            .conduct(Conduct::ActsIdempotently)
            .takes::<HandOver>()
            .answers::<Leader>(StatusCode::OK, "That node leads."),
    ]
}

/// To whom to hand leadership over.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HandOver {
    /// The id of a node that votes.
    to: String,
}

/// Who leads.
#[derive(Debug, Serialize, ToSchema)]
struct Leader {
    leader: String,
}

async fn hand_over(
    State(app): State<App>,
    Json(HandOver { to }): Json<HandOver>,
) -> Result<Answer<Leader>, Refusal> {
    let Some(node) = app.members.node(&to).map(|node| node.id) else {
        return Err(Problem::invalid_field("to", "the cluster has no such node").into());
    };
    let leads = app.lock_group.status().role == RoleKind::Leader;
    if !(leads && node == app.id) {
        app.lock_group.transfer_leadership(Some(node)).await.map_err(refusal)?;
        took_over(&app, node).await?;
    }
    Ok(Answer(Leader { leader: to }))
}

/// Waits until `node` is known to lead.
async fn took_over(app: &App, node: NodeId) -> Result<(), Problem> {
    let mut leadership = app.lock_group.leadership();
    let elected = leadership.wait_for(|leadership| leadership.leader.is_some());
    match timeout(ELECTION_MAX, elected).await {
        Ok(Ok(leadership)) if leadership.leader == Some(node) => Ok(()),
        _ => Err(Problem::new(Code::OutcomeUnknown, "another node may have been elected")),
    }
}

fn refusal(error: TransferError) -> Refusal {
    match error {
        TransferError::NotLeader { leader } => Refusal::not_leader(leader),
        TransferError::NotAVoter { .. } => Problem::invalid_field("to", error).into(),
        TransferError::NoCandidate | TransferError::Transferring { .. } => {
            Problem::new(Code::Unavailable, error.to_string()).into()
        }
        _ => Problem::new(Code::OutcomeUnknown, error.to_string()).into(),
    }
}
