//! The audit log: what goes into it, and how it is read.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use dss_raft::NodeId;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;

use super::extract::{Answer, Query};
use super::problem::{Code, PROBLEM_JSON, Problem};
use super::refusal::Refusal;
use super::route::{Access, Route};
use crate::app::App;
use crate::audit::{AuditLog, Entry, Outcome, Page, Record, page};
use crate::config::ClusterConfig;
use crate::control_group::AuditHead;
use crate::hex;

/// How many entries are answered where nothing is said, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(crate) fn routes() -> Vec<Route> {
    let description = "A node's log, oldest first.";
    vec![
        Route::get("/v1/audit", Access::Admin, show)
            .named("getAudit", "Shows who did what, through one node.")
            .query("limit", "How many entries: 1 to 1000; 100 where left out.", Type::Integer)
            .query(
                "after",
                "Only those after the entry with this number; the newest ones where left out.",
                Type::Integer,
            )
            .query("node", "Of which node; of the one that is asked where left out.", Type::String)
            .answers::<AuditPage>(StatusCode::OK, description)
            .refuses(&[Code::NotFound]),
    ]
}

/// Who answered a request, where it was another node than the one that was asked: an extension of
/// the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AnsweredAt(pub(super) NodeId);

/// What the gateway writes down, where it does.
#[derive(Clone)]
pub(super) struct Auditing {
    log: AuditLog,
    node: String,
    config: Arc<ClusterConfig>,
}

impl Auditing {
    /// What is written down at `app`, if anything is.
    pub(super) fn of(app: &App) -> Option<Self> {
        let (node, config) = (app.name.clone(), Arc::clone(&app.config));
        app.audit.clone().map(|log| Self { log, node, config })
    }

    /// Somebody is about to do this: done only where it can be written down.
    ///
    /// # Errors
    ///
    /// That it cannot.
    pub(super) fn begin(&self, entry: Entry) -> Result<Record, Problem> {
        if !self.log.is_writable() {
            let detail = "changes are refused: the audit log cannot be written";
            return Err(Problem::new(Code::Unavailable, detail));
        }
        Ok(self.log.begin(entry))
    }

    /// The answer to what was begun, as it may be given once it is written down.
    pub(super) async fn end(&self, record: Record, response: Response) -> Response {
        let answered_at = response.extensions().get::<AnsweredAt>().copied();
        let (response, code) = code_of(response).await;
        let status = response.status();
        let node = answered_at.and_then(|AnsweredAt(node)| self.config.name(node));
        let routed_to = node.unwrap_or(&self.node).to_owned();
        let outcome = Outcome { status: Some(status.as_u16()), code, routed_to };
        match record.end(outcome).await {
            Ok(()) => response,
            Err(error) if status.is_success() || status == Code::OutcomeUnknown.status() => {
                let detail = format!("it was taken on, but {error}");
                Problem::new(Code::OutcomeUnknown, detail).into_response()
            }
            Err(error) => Problem::new(Code::Unavailable, error.to_string()).into_response(),
        }
    }

    /// A request that was refused since its client may not make it. That is answered even where
    /// it cannot be written down at once: nothing was done.
    pub(super) async fn refused(&self, entry: Entry, response: Response) -> Response {
        let (response, code) = code_of(response).await;
        let status = Some(response.status().as_u16());
        let outcome = Outcome { status, code, routed_to: self.node.clone() };
        let _ = self.log.begin(entry).end(outcome).await;
        response
    }
}

impl std::fmt::Debug for Auditing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Auditing").field("node", &self.node).finish_non_exhaustive()
    }
}

/// What the body of a batch names: the handler checks it, and refuses one that makes no sense.
pub(super) fn names_in(body: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Batch {
        locks: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        lock: String,
    }
    let batch = serde_json::from_slice(body);
    batch
        .map(|Batch { locks }| locks.into_iter().map(|named| named.lock).collect())
        .unwrap_or_default()
}

/// The code of a problem document, and the answer that it came with.
async fn code_of(response: Response) -> (Response, Option<String>) {
    #[derive(Deserialize)]
    struct Coded {
        code: String,
    }
    let is_problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON);
    if !is_problem {
        return (response, None);
    }
    let (head, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        return (Response::from_parts(head, Body::empty()), None);
    };
    let body = body.to_bytes();
    let code = serde_json::from_slice(&body).ok().map(|Coded { code }| code);
    (Response::from_parts(head, Body::from(body)), code)
}

/// Which entries to show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    limit: Option<usize>,
    after: Option<u64>,
    node: Option<String>,
}

/// Entries of a node's log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditPage {
    /// The node whose log it is.
    node: String,
    /// Whether it writes one.
    enabled: bool,
    /// In their order: as they stand in the log.
    entries: Vec<serde_json::Value>,
    /// What to say as `after` to get the next ones, where there are more.
    next: Option<String>,
    /// How far the cluster knows the logs of all nodes to go.
    heads: Vec<AuditHeadDetails>,
}

/// An entry that a node's log must have.
#[derive(Debug, Serialize, ToSchema)]
struct AuditHeadDetails {
    node: String,
    /// The name of the chain; a node begins another one with another key.
    chain: String,
    /// The number of the entry.
    sequence: u64,
    /// The code that chains it to those before.
    mac: String,
}

impl From<&AuditHead> for AuditHeadDetails {
    fn from(head: &AuditHead) -> Self {
        Self {
            node: head.node.clone(),
            chain: hex::encode(&head.chain),
            sequence: head.sequence,
            mac: hex::encode(&head.mac),
        }
    }
}

async fn show(
    State(app): State<App>,
    Query(Asked { limit, after, node }): Query<Asked>,
) -> Result<Answer<AuditPage>, Refusal> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let problem = format!("must be from 1 to {LIMIT_MAX}");
        return Err(Problem::invalid_field("limit", problem).into());
    }
    match node.map(|name| app.members.node(&name).map(|node| node.id)) {
        None => {}
        Some(Some(id)) if id == app.id => {}
        Some(Some(id)) => return Err(Refusal::not_leader(Some(id))),
        Some(None) => return Err(Problem::new(Code::NotFound, "there is no such node").into()),
    }
    let found = match app.audit.clone() {
        Some(log) => read(log, after, limit).await?,
        None => Page::default(),
    };
    let heads = app.control.state().heads.iter().map(AuditHeadDetails::from).collect();
    Ok(Answer(AuditPage {
        node: app.name.clone(),
        enabled: app.audit.is_some(),
        entries: found.entries,
        next: found.next.map(|next| next.to_string()),
        heads,
    }))
}

async fn read(log: AuditLog, after: Option<u64>, limit: usize) -> Result<Page, Problem> {
    let last = log.sequence();
    let after = after.unwrap_or(last.saturating_sub(limit as u64));
    let read = tokio::task::spawn_blocking(move || page(log.folder(), after, last, limit));
    read.await
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Problem::new(Code::Unavailable, "the audit log cannot be read"))
}
