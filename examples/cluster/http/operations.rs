//! What operators and load balancers ask.

mod exported;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dss_raft::{NodeId, RoleKind, Status};
use serde::Serialize;
use utoipa::ToSchema;

use super::Context;
use super::extract::Answer;
use super::members::MemberState;
use super::metrics::{Exposition, MEDIA_TYPE};
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use crate::app::App;
use crate::members::Members;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/healthz", Access::Public, health)
            .named("getHealth", "Says that the process serves.")
            .answers_text("`ok`"),
        Route::get("/readyz", Access::Public, readiness)
            .named("getReadiness", "Says whether this node can serve.")
            .answers_text("`ready`")
            .refuses(&[Code::Unavailable]),
        Route::get("/v1/status", Access::Reader, status)
            .named("getStatus", "Shows this node's part in the cluster.")
            .answers::<NodeStatus>(StatusCode::OK, "As this node sees it."),
        Route::get("/metrics", Access::Reader, metrics)
            .named("getMetrics", "What this node counts, for Prometheus.")
            .answers_text("The text exposition format, version 0.0.4."),
        Route::get("/openapi.json", Access::Reader, openapi)
            .named("getOpenApi", "This document.")
            .answers::<serde_json::Value>(StatusCode::OK, "An OpenAPI 3.1 document."),
    ]
}

/// A node's part in the cluster.
#[derive(Debug, Serialize, ToSchema)]
struct NodeStatus {
    /// The node that was asked.
    node: String,
    /// Why it cannot serve, where that is so.
    not_ready: Option<String>,
    raft: RaftStatus,
    /// Its part in every Raft group, that of the locks first.
    groups: Vec<GroupStatus>,
    /// Every node of the cluster.
    nodes: Vec<Node>,
}

/// A node's part in the Raft group that holds the locks.
#[derive(Debug, Serialize, ToSchema)]
struct RaftStatus {
    #[serde(flatten)]
    part: Part,
    voters: Vec<String>,
    learners: Vec<String>,
}

/// A node's part in one Raft group.
#[derive(Debug, Serialize, ToSchema)]
struct GroupStatus {
    /// `locks`, `cache`, `control`, or the shard of the queues.
    group: String,
    #[serde(flatten)]
    part: Part,
}

/// What a node does in a Raft group, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
struct Part {
    /// `leader`, `follower`, `candidate` or `learner`.
    role: &'static str,
    term: u64,
    /// The leader, where one is known.
    leader: Option<String>,
    commit_index: u64,
    applied_index: u64,
    last_index: u64,
}

/// A node of the cluster.
#[derive(Debug, Serialize, ToSchema)]
struct Node {
    id: String,
    /// Where it serves clients.
    url: String,
    /// Whether the node that was asked is connected to it.
    up: bool,
    state: MemberState,
}

async fn health() -> &'static str {
    "ok"
}

async fn readiness(State(app): State<App>) -> Result<&'static str, Problem> {
    match app.ready.check() {
        Ok(()) => Ok("ready"),
        Err(missing) => Err(Problem::new(Code::Unavailable, missing.to_string())),
    }
}

async fn status(State(app): State<App>) -> Answer<NodeStatus> {
    let nodes = app.members.nodes().into_iter().map(|node| Node {
        url: format!("{}://{}", app.config.scheme(), node.client),
        up: app.peers.is_up(node.id),
        state: MemberState::of(&app, &node),
        id: node.name,
    });
    Answer(NodeStatus {
        node: app.name.clone(),
        not_ready: app.ready.check().err().map(|missing| missing.to_string()),
        raft: RaftStatus::new(&app.lock_group.status(), &app.members),
        groups: groups(&app),
        nodes: nodes.collect(),
    })
}

/// This node's part in every group.
fn groups(app: &App) -> Vec<GroupStatus> {
    let mut statuses = vec![
        ("locks".to_owned(), app.lock_group.status()),
        ("cache".to_owned(), app.cache_group.status()),
        ("control".to_owned(), app.control.group().status()),
    ];
    let shards = app.queue_groups.iter().enumerate();
    statuses.extend(shards.map(|(shard, group)| (format!("shard-{shard}"), group.status())));
    let statuses = statuses.into_iter();
    let part = |status| Part::new(&status, &app.members);
    statuses.map(|(group, status)| GroupStatus { group, part: part(status) }).collect()
}

async fn metrics(State(context): State<Context>) -> Response {
    let mut exposition = Exposition::default();
    exported::write(&context.app, &mut exposition);
    exported::write_queues(&context.app, &mut exposition).await;
    context.recorder.write(&mut exposition);
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], exposition.finish()).into_response()
}

async fn openapi(State(context): State<Context>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], context.document).into_response()
}

impl RaftStatus {
    fn new(status: &Status, members: &Members) -> Self {
        let names = |nodes: &std::collections::BTreeSet<NodeId>| {
            let mut names: Vec<_> = nodes.iter().map(|node| name_of(*node, members)).collect();
            names.sort_unstable();
            names
        };
        Self {
            part: Part::new(status, members),
            voters: names(&status.configuration.voters),
            learners: names(&status.configuration.learners),
        }
    }
}

impl Part {
    fn new(status: &Status, members: &Members) -> Self {
        Self {
            role: word(status.role),
            term: status.term.get(),
            leader: status.leader.map(|leader| name_of(leader, members)),
            commit_index: status.commit_index.get(),
            applied_index: status.applied_index.get(),
            last_index: status.last_index.get(),
        }
    }
}

fn word(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Leader => "leader",
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate | RoleKind::Candidate => "candidate",
        RoleKind::Learner => "learner",
    }
}

/// What people call a node. A member that is in no file is known by its number.
fn name_of(node: NodeId, members: &Members) -> String {
    members.name(node).unwrap_or_else(|| node.to_string())
}
