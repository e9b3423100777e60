//! Sees to it that every Raft group has the voters that operators have decided on.
//!
//! Nobody steps through a change of members: what is wanted is in the log, and whoever leads a group
//! compares it with who votes there, again and again, and changes one into the other. So it does not
//! matter which node was asked, and who leads or fails meanwhile.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Request;
use bytes::Bytes;
use dss_raft::{
    ChangeError, Configuration, Group, MembershipError, NodeId, RoleKind, StateMachine, Status,
};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::cache_group::cache_id;
use crate::config::NodeConfig;
use crate::control_group::{ControlCommand, MemberCommand, Standing};

/// How often who votes is compared with who is to, where nothing wakes one up.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a node may take to say where it serves clients.
const INTRODUCTION_MAX: Duration = Duration::from_secs(1);

/// A Raft group whose members can be changed, whatever it replicates.
#[async_trait]
trait Changing: Send + Sync {
    fn status(&self) -> Status;
    async fn change(&self, from: Configuration, to: Configuration) -> Result<(), MembershipError>;
}

#[async_trait]
impl<M: StateMachine> Changing for Group<M> {
    fn status(&self) -> Status {
        Group::status(self)
    }

    async fn change(&self, from: Configuration, to: Configuration) -> Result<(), MembershipError> {
        Group::change(self, from, to).await.map(|_index| ())
    }
}

/// From here on, until the end of the node, the groups that it leads get the voters that are wanted.
pub(super) fn start(app: &App, ending: &CancellationToken) {
    let groups = groups(app);
    let all: Vec<_> = groups.iter().map(|(_, group)| Arc::clone(group)).collect();
    let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
    for (name, group) in groups {
        let app = app.clone();
        tasks.push(Box::pin(async move { keep(&app, &name, &*group).await }));
    }
    let app = app.clone();
    tasks.push(Box::pin(async move { conclude(&app, &all).await }));
    for task in tasks {
        let ending = ending.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ending.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// Waits until this node votes in no group, as far as it knows.
pub(super) async fn let_go(app: &App) {
    let groups = groups(app);
    // One that is removed may never hear the end of it: the beginning does.
    let votes = |group: &dyn Changing| group.status().configuration.voters.contains(&app.id);
    while groups.iter().any(|(_, group)| votes(&**group)) {
        sleep(PAUSE).await;
    }
    // The others may still want its vote for the last step.
    sleep(PAUSE * 5).await;
}

/// All groups, by their names.
fn groups(app: &App) -> Vec<(String, Arc<dyn Changing>)> {
    let mut groups: Vec<(String, Arc<dyn Changing>)> = vec![
        ("locks".to_owned(), Arc::new(app.lock_group.clone())),
        ("cache".to_owned(), Arc::new(app.cache_group.clone())),
        ("control".to_owned(), Arc::new(app.control.group().clone())),
    ];
    for (number, group) in app.queue_groups.iter().enumerate() {
        groups.push((format!("shard-{number}"), Arc::new(group.clone())));
    }
    groups
}

/// Whoever is to vote in a group of these voters: a node that is not there yet is waited for.
fn wanted(app: &App, voters: &Configuration) -> Configuration {
    let wanted = app.members.voters().into_iter();
    let is_there = |node: &NodeId| voters.is_voter(*node) || app.peers.is_up(*node);
    Configuration::of_voters(wanted.filter(is_there))
}

/// Changes the voters of one group whenever this node leads it and others are wanted.
async fn keep(app: &App, name: &str, group: &dyn Changing) {
    let mut decided = app.members.decided();
    loop {
        let Status { role, configuration, .. } = group.status();
        let target = wanted(app, &configuration);
        let is_due = role == RoleKind::Leader && !configuration.is_joint();
        if is_due && !target.voters.is_empty() && target.voters != configuration.voters {
            // What this node knows of the wish may be old, as it is after a start.
            if app.control.catch_up().await.is_err() {
                sleep(PAUSE).await;
                continue;
            }
            let target = wanted(app, &configuration);
            if target.voters.is_empty() || target.voters == configuration.voters {
                continue;
            }
            tracing::info!(group = name, voters = target.voters.len(), "changes its voters");
            match group.change(configuration, target).await {
                Ok(()) => tracing::info!(group = name, "has the voters that are wanted"),
                Err(MembershipError::ShutDown) => return,
                // They are others already, or will be under the next leader.
                Err(MembershipError::Refused(ChangeError::Unexpected { .. })) => {}
                Err(error) => tracing::warn!(group = name, "its voters are not changed: {error}"),
            }
        }
        tokio::select! {
            _ = decided.changed() => {}
            () = sleep(PAUSE) => {}
        }
    }
}

/// Notes where nodes serve clients, and forgets those that have left everything.
async fn conclude(app: &App, groups: &[Arc<dyn Changing>]) {
    loop {
        if app.control.group().status().role == RoleKind::Leader {
            for node in app.members.nodes() {
                let command = match app.members.standing(&node.name) {
                    Some(Standing::Belongs) => introduction(app, &node).await,
                    Some(Standing::Leaves) if has_left(app, &node, groups) => {
                        Some(MemberCommand::Forget { name: node.name })
                    }
                    _ => None,
                };
                if let Some(command) = command {
                    // What cannot be committed now is found to be due again.
                    let _ = app.control.propose(&ControlCommand::Members(command)).await;
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// Whether a node votes nowhere, as far as this one knows, and is nobody's home.
fn has_left(app: &App, node: &NodeConfig, groups: &[Arc<dyn Changing>]) -> bool {
    let votes = |group: &Arc<dyn Changing>| group.status().configuration.is_member(node.id);
    let is_home = app.view.borrow().nodes().any(|member| member == cache_id(node.id));
    !is_home && !groups.iter().any(votes)
}

/// What a node says of where it serves clients, where only it knows that.
async fn introduction(app: &App, node: &NodeConfig) -> Option<MemberCommand> {
    #[derive(Deserialize)]
    struct Said {
        nodes: Vec<Listed>,
    }
    #[derive(Deserialize)]
    struct Listed {
        id: String,
        url: String,
    }
    if !node.client.as_str().is_empty() || !app.peers.is_up(node.id) {
        return None;
    }
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = axum::http::Uri::from_static("/v1/status");
    let answer = timeout(INTRODUCTION_MAX, app.peers.forward(node.id, request)).await.ok()?.ok()?;
    let Said { nodes } = serde_json::from_slice(answer.body()).ok()?;
    let listed = nodes.into_iter().find(|listed| listed.id == node.name)?;
    let (_, client) = listed.url.split_once("://")?;
    Some(MemberCommand::Serves { name: node.name.clone(), client: client.to_owned() })
}
