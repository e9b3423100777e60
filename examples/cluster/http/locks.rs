//! Locks.

mod several;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use dss_lock::{
    AcquireError, AcquireRequest, FencingToken, Grant, Limit, LockInfo, LockName, Mode, OwnerId,
    ReleaseError, ReleaseRequest, RequestId, ServiceError, SessionId, Wait,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::Type;

use super::extract::{Answer, Json, Name, Named, Query};
use super::metrics::{Counter, Recorder};
use super::problem::{Code, Problem};
use super::refusal::Refusal;
use super::route::{Access, Route};
use super::routing::{Conduct, REQUEST_ID};
use super::sessions::expired;
use super::values::{TtlMs, WaitMs};
use crate::app::App;

/// How many locks a page has where the client does not say, and at most.
const PAGE_LOCKS: usize = 100;

pub(crate) fn routes() -> Vec<Route> {
    let mut routes = routes_of_one();
    routes.extend([several::route()]);
    routes.extend(waits::routes());
    routes.into_iter().map(Route::of_locks).collect()
}

fn routes_of_one() -> Vec<Route> {
    vec![
        Route::post("/v1/locks/{name}/acquire", Access::Writer, acquire)
            .named("acquireLock", "Takes a lock, waiting for it where it is held.")
            .conduct(Conduct::Acquires)
            .takes::<Acquire>()
            .answers::<Granted>(StatusCode::OK, "The lock is the session's.")
            .refuses(&[
                Code::LockHeld,
                Code::WaitTimeout,
                Code::Deadlock,
                Code::OwnerBusy,
                Code::SessionExpired,
            ]),
        Route::post("/v1/locks/{name}/release", Access::Writer, release)
            .named("releaseLock", "Gives a lock back.")
            .takes::<Release>()
            .answers::<Released>(StatusCode::OK, "The lock is no longer the session's.")
            .refuses(&[Code::NotHolder, Code::StaleToken]),
        Route::post("/v1/locks/{name}/downgrade", Access::Writer, downgrade)
            .named("downgradeLock", "Makes an exclusive hold shared, so that readers are let in.")
            .conduct(Conduct::ActsIdempotently)
            .takes::<Release>()
            .answers::<Granted>(StatusCode::OK, "The lock is held shared, by the same token.")
            .refuses(&[Code::NotHolder, Code::StaleToken]),
        Route::post("/v1/locks/{name}/validate", Access::Writer, validate)
            .named("validateToken", "Asks whether a grant still holds.")
            .conduct(Conduct::Reads)
            .takes::<Validate>()
            .answers::<Valid>(StatusCode::OK, "It does.")
            .refuses(&[Code::StaleToken]),
        Route::get("/v1/locks/{name}", Access::Reader, show)
            .named("getLock", "Shows a lock that is held, with who waits for it.")
            .answers::<Lock>(StatusCode::OK, "The lock.")
            .refuses(&[Code::NotFound]),
        Route::get("/v1/locks", Access::Reader, list)
            .named("listLocks", "Lists locks that are held, by name.")
            .query("prefix", "Only those whose names begin with this.", Type::String)
            .query("limit", "How many at most: 1 to 1000, 100 where left out.", Type::Integer)
            .query("after", "Only those behind this name: `next` of the last page.", Type::String)
            .answers::<Locks>(StatusCode::OK, "A page of locks."),
        Route::delete("/v1/locks/{name}", Access::Admin, force_release)
            .named("forceRelease", "Takes a lock away from all who hold it.")
            .conduct(Conduct::ActsIdempotently)
            .answers_nothing("Nobody holds it any more."),
    ]
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Mode)]
enum ModeName {
    /// By one alone.
    #[default]
    Exclusive,
    /// By any number together.
    Shared,
}

