//! Who waits for whom, and which waits were refused since they would never have ended.

use axum::extract::State;
use axum::http::StatusCode;
use dss_lock::{DeadlockInfo, Resolution, WaitEdge};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::extract::Answer;
use crate::http::refusal::Refusal;
use crate::http::route::{Access, Route};

pub(super) fn routes() -> [Route; 2] {
    [
        Route::get("/v1/wait-for", Access::Reader, wait_for)
            .named("getWaitFor", "Shows which session waits for which.")
            .answers::<WaitFor>(StatusCode::OK, "The edges of the wait-for graph."),
        Route::get("/v1/deadlocks", Access::Reader, deadlocks)
            .named("getDeadlocks", "Shows the newest deadlocks that were prevented.")
            .answers::<Deadlocks>(StatusCode::OK, "The deadlocks, the oldest first."),
    ]
}

/// The wait-for graph.
#[derive(Debug, Serialize, ToSchema)]
struct WaitFor {
    edges: Vec<Edge>,
}

/// One session waits for another.
#[derive(Debug, Serialize, ToSchema)]
struct Edge {
    waiter: String,
    holder: String,
    lock: String,
}

/// Deadlocks that were prevented.
#[derive(Debug, Serialize, ToSchema)]
struct Deadlocks {
    deadlocks: Vec<Deadlock>,
}

/// A deadlock that was prevented.
#[derive(Debug, Serialize, ToSchema)]
struct Deadlock {
    /// Where in the log of the locks it stands.
    log_index: u64,
    /// When it was, by the clock of the locks, which stands still while there is no leader.
    cluster_time_ms: u64,
    /// Whose request would have closed the cycle.
    session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    owner: String,
    /// The lock that it asked for, or the first of several.
    lock: String,
    /// The sessions, each of which would have waited for the next one, and the last for the first.
    cycle: Vec<String>,
    resolution: ResolutionName,
}

/// What was done about a deadlock.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Resolution)]
enum ResolutionName {
    /// The request was refused.
    Refused,
    /// Only others that wait were in its way, so it was let past them.
    LetPast,
}

async fn wait_for(State(app): State<App>) -> Result<Answer<WaitFor>, Refusal> {
    let edges = app.locks.wait_for().await?;
    Ok(Answer(WaitFor { edges: edges.into_iter().map(Edge::from).collect() }))
}

async fn deadlocks(State(app): State<App>) -> Result<Answer<Deadlocks>, Refusal> {
    let deadlocks = app.locks.deadlocks().await?;
    Ok(Answer(Deadlocks { deadlocks: deadlocks.into_iter().map(Deadlock::from).collect() }))
}

impl From<WaitEdge> for Edge {
    fn from(edge: WaitEdge) -> Self {
        Self {
            waiter: edge.waiter.as_str().to_owned(),
            holder: edge.holder.as_str().to_owned(),
            lock: edge.lock.as_str().to_owned(),
        }
    }
}

impl From<DeadlockInfo> for Deadlock {
    fn from(deadlock: DeadlockInfo) -> Self {
        let cycle = deadlock.cycle.iter().map(|session| session.as_str().to_owned());
        Self {
            log_index: deadlock.index,
            cluster_time_ms: deadlock.at.as_millis(),
            session: deadlock.owner.session.as_str().to_owned(),
            owner: deadlock.owner.owner.as_str().to_owned(),
            lock: deadlock.lock.as_str().to_owned(),
            cycle: cycle.collect(),
            resolution: match deadlock.resolution {
                Resolution::Refused => ResolutionName::Refused,
                Resolution::LetPast => ResolutionName::LetPast,
            },
        }
    }
}
