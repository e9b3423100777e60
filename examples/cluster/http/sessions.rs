//! Sessions, which own locks.

use axum::extract::State;
use axum::http::StatusCode;
use dss_lock::{FencingToken, LockName, SessionError, SessionId, SessionInfo};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Answer, Json, Name, Named};
use super::problem::{Code, Problem};
use super::refusal::Refusal;
use super::route::{Access, Route};
use super::routing::Conduct;
use super::values::{LockDelayMs, TtlMs, millis};
use crate::app::App;

pub(crate) fn routes() -> Vec<Route> {
    let path = "/v1/sessions/{session}";
    let routes = [
        Route::put(path, Access::Writer, open)
            .named("openSession", "Creates a session or renews it: a sign of life.")
            .conduct(Conduct::ActsIdempotently)
            // A session that is not renewed loses its locks, and whoever has it begins anew.
            .vital()
            .takes::<OpenSession>()
            .answers::<Session>(StatusCode::OK, "The session as it is now.")
            .refuses(&[Code::SessionExpired]),
        Route::get(path, Access::Reader, show)
            .named("getSession", "Shows a session with what it holds and waits for.")
            .answers::<SessionDetails>(StatusCode::OK, "The session.")
            .refuses(&[Code::SessionExpired]),
        Route::delete(path, Access::Writer, close)
            .named("closeSession", "Ends a session: releases all that it holds.")
            .conduct(Conduct::ActsIdempotently)
            .answers_nothing("It is over, or was already."),
    ];
    routes.map(Route::of_locks).into()
}

/// How long a session shall live.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OpenSession {
    /// For how long it lives after its last sign of life. Needed, unless `create` is false.
    #[schema(inline)]
    ttl_ms: Option<TtlMs>,
    /// Where false, a session that is over is refused in place of being created anew, and one that
    /// lives keeps its time to live and its delay.
    #[serde(default = "yes")]
    #[schema(default = true)]
    create: bool,
    /// For how long its locks are granted to nobody after it has expired: time for what it has
    /// sent to arrive, where what the locks protect cannot look at tokens. Left out, a session
    /// that exists keeps its own, and a new one has none.
    #[schema(inline)]
    lock_delay_ms: Option<LockDelayMs>,
}

fn yes() -> bool {
    true
}

/// A session that lives.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    session: String,
    /// For how long it lives after its last sign of life.
    ttl_ms: u64,
    /// How much of that is left.
    expires_in_ms: u64,
    /// Tells apart sessions that bear one name in turn: the log index that it was opened at.
    opened: u64,
    /// The tokens of the grants that it holds.
    fencing_tokens: Vec<u64>,
}

/// A session that lives, and its locks.
#[derive(Debug, Serialize, ToSchema)]
struct SessionDetails {
    session: String,
    /// For how long it lives after its last sign of life.
    ttl_ms: u64,
    /// How much of that is left.
    expires_in_ms: u64,
    /// Tells apart sessions that bear one name in turn: the log index that it was opened at.
    opened: u64,
    /// The tokens of the grants that it holds.
    fencing_tokens: Vec<u64>,
    /// The locks that it holds.
    holds: Vec<String>,
    /// The locks that it waits for.
    waits_for: Vec<String>,
}

impl Named for SessionId {
    fn named(name: String) -> Result<Self, String> {
        Self::new(name).map_err(|error| error.to_string())
    }
}

async fn open(
    State(app): State<App>,
    Name(session): Name<SessionId>,
    Json(body): Json<OpenSession>,
) -> Result<Answer<Session>, Refusal> {
    let info = body.apply(&app, session).await?;
    Ok(Answer(Session {
        session: info.session.as_str().to_owned(),
        ttl_ms: millis(info.ttl),
        expires_in_ms: millis(info.expires_in),
        opened: info.opened,
        fencing_tokens: numbers(&info.tokens),
    }))
}

impl OpenSession {
    async fn apply(self, app: &App, session: SessionId) -> Result<SessionInfo, Refusal> {
        if !self.create {
            if self.ttl_ms.is_some() || self.lock_delay_ms.is_some() {
                let detail = "ttl_ms and lock_delay_ms are for sessions that may be created";
                return Err(Problem::invalid(detail).into());
            }
            return Ok(app.locks.renew_session(session).await?);
        }
        let Some(ttl) = self.ttl_ms else {
            return Err(Problem::invalid("missing field `ttl_ms`").into());
        };
        Ok(match self.lock_delay_ms {
            None => app.locks.open_session(session, ttl.get()).await?,
            Some(delay) => {
                app.locks.open_session_with_delay(session, ttl.get(), delay.get()).await?
            }
        })
    }
}

fn numbers(tokens: &[FencingToken]) -> Vec<u64> {
    tokens.iter().map(|token| token.get()).collect()
}

async fn show(
    State(app): State<App>,
    Name(session): Name<SessionId>,
) -> Result<Answer<SessionDetails>, Refusal> {
    let info = app.locks.session(session).await?;
    Ok(Answer(info.into()))
}

async fn close(
    State(app): State<App>,
    Name(session): Name<SessionId>,
) -> Result<StatusCode, Refusal> {
    app.locks.close_session(session).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<SessionInfo> for SessionDetails {
    fn from(info: SessionInfo) -> Self {
        let names =
            |locks: Vec<LockName>| locks.into_iter().map(|lock| lock.as_str().to_owned()).collect();
        Self {
            session: info.session.as_str().to_owned(),
            ttl_ms: millis(info.ttl),
            expires_in_ms: millis(info.expires_in),
            opened: info.opened,
            fencing_tokens: numbers(&info.tokens),
            holds: names(info.holds),
            waits_for: names(info.waits_for),
        }
    }
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Expired => expired().into(),
            SessionError::Service(error) => error.into(),
            other => Problem::new(Code::OutcomeUnknown, other.to_string()).into(),
        }
    }
}

/// A session that has ended, or never was.
pub(crate) fn expired() -> Problem {
    Problem::new(Code::SessionExpired, "the session has expired, was closed, or never was")
}
