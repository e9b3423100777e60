//! Asking for a lock, with a guard as the answer.

use std::sync::Arc;
use std::time::Duration;

use super::guard::{Held, LockGuard, LockLost};
use super::session::Shared;
use crate::command::{AcquireRequest, Mode, Wait};
use crate::names::{LockName, OwnerId};
use crate::numbers::FencingToken;
use crate::reply::Grant;
use crate::service::AcquireError;

/// A request for a lock: exclusive and for ever, unless something else is said.
#[must_use = "nothing is asked for before it is told to acquire"]
pub struct LockRequest {
    shared: Arc<Shared>,
    owner: OwnerId,
    lock: LockName,
    mode: Mode,
    wait: Wait,
}

/// Why work under a lock was not done, or not to the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WithLockError {
    /// The lock was not granted, so nothing was begun.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The lock was lost while the work was going on, and the work was dropped.
    #[error(transparent)]
    Lost(#[from] LockLost),
}

impl LockRequest {
    pub(super) fn new(shared: Arc<Shared>, owner: OwnerId, lock: LockName) -> Self {
        Self { shared, owner, lock, mode: Mode::Exclusive, wait: Wait::Forever }
    }

    /// For this owner alone.
    pub fn exclusive(self) -> Self {
        Self { mode: Mode::Exclusive, ..self }
    }

    /// Together with others that ask for it shared.
    pub fn shared(self) -> Self {
        Self { mode: Mode::Shared, ..self }
    }

    /// Waits no longer than this.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { wait: Wait::For(timeout), ..self }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] where it is not, or what [`acquire`](LockRequest::acquire) has.
    pub async fn try_acquire(self) -> Result<LockGuard, AcquireError> {
        Self { wait: Wait::Try, ..self }.acquire().await
    }

    /// Waits for the lock.
    ///
    /// Leaders may change meanwhile: it is asked again under the same id until it is known what
    /// came of it or the session is lost. Dropping the future takes the request back, and a grant
    /// that came first is given back: there is a guard for every lock or there is no lock.
    ///
    /// What the owner already holds is answered with another guard of it; exclusive where it
    /// holds it shared is an upgrade of all its guards.
    ///
    /// # Errors
    ///
    /// See [`AcquireError`]; [`AcquireError::OwnerBusy`] where the owner is asking for a lock
    /// already.
    pub async fn acquire(self) -> Result<LockGuard, AcquireError> {
        let turn = self.shared.core.turn(&self.owner);
        let _turn = turn.try_lock().map_err(|_| AcquireError::OwnerBusy)?;
        let core = &self.shared.core;
        let held = core.guarded(&self.owner, std::iter::once(&self.lock)).await?;
        let held = held.into_iter().next().flatten();
        match held {
            Some(held) if held.covers(self.mode) => Ok(LockGuard::of(held)),
            Some(held) => {
                let changing = held.changing();
                let grant = self.ask().await?;
                held.set(&grant);
                drop(changing);
                Ok(LockGuard::of(held))
            }
            // From the grant to the guard nothing is waited for.
            None => {
                let grant = self.ask().await?;
                Ok(LockGuard::of(Held::new(Arc::clone(&self.shared), self.owner.clone(), grant)))
            }
        }
    }

    /// Does `work` under the lock, and gives it back. The work is dropped as soon as the lock is
    /// lost, or may be.
    ///
    /// # Errors
    ///
    /// See [`WithLockError`].
    pub async fn with_lock<R>(
        self,
        work: impl AsyncFnOnce(FencingToken) -> R,
    ) -> Result<R, WithLockError> {
        let guard = self.acquire().await?;
        let done = tokio::select! {
            biased;
            lost = guard.lost() => return Err(lost.into()),
            done = work(guard.token()) => done,
        };
        // What became of the release concerns whoever comes next, and not what was done.
        let _ = guard.release().await;
        Ok(done)
    }

    async fn ask(&self) -> Result<Grant, AcquireError> {
        let core = &self.shared.core;
        let send = |request_id, wait| {
            core.locks.acquire(AcquireRequest {
                lock: self.lock.clone(),
                session: core.session().clone(),
                owner: self.owner.clone(),
                mode: self.mode,
                wait,
                ttl: None,
                request_id: Some(request_id),
                reentrant: false,
            })
        };
        core.ask(self.wait, send).await
    }
}

impl std::fmt::Debug for LockRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LockRequest")
            .field("lock", &self.lock)
            .field("mode", &self.mode)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
