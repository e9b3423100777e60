//! Locks that are given back by themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::keeper::Return;
use super::session::{Hold, Shared};
use crate::command::{Mode, ReleaseRequest};
use crate::names::{LockName, OwnerId};
use crate::numbers::FencingToken;
use crate::reply::Grant;
use crate::service::{ReleaseError, ServiceError};

/// Why a lock is held no more, or may not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LockLost {
    /// The session was not renewed in time, so that it may have expired.
    #[error("the session could not be renewed in time")]
    NotRenewed,
    /// The session has ended.
    #[error("the session has ended")]
    Expired,
    /// The lock was taken away by force.
    #[error("the lock was taken away")]
    Revoked,
    /// The session was closed here.
    #[error("the session was closed")]
    Closed,
}

/// A lock, held. Dropped it is given back, by the session's task, which nobody has to wait for.
///
/// Cheap to clone; the lock is given back with the last clone. No lock is ever held without a
/// guard of it but while it is on its way there or back, and a guard whose lock may be gone
/// [says so](LockGuard::check).
#[derive(Clone)]
#[must_use = "a guard that is dropped gives its lock back"]
pub struct LockGuard {
    held: Arc<Held>,
}

/// What the guards of one lock share.
pub(super) struct Held {
    shared: Arc<Shared>,
    owner: OwnerId,
    lock: LockName,
    /// Tells it apart from others of the same owner and lock, before and after it.
    number: u64,
    state: Mutex<State>,
    revoked: watch::Sender<bool>,
}

struct State {
    mode: Mode,
    token: FencingToken,
    /// Since when the token is the one to be found in the table; `None` while that is being
    /// changed.
    since: Option<Instant>,
    done: Option<oneshot::Sender<Result<(), ReleaseError>>>,
}

/// While it is there, the token of a hold may change.
pub(super) struct Changing<'a>(&'a Held);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.state().since = Some(Instant::now());
    }
}

impl Held {
    pub(super) fn new(shared: Arc<Shared>, owner: OwnerId, grant: Grant) -> Arc<Self> {
        let Grant { lock, mode, token, .. } = grant;
        let state = State { mode, token, since: Some(Instant::now()), done: None };
        let key = (owner.clone(), lock.clone());
        let revoked = watch::Sender::new(false);
        let number = shared.core.next_number();
        let state = Mutex::new(state);
        let held = Arc::new(Self { shared, owner, lock, number, state, revoked });
        let registered = Hold::Held { number, held: Arc::downgrade(&held) };
        held.shared.core.holds().insert(key, registered);
        held
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under this lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn covers(&self, mode: Mode) -> bool {
        let held = self.state().mode;
        held == mode || held == Mode::Exclusive
    }

    pub(super) fn is_lost(&self) -> bool {
        *self.revoked.borrow() || self.shared.core.lost().is_some()
    }

    pub(super) fn changing(&self) -> Changing<'_> {
        self.state().since = None;
        Changing(self)
    }

    pub(super) fn set(&self, grant: &Grant) {
        let mut state = self.state();
        state.mode = grant.mode;
        state.token = grant.token;
    }

    /// Compares with the tokens that were in force some time after `sent`.
    pub(super) fn compare(&self, sent: Instant, tokens: &[FencingToken]) {
        let state = self.state();
        let settled = state.since.is_some_and(|since| since < sent);
        if settled && tokens.binary_search(&state.token).is_err() {
            self.revoked.send_replace(true);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (token, done) = {
            let mut state = self.state();
            (state.token, state.done.take())
        };
        let (owner, lock) = (self.owner.clone(), self.lock.clone());
        {
            let mut holds = self.shared.core.holds();
            let key = (owner.clone(), lock.clone());
            let own = match holds.get(&key) {
                Some(Hold::Held { number, .. }) => *number == self.number,
                Some(Hold::Returning) | None => false,
            };
            if !own {
                // It was taken away, and asked for again since: what is held now is not its own.
                return;
            }
            holds.insert(key, Hold::Returning);
        }
        // The task runs for as long as `shared` is there.
        let _ = self.shared.returns.send(Return { owner, lock, token, done });
    }
}

impl LockGuard {
    pub(super) fn of(held: Arc<Held>) -> Self {
        Self { held }
    }

    /// Which lock.
    #[must_use]
    pub fn lock(&self) -> &LockName {
        &self.held.lock
    }

    /// How it is held.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.held.state().mode
    }

    /// What proves the grant to whatever the lock protects. An upgrade brings another one.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.held.state().token
    }

    /// Whether the lock is surely still held: without asking anybody, from what was last heard.
    ///
    /// The process may be paused right after it: only the token protects what is done then.
    ///
    /// # Errors
    ///
    /// Why it may be lost.
    pub fn check(&self) -> Result<FencingToken, LockLost> {
        if let Some(lost) = self.held.shared.core.lost() {
            return Err(lost);
        }
        if *self.held.revoked.borrow() { Err(LockLost::Revoked) } else { Ok(self.token()) }
    }

    /// Waits for the lock to be lost.
    pub async fn lost(&self) -> LockLost {
        let mut revoked = self.held.revoked.subscribe();
        tokio::select! {
            lost = self.held.shared.core.until_lost() => lost,
            _ = revoked.wait_for(|revoked| *revoked) => LockLost::Revoked,
        }
    }

    /// Gives the lock back and waits for that to be done; where there are other clones of this
    /// guard, only lets go of this one. Where the future is dropped, it is done all the same.
    ///
    /// # Errors
    ///
    /// Where the lock had been lost.
    pub async fn release(self) -> Result<(), ReleaseError> {
        let Some(held) = Arc::into_inner(self.held) else { return Ok(()) };
        let (done, released) = oneshot::channel();
        held.state().done = Some(done);
        drop(held);
        released.await.unwrap_or(Err(ServiceError::Unavailable.into()))
    }

    /// Makes an exclusive hold shared. The token stays.
    ///
    /// # Errors
    ///
    /// Where the lock had been lost, or nobody could say.
    pub async fn downgrade(&self) -> Result<(), ReleaseError> {
        let core = &self.held.shared.core;
        let changing = self.held.changing();
        let request = ReleaseRequest {
            lock: self.held.lock.clone(),
            session: core.session().clone(),
            owner: self.held.owner.clone(),
            token: Some(self.token()),
        };
        let grant = core.locks.downgrade(request).await?;
        self.held.set(&grant);
        drop(changing);
        Ok(())
    }
}

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LockGuard")
            .field("lock", &self.held.lock)
            .field("mode", &self.mode())
            .field("token", &self.token())
            .finish_non_exhaustive()
    }
}
