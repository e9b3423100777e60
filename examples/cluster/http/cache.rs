//! The cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dss_mesi::{CacheError, CacheNode, Condition, LineState, NodeId};
use serde::Serialize;
use utoipa::ToSchema;

use super::cache_version::{VersionNumber, Wanted, condition, etag};
use super::extract::{Answer, Name, Named, Raw};
use super::metrics::Recorder;
use super::problem::{Code, Problem};
use super::route::{Access, Route};
use super::routing::Conduct;
use crate::app::App;

/// Whether this node had the line.
const CACHE: HeaderName = HeaderName::from_static("x-cache");
/// In how many lives of the node an operation is tried. Two lives rarely end during one; that of a
/// node that shuts down is its last.
const LIVES_MAX: u32 = 3;
/// How it holds the line.
const STATE: HeaderName = HeaderName::from_static("x-mesi-state");

pub(crate) fn routes() -> Vec<Route> {
    let path = "/v1/cache/{key}";
    let version = "The version of the value.";
    vec![
        Route::get(path, Access::Reader, get)
            .named("getValue", "Reads a value; this node takes the line.")
            .answers_bytes("The value.")
            .with_header("etag", version)
            .with_header("x-cache", "`hit` where this node had the line, else `miss`.")
            .with_header("x-mesi-state", "How this node holds the line: `M`, `E` or `S`.")
            .directed()
            .refuses(&[Code::NotFound]),
        Route::put(path, Access::Writer, put)
            .named("putValue", "Writes a value.")
            .conduct(Conduct::Writes)
            .takes_bytes()
            .header("if-match", "Only where this is the version of the value.")
            .header("if-none-match", "`*`: only where there is no value.")
            .directed()
            .answers_nothing("It is written.")
            .with_header("etag", version)
            .refuses(&[Code::VersionMismatch])
            .fenced(),
        Route::delete(path, Access::Writer, delete)
            .named("deleteValue", "Removes a value.")
            .conduct(Conduct::Writes)
            .header("if-match", "Only where this is the version of the value.")
            .directed()
            .answers_nothing("It is removed.")
            .refuses(&[Code::NotFound, Code::VersionMismatch])
            .fenced(),
        Route::get("/v1/cache/{key}/line", Access::Reader, line)
            .named("getLine", "Shows how each node holds the line of a key.")
            .answers::<Line>(StatusCode::OK, "The line, as its home sees it."),
    ]
}

/// The line of a key.
#[derive(Debug, Serialize, ToSchema)]
struct Line {
    key: String,
    /// The node that decides who may have it.
    home: String,
    /// The version of the value; `null` where there is none.
    version: Option<VersionNumber>,
    /// `M`, `E`, `S` or `I` for each node.
    states: BTreeMap<String, char>,
}

/// The key of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key(String);

impl Named for Key {
    fn named(name: String) -> Result<Self, String> {
        Ok(Self(name))
    }
}

impl Key {
    fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

async fn get(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Name(key): Name<Key>,
) -> Result<Response, Problem> {
    let key = key.into_bytes();
    let get = |cache: CacheNode| {
        let key = key.clone();
        async move { cache.get(key).await }
    };
    let Some(read) = in_this_life(&app, get).await? else {
        return Err(absent());
    };
    if read.hit {
        recorder.count_hit(read.state);
    }
    let hit = HeaderValue::from_static(if read.hit { "hit" } else { "miss" });
    let state = HeaderValue::from_static(letter(read.state));
    let octets = HeaderValue::from_static("application/octet-stream");
    let headers = [
        (header::CONTENT_TYPE, octets),
        (header::ETAG, etag(read.version)),
        (CACHE, hit),
        (STATE, state),
    ];
    Ok((headers, read.value).into_response())
}

async fn put(
    State(app): State<App>,
    Name(key): Name<Key>,
    headers: HeaderMap,
    Raw(value): Raw,
) -> Result<Response, Problem> {
    let (key, condition) = (key.into_bytes(), possible(&headers)?);
    let put = |cache: CacheNode| {
        let (key, value) = (key.clone(), value.clone());
        async move { cache.put(key, value, condition).await }
    };
    let version = in_this_life(&app, put).await?;
    Ok((StatusCode::NO_CONTENT, [(header::ETAG, etag(version))]).into_response())
}

async fn delete(
    State(app): State<App>,
    Name(key): Name<Key>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        let problem = "what is not there cannot be removed";
        return Err(Problem::invalid_field("if-none-match", problem));
    }
    let (key, condition) = (key.into_bytes(), possible(&headers)?);
    let remove = |cache: CacheNode| {
        let key = key.clone();
        async move { cache.remove(key, condition).await }
    };
    let was_there = in_this_life(&app, remove).await?;
    if !was_there {
        return Err(absent());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn line(State(app): State<App>, Name(key): Name<Key>) -> Result<Answer<Line>, Problem> {
    let inspect = |cache: CacheNode| {
        let key = key.clone().into_bytes();
        async move { cache.line(key).await }
    };
    let line = in_this_life(&app, inspect).await?;
    let name = |node: NodeId| {
        let named = app.members.name(dss_raft::NodeId::new(node.get()));
        named.unwrap_or_else(|| node.to_string())
    };
    // The home knows of holders only; whoever is in the view and holds nothing has it invalid.
    let mut states: BTreeMap<_, _> =
        app.view.borrow().nodes().map(|node| (name(node), LineState::Invalid.letter())).collect();
    states.extend(line.states.iter().map(|(node, state)| (name(*node), state.letter())));
    let home = name(line.home);
    Ok(Answer(Line { key: key.0, home, version: line.version.map(VersionNumber::from), states }))
}

/// Does something with the cache that serves now. Where that ends before it has begun, the node
/// has another life by then, with another cache.
async fn in_this_life<T, F: Future<Output = Result<T, CacheError>>>(
    app: &App,
    operation: impl Fn(CacheNode) -> F,
) -> Result<T, CacheError> {
    for _ in 1..LIVES_MAX {
        match operation(app.cache()).await {
            Err(CacheError::ShutDown) => {}
            done => return done,
        }
    }
    operation(app.cache()).await
}

fn letter(state: LineState) -> &'static str {
    match state {
        LineState::Modified => "M",
        LineState::Exclusive => "E",
        LineState::Shared => "S",
        LineState::Invalid => "I",
    }
}

fn possible(headers: &HeaderMap) -> Result<Condition, Problem> {
    match condition(headers)? {
        Wanted::Condition(condition) => Ok(condition),
        Wanted::Impossible => {
            Err(Problem::new(Code::VersionMismatch, "no value ever had that version"))
        }
    }
}

fn absent() -> Problem {
    Problem::new(Code::NotFound, "there is no value")
}

impl From<CacheError> for Problem {
    fn from(error: CacheError) -> Self {
        let code = match error {
            CacheError::VersionMismatch { current: Some(current) } => {
                return Self::version_mismatch(etag(current));
            }
            CacheError::VersionMismatch { current: None } => Code::VersionMismatch,
            CacheError::TooLarge { .. } => Code::PayloadTooLarge,
            CacheError::LeaseExpired
            | CacheError::NoView
            | CacheError::Unavailable
            | CacheError::ShutDown => Code::Unavailable,
            // Of a failure that is not known here, nothing may be promised.
            _ => Code::OutcomeUnknown,
        };
        Self::new(code, error.to_string())
    }
}
