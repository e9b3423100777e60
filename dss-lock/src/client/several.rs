//! Asking for several locks at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{Held, LockGuard};
use super::session::Shared;
use crate::command::{AcquireAllRequest, Mode, Wait};
use crate::names::{LockName, OwnerId};
use crate::service::AcquireError;

/// A request for several locks, which are granted together or not at all: for ever, unless
/// something else is said. While it waits it holds none of them, so that two such requests are
/// never each other's deadlock.
#[must_use = "nothing is asked for before it is told to acquire"]
pub struct LocksRequest {
    shared: Arc<Shared>,
    owner: OwnerId,
    locks: BTreeMap<LockName, Mode>,
    wait: Wait,
}

impl LocksRequest {
    pub(super) fn new(
        shared: Arc<Shared>,
        owner: OwnerId,
        locks: impl IntoIterator<Item = (LockName, Mode)>,
    ) -> Self {
        let mut modes = BTreeMap::new();
        for (lock, mode) in locks {
            // Exclusive comes first in the order of modes.
            modes
                .entry(lock)
                .and_modify(|other: &mut Mode| *other = mode.min(*other))
                .or_insert(mode);
        }
        Self { shared, owner, locks: modes, wait: Wait::Forever }
    }

    /// Waits no longer than this.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { wait: Wait::For(timeout), ..self }
    }

    /// Takes the locks if all of them are free.
    ///
    /// # Errors
    ///
    /// [`AcquireError::Held`] where one is not, or what [`acquire`](LocksRequest::acquire) has.
    pub async fn try_acquire(self) -> Result<Vec<LockGuard>, AcquireError> {
        Self { wait: Wait::Try, ..self }.acquire().await
    }

    /// Waits for the locks; a guard for each, in the order of their names. Each is given back by
    /// itself.
    ///
    /// Leaders may change meanwhile, and the future may be dropped at any time, as with
    /// [`LockRequest::acquire`](crate::LockRequest::acquire): there is a guard for every lock or
    /// there is no lock. Where the owner has guards of all of them already, these are shared.
    ///
    /// # Errors
    ///
    /// See [`AcquireError`]; [`AcquireError::AlreadyHolds`] where the owner holds some of the
    /// locks but not all, or one of them less than exclusive that is asked for so.
    pub async fn acquire(self) -> Result<Vec<LockGuard>, AcquireError> {
        let core = &self.shared.core;
        let turn = core.turn(&self.owner);
        let _turn = turn.try_lock().map_err(|_| AcquireError::OwnerBusy)?;
        let guarded = core.guarded(&self.owner, self.locks.keys()).await?;
        let covering = self.locks.values().zip(&guarded).map(|(mode, held)| {
            held.as_ref().filter(|held| held.covers(*mode)).map(Arc::clone).map(LockGuard::of)
        });
        if let Some(guards) = covering.collect() {
            return Ok(guards);
        }
        if let Some((lock, _)) = self.locks.keys().zip(&guarded).find(|(_, held)| held.is_some()) {
            return Err(AcquireError::AlreadyHolds { lock: lock.clone() });
        }
        let send = |request_id, wait| {
            core.locks.acquire_all(AcquireAllRequest {
                locks: self.locks.iter().map(|(lock, mode)| (lock.clone(), *mode)).collect(),
                session: core.session().clone(),
                owner: self.owner.clone(),
                wait,
                ttl: None,
                request_id: Some(request_id),
            })
        };
        let grants = core.ask(self.wait, send).await?;
        // From the grants to the guards nothing is waited for.
        let held = |grant| Held::new(Arc::clone(&self.shared), self.owner.clone(), grant);
        Ok(grants.into_iter().map(held).map(LockGuard::of).collect())
    }
}

impl std::fmt::Debug for LocksRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LocksRequest")
            .field("locks", &self.locks)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
