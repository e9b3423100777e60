//! The ring by which the cache is placed.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;

use super::extract::{Answer, Query};
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use crate::app::App;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/ring", Access::Reader, show)
            .named("getRing", "Shows the hash ring that places keys on nodes.")
            .query("key", "Also say where this key belongs.", Type::String)
            .answers::<Ring>(StatusCode::OK, "The ring over the nodes that are alive."),
    ]
}

/// The hash ring.
#[derive(Debug, Serialize, ToSchema)]
struct Ring {
    nodes: Vec<RingNode>,
    /// The node that owns the key; `null` without a key or without nodes.
    owner: Option<String>,
    /// All nodes in the order in which they would own the key, the owner first; empty without a
    /// key.
    replicas: Vec<String>,
}

/// A node of the ring.
#[derive(Debug, Serialize, ToSchema)]
struct RingNode {
    id: String,
    weight: u32,
    /// The part of all keys that it owns, from 0 to 1.
    share: f64,
}

/// Which key to place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placed {
    key: Option<String>,
}

async fn show(
    State(app): State<App>,
    Query(placed): Query<Placed>,
) -> Result<Answer<Ring>, Problem> {
    let Some(ring) = app.ring() else {
        return Err(Problem::new(Code::Unavailable, "a node was added that is not known here yet"));
    };
    let nodes = ring.nodes().map(|(node, weight)| RingNode {
        id: node.clone(),
        weight: weight.get(),
        share: ring.share(node).unwrap_or_default(),
    });
    let key = placed.key.as_deref().map(str::as_bytes);
    Ok(Answer(Ring {
        nodes: nodes.collect(),
        owner: key.and_then(|key| ring.owner(key)).cloned(),
        replicas: key.map_or_else(Vec::new, |key| ring.preference_list(key).cloned().collect()),
    }))
}
