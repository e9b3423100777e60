//! The locks of a cluster over HTTP, for sessions and guards of dss-lock.

use std::time::Duration;

use async_trait::async_trait;
use axum::http::Method;
use dss_lock::{
    AcquireAllRequest, AcquireError, AcquireRequest, FencingToken, Grant, LockName, Locks, Mode,
    ReleaseError, ReleaseRequest, RequestId, ServiceError, SessionError, SessionId, SessionInfo,
    Wait,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Answer, Body, Client, NOT_CONNECTED, Refused, Target};

/// How long an answer may take beyond the wait that was asked for. A node that hangs has a
/// successor by then, and another node finds it.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long one request may wait: as long as the server lets it.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The locks of the cluster that these nodes belong to. One of them is asked, and the next one as
/// soon as that does not answer.
#[derive(Debug)]
pub(crate) struct HttpLocks {
    client: Client,
    targets: Vec<Target>,
    /// The one that is asked.
    place: watch::Sender<usize>,
    /// What the cluster will go on to refuse, however often it is asked.
    refused: watch::Sender<Option<String>>,
}

/// Why there is no good answer.
enum Failure {
    /// For this reason, of which the operation knows what it means.
    Refused(Refused),
    /// The service could not do it, or could not say.
    Service(ServiceError),
}

impl HttpLocks {
    /// Asks these; there must be at least one.
    pub(crate) fn new(client: Client, targets: Vec<Target>) -> Self {
        let (place, refused) = (watch::Sender::new(0), watch::Sender::new(None));
        Self { client, targets, place, refused }
    }

    /// Waits for the cluster to refuse something for good, for this reason: that is none of those
    /// that a session can deal with, and asking again would not help.
    pub(crate) async fn refused(&self) -> String {
        let mut refused = self.refused.subscribe();
        let reason = refused.wait_for(Option::is_some).await.expect("the sender is in self");
        reason.clone().unwrap_or_default()
    }