/// What to acquire a lock with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Acquire {
    /// Whose it shall be. One that does not exist is created.
    session: String,
    /// Tells apart tasks that share a session.
    owner: Option<String>,
    /// How it is held; exclusive where left out.
    mode: Option<ModeName>,
    /// How long to wait for it; 0, where left out, is not at all.
    #[schema(inline)]
    wait_ms: Option<WaitMs>,
    /// For how long the session lives after its last sign of life. Left out, one that exists keeps
    /// its own, and a new one gets 30 s.
    #[schema(inline)]
    ttl_ms: Option<TtlMs>,
    /// Names this request: however often it is sent, the answer is the same.
    request_id: Option<String>,
    /// Whether taking a lock that is held already is counted, so that it takes one more release.
    #[serde(default)]
    reentrant: bool,
}

/// A lock that was granted.
#[derive(Debug, Serialize, ToSchema)]
struct Granted {
    lock: String,
    session: String,
    mode: ModeName,
    /// Greater than that of every earlier grant of any lock.
    fencing_token: u64,
}

/// What to release or downgrade a lock with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Release {
    /// Whose it is.
    session: String,
    /// Which task of the session.
    owner: Option<String>,
    /// The grant that is meant; any, where left out.
    fencing_token: Option<u64>,
}

/// A lock was released.
#[derive(Debug, Serialize, ToSchema)]
struct Released {
    /// Always `true`.
    released: bool,
}

/// Which grant to ask for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Validate {
    fencing_token: u64,
}

/// A grant holds.
#[derive(Debug, Serialize, ToSchema)]
struct Valid {
    /// Always `true`.
    valid: bool,
}

/// A lock that is held.
#[derive(Debug, Serialize, ToSchema)]
struct Lock {
    lock: String,
    mode: ModeName,
    holders: Vec<Holder>,
    /// Who waits for it, the next one first.
    queue: Vec<Waiter>,
    /// The newest that it has granted.
    fencing_token: u64,
}

/// Who holds a lock.
#[derive(Debug, Serialize, ToSchema)]
struct Holder {
    session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    owner: String,
    mode: ModeName,
    fencing_token: u64,
}

/// Who waits for a lock.
#[derive(Debug, Serialize, ToSchema)]
struct Waiter {
    session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    owner: String,
    mode: ModeName,
}

/// Which locks to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
    after: Option<String>,
}

/// A page of locks.
#[derive(Debug, Serialize, ToSchema)]
struct Locks {
    locks: Vec<Lock>,
    /// What to ask for the next page with; `null` on the last one.
    next: Option<String>,
}

impl Named for LockName {
    fn named(name: String) -> Result<Self, String> {
        Self::new(name).map_err(|error| error.to_string())
    }
}

async fn acquire(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Name(lock): Name<LockName>,
    headers: HeaderMap,
    Json(body): Json<Acquire>,
) -> Result<Answer<Granted>, Refusal> {
    let mut request = body.into_request(lock)?;
    if request.request_id.is_none() {
        request.request_id = given_name(&headers)?;
    }
    let waiting = (request.wait != Wait::Try).then(|| recorder.wait_for_lock());
    let acquired = app.locks.acquire(request).await;
    drop(waiting);
    match acquired {
        Ok(grant) => {
            recorder.count(Counter::LocksGranted, 1);
            Ok(Answer(grant.into()))
        }
        Err(error) => {
            count_refusal(&error, &recorder);
            Err(error.into())
        }
    }
}

impl Acquire {
    fn into_request(self, lock: LockName) -> Result<AcquireRequest, Problem> {
        Ok(AcquireRequest {
            lock,
            session: session(self.session)?,
            owner: owner(self.owner)?,
            mode: self.mode.unwrap_or_default().into(),
            wait: wait(self.wait_ms),
            ttl: self.ttl_ms.map(TtlMs::get),
            request_id: request_id(self.request_id)?,
            reentrant: self.reentrant,
        })
    }
}

