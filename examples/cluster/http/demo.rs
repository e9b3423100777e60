//! Playing with a cluster that is there to be played with: served only where one asked for it.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Json, Name, Named};
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use super::routing::Conduct;
use crate::app::App;
use crate::demo::Action;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::post("/v1/demo/nodes/{node}", Access::Admin, act)
            .named("actOnNode", "Stops, starts, isolates or heals a node of this process.")
            .conduct(Conduct::ActsIdempotently)
            .takes::<Wanted>()
            .answers::<Begun>(StatusCode::OK, "It is being done; the event `demo` tells when.")
            .refuses(&[Code::NotFound]),
    ]
}

/// What to do with a node.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Wanted {
    action: Action,
}

/// What is being done with a node.
#[derive(Debug, Serialize, ToSchema)]
struct Begun {
    node: String,
    action: Action,
}

struct NodeName(String);

impl Named for NodeName {
    fn named(name: String) -> Result<Self, String> {
        Ok(Self(name))
    }
}

async fn act(
    State(app): State<App>,
    Name(NodeName(node)): Name<NodeName>,
    Json(Wanted { action }): Json<Wanted>,
) -> Result<Answer<Begun>, Problem> {
    let Some(demo) = &app.demo else {
        return Err(Problem::new(Code::NotFound, "this cluster is not there to be played with"));
    };
    if app.members.node(&node).is_none() {
        return Err(Problem::new(Code::NotFound, "the cluster has no such node"));
    }
    if !demo.order(&node, action) {
        return Err(Problem::new(Code::Unavailable, "there is enough to do already"));
    }
    Ok(Answer(Begun { node, action }))
}