    async fn ask(
        &self,
        wait: Duration,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<bytes::Bytes, Failure> {
        let mut place = self.place.subscribe();
        let at = *place.borrow_and_update();
        let target = &self.targets[at % self.targets.len()];
        let asked = self.client.ask_within(wait + ANSWER_MAX, target, method, path, body);
        let answer = tokio::select! {
            answer = asked => answer,
            // Another request found that this node does not answer.
            _ = place.changed() => return Err(Failure::Service(ServiceError::OutcomeUnknown)),
        };
        match answer {
            Answer::Done(body) => Ok(body),
            Answer::None(reason) => {
                self.go_on_from(at);
                Err(Failure::Service(if reason == NOT_CONNECTED {
                    ServiceError::Unavailable
                } else {
                    ServiceError::OutcomeUnknown
                }))
            }
            Answer::Refused(refused) => Err(match refused.code.as_str() {
                "no_leader" | "unavailable" => {
                    self.go_on_from(at);
                    Failure::Service(ServiceError::Unavailable)
                }
                "overloaded" => Failure::Service(ServiceError::Overloaded),
                "outcome_unknown" => Failure::Service(ServiceError::OutcomeUnknown),
                _ => Failure::Refused(refused),
            }),
        }
    }

    async fn ask_for<T: DeserializeOwned>(
        &self,
        wait: Duration,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<T, Failure> {
        let body = self.ask(wait, method, path, body).await?;
        // What cannot be understood was answered all the same: it may have been done.
        serde_json::from_slice(&body).map_err(|error| {
            self.refused.send_replace(Some(format!("an answer cannot be understood: {error}")));
            Failure::Service(ServiceError::OutcomeUnknown)
        })
    }

    /// From here on the node after the one at this place is asked.
    fn go_on_from(&self, at: usize) {
        self.place.send_if_modified(|place| {
            let first = *place == at && self.targets.len() > 1;
            *place = if first { at + 1 } else { *place };
            first
        });
    }

    /// A refusal that no operation expects.
    fn give_up(&self, refused: &Refused) -> ServiceError {
        self.refused.send_replace(Some(format!("{}: {}", refused.code, refused.detail)));
        ServiceError::Unavailable
    }

    async fn put_session(
        &self,
        session: &SessionId,
        body: Value,
    ) -> Result<SessionInfo, SessionError> {
        let path = format!("/v1/sessions/{}", encoded(session.as_str()));
        let answer = self.ask_for(Duration::ZERO, Method::PUT, &path, Body::Json(body)).await;
        let answer: Session = answer.map_err(|failure| self.session_error(failure))?;
        let mut tokens: Vec<_> = answer.fencing_tokens.into_iter().map(FencingToken::new).collect();
        tokens.sort_unstable();
        Ok(SessionInfo {
            session: session.clone(),
            ttl: Duration::from_millis(answer.ttl_ms),
            expires_in: Duration::from_millis(answer.expires_in_ms),
            opened: answer.opened,
            holds: Vec::new(),
            tokens,
            waits_for: Vec::new(),
        })
    }

    fn session_error(&self, failure: Failure) -> SessionError {
        match failure {
            Failure::Service(error) => error.into(),
            Failure::Refused(refused) if refused.code == "session_expired" => SessionError::Expired,
            Failure::Refused(refused) => self.give_up(&refused).into(),
        }
    }

    fn release_error(&self, failure: Failure) -> ReleaseError {
        match failure {
            Failure::Service(error) => error.into(),
            Failure::Refused(refused) => match refused.code.as_str() {
                "not_holder" => ReleaseError::NotHolder,
                "stale_token" => ReleaseError::StaleToken,
                _ => self.give_up(&refused).into(),
            },
        }
    }

    fn acquire_error(&self, failure: Failure, wait: Wait) -> AcquireError {
        let refused = match failure {
            Failure::Service(error) => return error.into(),
            Failure::Refused(refused) => refused,
        };
        match refused.code.as_str() {
            "lock_held" => AcquireError::Held { holders: Vec::new() },
            // Whoever waits for ever asks again, anew: this request has its answer.
            "wait_timeout" if wait == Wait::Forever => AcquireError::Cancelled,
            "wait_timeout" => AcquireError::TimedOut,
            "deadlock" => {
                let cycle = refused.cycle.into_iter().map(SessionId::new);
                AcquireError::Deadlock { cycle: cycle.filter_map(Result::ok).collect() }
            }
            "owner_busy" => AcquireError::OwnerBusy,
            "session_expired" => AcquireError::SessionExpired,
            "already_exists" => match refused.lock.clone().map(LockName::new) {
                Some(Ok(lock)) => AcquireError::AlreadyHolds { lock },
                _ => self.give_up(&refused).into(),
            },
            _ => self.give_up(&refused).into(),
        }
    }
}

#[async_trait]
impl Locks for HttpLocks {
    async fn open(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Duration,
    ) -> Result<SessionInfo, SessionError> {
        let body = json!({"ttl_ms": millis(ttl), "lock_delay_ms": millis(lock_delay)});
        self.put_session(&session, body).await
    }

    async fn renew(&self, session: SessionId) -> Result<SessionInfo, SessionError> {
        self.put_session(&session, json!({"create": false})).await
    }

    async fn close(&self, session: SessionId) -> Result<(), SessionError> {
        let path = format!("/v1/sessions/{}", encoded(session.as_str()));
        let answer = self.ask(Duration::ZERO, Method::DELETE, &path, Body::None).await;
        answer.map(drop).map_err(|failure| self.session_error(failure))
    }

    async fn acquire(&self, request: AcquireRequest) -> Result<Grant, AcquireError> {
        let wait = span_of(request.wait);
        let mut body = owned(&request.session, request.owner.as_str());
        body["mode"] = name_of(request.mode).into();
        body["reentrant"] = request.reentrant.into();
        waiting(&mut body, wait, request.ttl, request.request_id.as_ref());
        let path = lock_path(&request.lock, "acquire");
        let answer = self.ask_for::<Granted>(wait, Method::POST, &path, Body::Json(body)).await;
        match answer {
            Ok(granted) => Ok(granted.of(request.lock, request.session)),
            Err(failure) => Err(self.acquire_error(failure, request.wait)),
        }
    }

    async fn acquire_all(&self, request: AcquireAllRequest) -> Result<Vec<Grant>, AcquireError> {
        let wait = span_of(request.wait);
        let mut body = owned(&request.session, request.owner.as_str());
        let locks = request.locks.iter();
        let locks =
            locks.map(|(lock, mode)| json!({"lock": lock.as_str(), "mode": name_of(*mode)}));
        body["locks"] = locks.collect();
        waiting(&mut body, wait, request.ttl, request.request_id.as_ref());
        let body = Body::Json(body);
        let answer = self.ask_for::<GrantedAll>(wait, Method::POST, "/v1/locks", body).await;
        let granted = answer.map_err(|failure| self.acquire_error(failure, request.wait))?;
        let grants = granted.grants.into_iter().map(|NamedGrant { lock, granted }| {
            LockName::new(lock).ok().map(|lock| granted.of(lock, request.session.clone()))
        });
        // What was granted under no name of a lock was asked for by nobody.
        grants.collect::<Option<_>>().ok_or(ServiceError::OutcomeUnknown.into())
    }

    async fn release(&self, request: ReleaseRequest) -> Result<(), ReleaseError> {
        let path = lock_path(&request.lock, "release");
        let answer = self.ask(Duration::ZERO, Method::POST, &path, grant_body(&request)).await;
        answer.map(drop).map_err(|failure| self.release_error(failure))
    }

    async fn downgrade(&self, request: ReleaseRequest) -> Result<Grant, ReleaseError> {
        let path = lock_path(&request.lock, "downgrade");
        let body = grant_body(&request);
        let answer = self.ask_for::<Granted>(Duration::ZERO, Method::POST, &path, body).await;
        match answer {
            Ok(granted) => Ok(granted.of(request.lock, request.session)),
            Err(failure) => Err(self.release_error(failure)),
        }
    }
}

#[derive(Deserialize)]
struct Session {
    ttl_ms: u64,
    expires_in_ms: u64,
    opened: u64,
    fencing_tokens: Vec<u64>,
}

#[derive(Deserialize)]
struct Granted {
    mode: GrantedMode,
    fencing_token: u64,
}

#[derive(Deserialize)]
struct GrantedAll {
    grants: Vec<NamedGrant>,
}

#[derive(Deserialize)]
struct NamedGrant {
    lock: String,
    #[serde(flatten)]
    granted: Granted,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GrantedMode {
    Exclusive,
    Shared,
}

impl Granted {
    fn of(self, lock: LockName, session: SessionId) -> Grant {
        let mode = match self.mode {
            GrantedMode::Exclusive => Mode::Exclusive,
            GrantedMode::Shared => Mode::Shared,
        };
        Grant { lock, session, mode, token: FencingToken::new(self.fencing_token) }
    }
}

fn owned(session: &SessionId, owner: &str) -> Value {
    json!({"session": session.as_str(), "owner": owner})
}

fn name_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
    }
}

fn span_of(wait: Wait) -> Duration {
    match wait {
        Wait::Try => Duration::ZERO,
        Wait::For(wait) => wait.min(WAIT_MAX),
        Wait::Forever => WAIT_MAX,
    }
}

fn waiting(body: &mut Value, wait: Duration, ttl: Option<Duration>, id: Option<&RequestId>) {
    body["wait_ms"] = millis(wait).into();
    if let Some(id) = id {
        body["request_id"] = id.as_str().into();
    }
    if let Some(ttl) = ttl {
        body["ttl_ms"] = millis(ttl).into();
    }
}

fn grant_body(request: &ReleaseRequest) -> Body {
    let mut body = owned(&request.session, request.owner.as_str());
    if let Some(token) = request.token {
        body["fencing_token"] = token.get().into();
    }
    Body::Json(body)
}

fn lock_path(lock: &LockName, verb: &str) -> String {
    format!("/v1/locks/{}/{verb}", encoded(lock.as_str()))
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