fn wait(wait_ms: Option<WaitMs>) -> Wait {
    match wait_ms.map(WaitMs::get) {
        None | Some(Duration::ZERO) => Wait::Try,
        Some(wait) => Wait::For(wait),
    }
}

fn request_id(name: Option<String>) -> Result<Option<RequestId>, Problem> {
    name.map(RequestId::new)
        .transpose()
        .map_err(|error| Problem::invalid_field("request_id", error))
}

/// The name that the gateway gave the request.
fn given_name(headers: &HeaderMap) -> Result<Option<RequestId>, Problem> {
    let name = headers.get(REQUEST_ID).and_then(|name| name.to_str().ok());
    name.map(RequestId::new)
        .transpose()
        .map_err(|error| Problem::invalid_field(REQUEST_ID.as_str(), error))
}

async fn release(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    Name(lock): Name<LockName>,
    Json(body): Json<Release>,
) -> Result<Answer<Released>, Refusal> {
    let request = body.into_request(lock)?;
    app.locks.release(request).await?;
    recorder.count(Counter::LocksReleased, 1);
    Ok(Answer(Released { released: true }))
}

async fn downgrade(
    State(app): State<App>,
    Name(lock): Name<LockName>,
    Json(body): Json<Release>,
) -> Result<Answer<Granted>, Refusal> {
    let request = body.into_request(lock)?;
    Ok(Answer(app.locks.downgrade(request).await?.into()))
}

impl Release {
    fn into_request(self, lock: LockName) -> Result<ReleaseRequest, Problem> {
        Ok(ReleaseRequest {
            lock,
            session: session(self.session)?,
            owner: owner(self.owner)?,
            token: self.fencing_token.map(FencingToken::new),
        })
    }
}

async fn validate(
    State(app): State<App>,
    Name(lock): Name<LockName>,
    Json(body): Json<Validate>,
) -> Result<Answer<Valid>, Refusal> {
    let token = FencingToken::new(body.fencing_token);
    if app.locks.validate(lock, token).await? {
        return Ok(Answer(Valid { valid: true }));
    }
    Err(Problem::new(Code::StaleToken, "the lock is not held by that grant").into())
}

async fn show(State(app): State<App>, Name(lock): Name<LockName>) -> Result<Answer<Lock>, Refusal> {
    match app.locks.lock(lock).await? {
        Some(info) => Ok(Answer(info.into())),
        None => Err(Problem::new(Code::NotFound, "the lock is free").into()),
    }
}

async fn list(State(app): State<App>, Query(page): Query<Page>) -> Result<Answer<Locks>, Refusal> {
    let limit = page.limit.unwrap_or(PAGE_LOCKS);
    if !(1..=dss_lock::PAGE_LOCKS_MAX).contains(&limit) {
        let problem = format_args!("{limit} is not from 1 to {}", dss_lock::PAGE_LOCKS_MAX);
        return Err(Problem::invalid_field("limit", problem).into());
    }
    let page = app.locks.locks(page.prefix, page.after, limit).await?;
    Ok(Answer(Locks { locks: page.locks.into_iter().map(Lock::from).collect(), next: page.next }))
}

async fn force_release(
    State(app): State<App>,
    Name(lock): Name<LockName>,
) -> Result<StatusCode, Refusal> {
    app.locks.force_release(lock).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn session(name: String) -> Result<SessionId, Problem> {
    SessionId::new(name).map_err(|error| Problem::invalid_field("session", error))
}

fn owner(name: Option<String>) -> Result<OwnerId, Problem> {
    OwnerId::new(name.unwrap_or_default()).map_err(|error| Problem::invalid_field("owner", error))
}

impl From<ModeName> for Mode {
    fn from(mode: ModeName) -> Self {
        match mode {
            ModeName::Exclusive => Self::Exclusive,
            ModeName::Shared => Self::Shared,
        }
    }
}

impl From<Mode> for ModeName {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Exclusive => Self::Exclusive,
            Mode::Shared => Self::Shared,
        }
    }
}

