//! Opening sessions and keeping them alive.

use std::time::Duration;

use super::LockService;
use super::acquire::RECOVERY_MAX;
use super::error::{ServiceError, SessionError};
use super::reign::{Inner, Reign};
use crate::command::Command;
use crate::limits::{LOCK_DELAY_MAX, TTL_MAX, TTL_MIN};
use crate::names::{LockName, SessionId};
use crate::numbers::FencingToken;
use crate::reply::{Reply, SessionView};
use crate::table::LockTable;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Which.
    pub session: SessionId,
    /// How long it lives after its last sign of life.
    pub ttl: Duration,
    /// How long it lives from now on without another. It may live longer: a change of leaders
    /// gives every session its full time again.
    pub expires_in: Duration,
    /// Tells apart sessions that bear one name in turn.
    pub opened: u64,
    /// The locks that its owners hold, in order.
    pub holds: Vec<LockName>,
    /// The tokens of its grants that are in force, in order.
    pub tokens: Vec<FencingToken>,
    /// The locks that its owners wait for, in order.
    pub waits_for: Vec<LockName>,
}

impl LockService {
    /// Opens a session, or renews it: a sign of life.
    ///
    /// To renew with the same time to live costs no write. It is acknowledged only once a majority
    /// has confirmed that this node still leads, so that no later leader could count the session
    /// as dead earlier.
    ///
    /// A time to live is held within [`TTL_MIN`] and [`TTL_MAX`].
    ///
    /// # Errors
    ///
    /// Where the service could not do it, never with [`SessionError::Expired`].
    pub async fn open_session(
        &self,
        session: SessionId,
        ttl: Duration,
    ) -> Result<SessionInfo, SessionError> {
        self.open(session, ttl, None).await
    }

    /// Opens or renews a session, like [`open_session`](LockService::open_session), whose locks
    /// are granted to nobody for `lock_delay` after it has expired: time for what it has sent to
    /// arrive, where what the locks protect cannot look at tokens. At most
    /// [`LOCK_DELAY_MAX`](crate::LOCK_DELAY_MAX).
    ///
    /// # Errors
    ///
    /// As [`open_session`](LockService::open_session) has.
    pub async fn open_session_with_delay(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Duration,
    ) -> Result<SessionInfo, SessionError> {
        self.open(session, ttl, Some(lock_delay.min(LOCK_DELAY_MAX))).await
    }

    async fn open(
        &self,
        session: SessionId,
        ttl: Duration,
        lock_delay: Option<Duration>,
    ) -> Result<SessionInfo, SessionError> {
        let inner = &self.inner;
        let ttl = ttl.clamp(TTL_MIN, TTL_MAX);
        let reign = inner.reign().await?;
        let now = inner.now();
        if inner.with_leases(|leases| leases.keep_alive(now, &session, ttl)) {
            let name = session.clone();
            let read = inner.read_as_leader(&reign, move |table| table.session(&name)).await?;
            if let Some(view) = read
                && lock_delay.is_none_or(|delay| delay == view.lock_delay)
            {
                return Ok(info(inner, view));
            }
            // It has just been closed, or is to have another delay.
        }
        let command = Command::OpenSession { session: session.clone(), ttl, lock_delay };
        match inner.propose(&reign, command).await {
            Ok(Reply::Session(Ok(view))) => {
                Ok(SessionInfo { expires_in: view.ttl, ..info(inner, view) })
            }
            Ok(Reply::Session(Err(_))) => Err(ServiceError::Overloaded.into()),
            Ok(_) => Err(ServiceError::Unavailable.into()),
            Err(ServiceError::OutcomeUnknown) => self.after_open(&reign, session, ttl).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Renews a session that lives, with the time to live that it has; otherwise like
    /// [`open_session`](LockService::open_session).
    ///
    /// # Errors
    ///
    /// [`SessionError::Expired`] where it is over.
    pub async fn renew_session(&self, session: SessionId) -> Result<SessionInfo, SessionError> {
        let inner = &self.inner;
        let reign = inner.reign().await?;
        let now = inner.now();
        let name = session.clone();
        if inner.with_leases(|leases| leases.keep_alive_as_is(now, &session)) {
            let read = inner.read_as_leader(&reign, move |table| table.session(&name)).await?;
            return read.map(|view| info(inner, view)).ok_or(SessionError::Expired);
        }
        match inner.propose(&reign, Command::Renew { session }).await? {
            Reply::Renewed(Some(view)) => {
                Ok(SessionInfo { expires_in: view.ttl, ..info(inner, view) })
            }
            Reply::Renewed(None) => Err(SessionError::Expired),
            _ => Err(ServiceError::Unavailable.into()),
        }
    }

    /// What became of an open whose outcome is unknown. A session that is there under the next
    /// leader has its full time from that one's election on, which is as good as renewed.
    async fn after_open(
        &self,
        reign: &Reign,
        session: SessionId,
        ttl: Duration,
    ) -> Result<SessionInfo, SessionError> {
        let query = move |table: &LockTable| table.session(&session);
        match self.inner.read_after_reign(reign, RECOVERY_MAX, query).await {
            Some(Some(view)) if view.ttl == ttl => Ok(info(&self.inner, view)),
            Some(_) => Err(self.inner.not_leader().into()),
            None => Err(ServiceError::OutcomeUnknown.into()),
        }
    }

    /// The session, where it lives. To ask is no sign of life.
    ///
    /// # Errors
    ///
    /// See [`SessionError`].
    pub async fn session(&self, session: SessionId) -> Result<SessionInfo, SessionError> {
        let reign = self.inner.reign().await?;
        let read = self.inner.read_as_leader(&reign, move |table| table.session(&session)).await?;
        read.map(|view| info(&self.inner, view)).ok_or(SessionError::Expired)
    }

    /// Ends a session, with all that it holds and waits for. One that is over is left so.
    ///
    /// # Errors
    ///
    /// Where the service could not do it, never with [`SessionError::Expired`].
    pub async fn close_session(&self, session: SessionId) -> Result<(), SessionError> {
        let reign = self.inner.reign().await?;
        let command = Command::CloseSession { session: session.clone() };
        match self.inner.propose(&reign, command).await {
            Ok(_) => Ok(()),
            Err(ServiceError::OutcomeUnknown) => self.after_close(&reign, session).await,
            Err(error) => Err(error.into()),
        }
    }

    /// What became of a close whose outcome is unknown: done where the session is over.
    async fn after_close(&self, reign: &Reign, session: SessionId) -> Result<(), SessionError> {
        let query = move |table: &LockTable| table.session(&session).is_some();
        match self.inner.read_after_reign(reign, RECOVERY_MAX, query).await {
            Some(false) => Ok(()),
            Some(true) => Err(self.inner.not_leader().into()),
            None => Err(ServiceError::OutcomeUnknown.into()),
        }
    }
}

fn info(inner: &Inner, view: SessionView) -> SessionInfo {
    let now = inner.now();
    // A session that was opened just now may not have come to the leases yet.
    let expires_in = inner.with_leases(|leases| leases.expires_in(now, &view.session));
    let SessionView { session, ttl, opened, holds, tokens, waits_for, .. } = view;
    let expires_in = expires_in.unwrap_or(ttl);
    SessionInfo { session, ttl, expires_in, opened, holds, tokens, waits_for }
}
