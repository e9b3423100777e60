//! Who belongs to the cluster.

use axum::extract::State;
use axum::http::StatusCode;
use dss_raft::NodeId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Json, Name, Named};
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use super::routing::Conduct;
use crate::app::App;
use crate::config::{NodeConfig, raft_id};
use crate::control_group::{ControlCommand, ControlReply, MemberCommand, MemberReply, Standing};
use crate::tls;

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/members", Access::Reader, list)
            .named("listMembers", "Shows who belongs to the cluster, comes or leaves.")
            .answers::<MemberList>(StatusCode::OK, "As this node sees it."),
        Route::post("/v1/members", Access::Admin, add)
            .named("addMember", "Adds a node: it gets all data, then votes.")
            .conduct(Conduct::ActsIdempotently)
            .takes::<Added>()
            .answers::<Member>(StatusCode::OK, "It is decided; the state tells how far it is.")
            .refuses(&[Code::AlreadyExists]),
        Route::delete("/v1/members/{id}", Access::Admin, remove)
            .named("removeMember", "Removes a node, be it there or not.")
            .conduct(Conduct::ActsIdempotently)
            .answers_nothing("It is decided; the list of members tells when it is done.")
            .refuses(&[Code::NotFound]),
    ]
}

/// A node to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Added {
    /// What it is called.
    id: String,
    /// Where other nodes reach it: `host:port`, or that with `http://` before it.
    peer_url: String,
}

/// The members of the cluster.
#[derive(Debug, Serialize, ToSchema)]
struct MemberList {
    members: Vec<Member>,
}

/// A member of the cluster.
#[derive(Debug, Serialize, ToSchema)]
struct Member {
    id: String,
    peer_url: String,
    /// Where it serves clients; `null` until it has said so.
    url: Option<String>,
    /// Whether the node that was asked is connected to it.
    up: bool,
    state: MemberState,
}

/// How far a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MemberState {
    /// It is in the file, and was not added yet.
    Known,
    /// It gets the data, and does not vote everywhere.
    Joining,
    /// It votes in every group.
    Member,
    /// It votes in some group, or is home of some keys, and will soon not be.
    Leaving,
}

struct NodeName(String);

impl Named for NodeName {
    fn named(name: String) -> Result<Self, String> {
        Ok(Self(name))
    }
}

impl MemberState {
    /// How far a node is, as far as this one knows.
    pub(super) fn of(app: &App, node: &NodeConfig) -> Self {
        match app.members.standing(&node.name) {
            Some(Standing::Belongs) if votes_everywhere(app, node.id) => Self::Member,
            Some(Standing::Belongs) => Self::Joining,
            Some(Standing::Leaves | Standing::Gone) => Self::Leaving,
            None => Self::Known,
        }
    }
}

impl Member {
    fn new(app: &App, node: NodeConfig) -> Self {
        let state = MemberState::of(app, &node);
        let client = node.client.as_str();
        Self {
            up: app.peers.is_up(node.id),
            peer_url: format!("{}://{}", app.config.scheme(), node.peer),
            url: (!client.is_empty()).then(|| format!("{}://{client}", app.config.scheme())),
            id: node.name,
            state,
        }
    }
}

/// Whether a node votes in every group, as far as this one knows.
fn votes_everywhere(app: &App, node: NodeId) -> bool {
    let votes = |status: dss_raft::Status| {
        status.configuration.voters.contains(&node) && !status.configuration.is_joint()
    };
    votes(app.lock_group.status())
        && votes(app.cache_group.status())
        && votes(app.control.group().status())
        && app.queue_groups.iter().all(|group| votes(group.status()))
}

async fn list(State(app): State<App>) -> Answer<MemberList> {
    let members = app.members.nodes().into_iter().map(|node| Member::new(&app, node)).collect();
    Answer(MemberList { members })
}

async fn add(
    State(app): State<App>,
    Json(Added { id, peer_url }): Json<Added>,
) -> Result<Answer<Member>, Problem> {
    let address = ["http://", "https://"].iter().find_map(|scheme| peer_url.strip_prefix(scheme));
    let peer = address.unwrap_or(&peer_url).trim_end_matches('/');
    let node = NodeConfig::added(&id, peer, "")
        .map_err(|problem| Problem::invalid(format!("id or peer_url: {problem}")))?;
    up_to_date(&app).await?;
    let members = app.members.nodes();
    if app.config.tls_folder().is_some() {
        tls::check_name(&id, members.iter().map(|other| other.name.as_str()))
            .map_err(|problem| Problem::invalid(format!("id: {problem}")))?;
    }
    let taken = |detail: &str| Problem::new(Code::AlreadyExists, detail);
    for other in members.iter().filter(|other| other.name != id) {
        if other.peer == node.peer {
            return Err(taken("another node has that address"));
        }
        if other.id == node.id {
            return Err(taken("another node's name has the same hash; choose another one"));
        }
    }
    let in_file = app.config.node(&id);
    match app.members.standing(&id) {
        Some(Standing::Belongs) if in_file.is_some_and(|known| known.peer == node.peer) => {}
        // A node of the file is where the file says, for all others that have it.
        _ if in_file.is_some_and(|known| known.peer != node.peer) => {
            return Err(taken("the cluster's file has that node at another address"));
        }
        _ => match decide(&app, MemberCommand::Add { name: id.clone(), peer: peer.to_owned() })
            .await?
        {
            MemberReply::Done => {}
            MemberReply::Full => {
                return Err(Problem::invalid("too many nodes were added and removed already"));
            }
            MemberReply::Exists | MemberReply::Unknown => {
                return Err(taken(
                    "a node of that name is there at another address, or is leaving",
                ));
            }
        },
    }
    let node = app.members.node(&id).unwrap_or(node);
    Ok(Answer(Member::new(&app, node)))
}

async fn remove(
    State(app): State<App>,
    Name(NodeName(id)): Name<NodeName>,
) -> Result<StatusCode, Problem> {
    let unknown = || Problem::new(Code::NotFound, "the cluster has no such node");
    up_to_date(&app).await?;
    match app.members.standing(&id) {
        None | Some(Standing::Gone) => return Err(unknown()),
        Some(Standing::Leaves) => return Ok(StatusCode::NO_CONTENT),
        Some(Standing::Belongs) => {}
    }
    let voters = app.members.voters();
    if voters.len() <= 1 && voters.contains(&raft_id(id.as_bytes())) {
        return Err(Problem::invalid("the last node cannot be removed"));
    }
    match decide(&app, MemberCommand::Remove { name: id }).await? {
        MemberReply::Done => Ok(StatusCode::NO_CONTENT),
        _ => Err(unknown()),
    }
}

/// Waits until this node knows what was decided before.
async fn up_to_date(app: &App) -> Result<(), Problem> {
    let known = app.control.catch_up().await;
    known.map_err(|error| Problem::new(Code::Unavailable, error.to_string()))
}

async fn decide(app: &App, command: MemberCommand) -> Result<MemberReply, Problem> {
    match app.control.propose(&ControlCommand::Members(command)).await {
        Ok(ControlReply::Members(reply)) => {
            // Where this node knows of it only later, the answer says less than it could.
            let _ = app.control.catch_up().await;
            Ok(reply)
        }
        Ok(_) => Err(Problem::new(Code::OutcomeUnknown, "the leader is of another version")),
        Err(error) => Err(Problem::new(Code::OutcomeUnknown, error.to_string())),
    }
}