impl From<Grant> for Granted {
    fn from(grant: Grant) -> Self {
        Self {
            lock: grant.lock.as_str().to_owned(),
            session: grant.session.as_str().to_owned(),
            mode: grant.mode.into(),
            fencing_token: grant.token.get(),
        }
    }
}

impl From<LockInfo> for Lock {
    fn from(info: LockInfo) -> Self {
        let holders = info.holders.into_iter().map(|holder| Holder {
            session: holder.session.as_str().to_owned(),
            owner: holder.owner.as_str().to_owned(),
            mode: holder.mode.into(),
            fencing_token: holder.token.get(),
        });
        let queue = info.queue.into_iter().map(|waiter| Waiter {
            session: waiter.session.as_str().to_owned(),
            owner: waiter.owner.as_str().to_owned(),
            mode: waiter.mode.into(),
        });
        Self {
            lock: info.lock.as_str().to_owned(),
            mode: info.mode.map(ModeName::from).unwrap_or_default(),
            holders: holders.collect(),
            queue: queue.collect(),
            fencing_token: info.token.get(),
        }
    }
}

fn count_refusal(error: &AcquireError, recorder: &Recorder) {
    let counter = match error {
        AcquireError::Held { .. } => Counter::LocksRefused,
        AcquireError::TimedOut => Counter::LockWaitsTimedOut,
        AcquireError::Deadlock { .. } => Counter::Deadlocks,
        _ => return,
    };
    recorder.count(counter, 1);
}

impl From<AcquireError> for Refusal {
    fn from(error: AcquireError) -> Self {
        let problem = match error {
            AcquireError::Held { holders } => {
                let detail = format!("{} hold it, and wait_ms is 0", holders.len());
                Problem::new(Code::LockHeld, detail)
            }
            AcquireError::TimedOut => Problem::new(Code::WaitTimeout, "wait_ms went by"),
            AcquireError::Deadlock { cycle } => {
                let cycle = cycle.into_iter().map(|session| session.as_str().to_owned());
                Problem::deadlock(cycle.collect())
            }
            AcquireError::OwnerBusy => {
                Problem::new(Code::OwnerBusy, "an owner waits for one lock at a time")
            }
            AcquireError::SessionExpired => expired(),
            AcquireError::Cancelled => Problem::new(Code::Unavailable, "the wait was cancelled"),
            AcquireError::AlreadyHolds { lock } => Problem::already_holds(lock.as_str().to_owned()),
            AcquireError::Limit(limit @ Limit::LocksPerRequest) => {
                Problem::invalid_field("locks", limit)
            }
            AcquireError::Limit(limit) => Problem::new(Code::Overloaded, limit.to_string()),
            AcquireError::Service(error) => return error.into(),
            other => Problem::new(Code::OutcomeUnknown, other.to_string()),
        };
        problem.into()
    }
}

impl From<ReleaseError> for Refusal {
    fn from(error: ReleaseError) -> Self {
        let problem = match error {
            ReleaseError::NotHolder => {
                Problem::new(Code::NotHolder, "this session and owner do not hold it")
            }
            ReleaseError::StaleToken => {
                Problem::new(Code::StaleToken, "it is held by another grant")
            }
            ReleaseError::Service(error) => return error.into(),
            other => Problem::new(Code::OutcomeUnknown, other.to_string()),
        };
        problem.into()
    }
}

impl From<ServiceError> for Refusal {
    fn from(error: ServiceError) -> Self {
        let code = match error {
            ServiceError::NotLeader { leader } => return Self::not_leader(leader),
            ServiceError::Overloaded => Code::Overloaded,
            ServiceError::Unavailable => Code::Unavailable,
            // Of a failure that is not known here, nothing may be promised.
            _ => Code::OutcomeUnknown,
        };
        Problem::new(code, error.to_string()).into()
    }
}
