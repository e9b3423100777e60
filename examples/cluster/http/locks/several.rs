//! Several locks at once: together or not at all.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use dss_lock::{AcquireAllRequest, LockName, Mode, Wait};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Granted, ModeName, count_refusal, given_name, owner, request_id, session, wait};
use crate::app::App;
use crate::http::extract::{Answer, Json, check_name};
use crate::http::metrics::{Counter, Recorder};
use crate::http::problem::{Code, Problem};
use crate::http::refusal::Refusal;
use crate::http::route::{Access, Route};
use crate::http::routing::Conduct;
use crate::http::values::{TtlMs, WaitMs};

pub(super) fn route() -> Route {
    Route::post("/v1/locks", Access::Writer, acquire_all)
        .named("acquireLocks", "Takes several locks at once: all of them or none.")
        .conduct(Conduct::Acquires)
        .batch()
        .takes::<AcquireAll>()
        .answers::<GrantedAll>(StatusCode::OK, "The locks are the session's.")
        .refuses(&[
            Code::LockHeld,
            Code::WaitTimeout,
            Code::Deadlock,
            Code::OwnerBusy,
            Code::AlreadyExists,
            Code::SessionExpired,
        ])
}

/// The document says it in a literal.
const _: () = assert!(dss_lock::LOCKS_PER_REQUEST_MAX == 64);

/// What to acquire several locks with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AcquireAll {
    /// Whose they shall be. One that does not exist is created.
    session: String,
    /// Tells apart tasks that share a session.
    owner: Option<String>,
    /// Which locks: none that the owner holds, or all. None is held while others are waited for.
    #[schema(min_items = 1, max_items = 64)]
    locks: Vec<LockAndMode>,
    /// How long to wait for them; 0, where left out, is not at all.
    #[schema(inline)]
    wait_ms: Option<WaitMs>,
    /// For how long the session lives after its last sign of life. Left out, one that exists keeps
    /// its own, and a new one gets 30 s.
    #[schema(inline)]
    ttl_ms: Option<TtlMs>,
    /// Names this request: however often it is sent, the answer is the same.
    request_id: Option<String>,
}

/// One of several locks.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LockAndMode {
    lock: String,
    /// How it is held; exclusive where left out.
    mode: Option<ModeName>,
}

/// Locks that were granted.
#[derive(Debug, Serialize, ToSchema)]
struct GrantedAll {
    /// One for each lock, in the order of their names.
    grants: Vec<Granted>,
}

async fn acquire_all(
    State(app): State<App>,
    State(recorder): State<Arc<Recorder>>,
    headers: HeaderMap,
    Json(body): Json<AcquireAll>,
) -> Result<Answer<GrantedAll>, Refusal> {
    let mut request = body.into_request()?;
    if request.request_id.is_none() {
        request.request_id = given_name(&headers)?;
    }
    let waiting = (request.wait != Wait::Try).then(|| recorder.wait_for_lock());
    let acquired = app.locks.acquire_all(request).await;
    drop(waiting);
    match acquired {
        Ok(grants) => {
            recorder.count(Counter::LocksGranted, grants.len());
            Ok(Answer(GrantedAll { grants: grants.into_iter().map(Granted::from).collect() }))
        }
        Err(error) => {
            count_refusal(&error, &recorder);
            Err(error.into())
        }
    }
}

impl AcquireAll {
    fn into_request(self) -> Result<AcquireAllRequest, Problem> {
        let locks = self.locks.into_iter().enumerate().map(|(place, one)| one.parse(place));
        Ok(AcquireAllRequest {
            locks: locks.collect::<Result<_, _>>()?,
            session: session(self.session)?,
            owner: owner(self.owner)?,
            wait: wait(self.wait_ms),
            ttl: self.ttl_ms.map(TtlMs::get),
            request_id: request_id(self.request_id)?,
        })
    }
}

impl LockAndMode {
    fn parse(self, place: usize) -> Result<(LockName, Mode), Problem> {
        let refused = |problem: &dyn std::fmt::Display| {
            Problem::invalid_field(&format!("locks[{place}].lock"), problem)
        };
        check_name(&self.lock).map_err(|problem| refused(&problem))?;
        let lock = LockName::new(self.lock).map_err(|problem| refused(&problem))?;
        Ok((lock, self.mode.unwrap_or_default().into()))
    }
}
