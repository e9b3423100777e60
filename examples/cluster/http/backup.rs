//! All that the cluster has replicated, for a backup.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use dss_raft::{Group, GroupId, ReadError, StateMachine};

use super::problem::{Code, Problem};
use super::route::{Access, Route};
use crate::app::App;
use crate::backup::{Backup, SavedGroup};
use crate::node::{CACHE, CONTROL, FIRST_SHARD, LOCKS};

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/backup", Access::Admin, backup)
            .named("getBackup", "All that the cluster has replicated, to restore it from.")
            .answers_bytes("A backup, for `cluster restore`."),
    ]
}

async fn backup(State(app): State<App>) -> Result<Response, Problem> {
    let mut groups = vec![
        save(LOCKS, &app.lock_group).await?,
        save(CACHE, &app.cache_group).await?,
        save(CONTROL, app.control.group()).await?,
    ];
    for (shard, group) in (FIRST_SHARD..).zip(&app.queue_groups) {
        groups.push(save(GroupId::new(shard), group).await?);
    }
    let backup = Backup { cluster: app.config.cluster().to_owned(), groups };
    let octets = HeaderValue::from_static("application/octet-stream");
    Ok(([(header::CONTENT_TYPE, octets)], Body::from(backup.encode())).into_response())
}

/// The state of a group that holds all that was acknowledged before the call.
async fn save<M: StateMachine>(id: GroupId, group: &Group<M>) -> Result<SavedGroup, Problem> {
    let state = group.read(M::snapshot).await.map_err(refusal)?;
    let status = group.status();
    // What was applied may be told a little late: nothing that is saved has a higher index.
    let index = status.last_index.max(status.commit_index).max(status.applied_index);
    Ok(SavedGroup { group: id.get(), term: status.term.get(), index: index.get(), state })
}

fn refusal(error: ReadError) -> Problem {
    Problem::new(Code::Unavailable, error.to_string())
}
