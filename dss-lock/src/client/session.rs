//! A session of this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::Locks;
use super::guard::{Held, LockLost};
use super::keeper::{Return, keep};
use super::request::LockRequest;
use super::several::LocksRequest;
use crate::command::Mode;
use crate::limits::{TTL_MAX, TTL_MIN};
use crate::names::{LockName, OwnerId, RequestId, SessionId};
use crate::service::{ServiceError, SessionError, SessionInfo};

/// Between two tries of what no leader could do just now.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(50);

/// How a [`LockSession`] is to be.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    session: SessionId,
    pub(super) ttl: Duration,
    lock_delay: Duration,
    pub(super) drift_permille: u32,
}

impl SessionOptions {
    /// A session of this name, which no other process may use at the same time. It lives for 10
    /// seconds after its last sign of life, without lock delay, and reckons with clocks that
    /// differ by 1 %.
    #[must_use]
    pub fn new(session: SessionId) -> Self {
        let ttl = Duration::from_secs(10);
        Self { session, ttl, lock_delay: Duration::ZERO, drift_permille: 10 }
    }

    /// For how long it lives after its last sign of life. A crashed holder's locks stay taken for
    /// that long, and nobody that is paused or cut off for less loses any.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: ttl.clamp(TTL_MIN, TTL_MAX), ..self }
    }

    /// For how long its locks are granted to nobody after it has expired.
    #[must_use]
    pub fn lock_delay(self, lock_delay: Duration) -> Self {
        Self { lock_delay, ..self }
    }

    /// By how many thousandths this machine's clock may run slower than the leader's. Guards are
    /// given up that much earlier. Only fencing tokens help against clocks that are worse.
    #[must_use]
    pub fn drift_permille(self, drift_permille: u32) -> Self {
        Self { drift_permille: drift_permille.min(999), ..self }
    }
}

/// A session that keeps itself alive, for as long as it or a guard of it is there.
///
/// Cheap to clone. With its last clone and guard it gives back what is left and ends, by a task of
/// its own that nobody has to wait for; [`close`](LockSession::close) waits.
#[derive(Clone)]
pub struct LockSession {
    pub(super) shared: Arc<Shared>,
}

/// What a session and its guards share.
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    /// What is to be given back; the task that does it ends when nobody can tell it any more.
    pub(super) returns: mpsc::UnboundedSender<Return>,
}

/// What the session's task knows too.
pub(super) struct Core {
    pub(super) locks: Arc<dyn Locks>,
    pub(super) options: SessionOptions,
    /// Which of the sessions that bear its name in turn this is.
    pub(super) opened: u64,
    pub(super) life: watch::Sender<Life>,
    holds: Mutex<BTreeMap<(OwnerId, LockName), Hold>>,
    turns: Mutex<BTreeMap<OwnerId, Arc<tokio::sync::Mutex<()>>>>,
    /// A lock has been given back.
    pub(super) returned: Notify,
    sequence: AtomicU64,
}

/// Until when the session lives for sure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) deadline: Instant,
    pub(super) lost: Option<LockLost>,
}

/// What becomes of a lock that has been granted here.
pub(super) enum Hold {
    /// There are guards.
    Held { number: u64, held: Weak<Held> },
    /// It is being given back: until that is done, to ask for it again could lose it.
    Returning,
}

impl Core {
    pub(super) fn session(&self) -> &SessionId {
        &self.options.session
    }

    pub(super) fn holds(&self) -> MutexGuard<'_, BTreeMap<(OwnerId, LockName), Hold>> {
        // Nothing that is done under this lock leaves it half done.
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is to ask for `owner`, who is one sequential task.
    pub(super) fn turn(&self, owner: &OwnerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody has taken are as good as new ones.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(owner.clone()).or_default())
    }

    pub(super) fn next_number(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn next_request(&self) -> RequestId {
        RequestId::new(self.next_number().to_string()).expect("a number is a good name")
    }

    /// Why the session is lost, where it is: also where nobody has noticed yet that time has run
    /// out, since a process that was paused sees this first.
    pub(super) fn lost(&self) -> Option<LockLost> {
        let life = *self.life.borrow();
        life.lost.or_else(|| (life.deadline <= Instant::now()).then_some(LockLost::NotRenewed))
    }

    /// Notes that the session is lost; the first reason stands.
    pub(super) fn lose(&self, reason: LockLost) {
        self.life.send_if_modified(|life| {
            let first = life.lost.is_none();
            life.lost = life.lost.or(Some(reason));
            first
        });
    }

    /// Waits for the session to be lost.
    pub(super) async fn until_lost(&self) -> LockLost {
        let mut life = self.life.subscribe();
        loop {
            if let Some(reason) = self.lost() {
                return reason;
            }
            let deadline = life.borrow_and_update().deadline;
            tokio::select! {
                // The sender is in this very object.
                _ = life.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

impl LockSession {
    /// Opens a session. One of the same name that is still there, of an earlier life of this
    /// process, ends with all its locks.
    ///
    /// # Errors
    ///
    /// Where that cannot be done within the session's time to live.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(
        locks: Arc<dyn Locks>,
        options: SessionOptions,
    ) -> Result<Self, SessionError> {
        let begun = Instant::now();
        let (sent, info) = loop {
            let sent = Instant::now();
            match open_anew(&*locks, &options).await {
                Ok(info) => break (sent, info),
                Err(SessionError::Service(_)) if begun.elapsed() < options.ttl => {
                    sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(error),
            }
        };
        let life = Life { deadline: sent + surely(&options), lost: None };
        let core = Arc::new(Core {
            locks,
            options,
            opened: info.opened,
            life: watch::Sender::new(life),
            holds: Mutex::default(),
            turns: Mutex::default(),
            returned: Notify::new(),
            sequence: AtomicU64::new(0),
        });
        let (returns, to_return) = mpsc::unbounded_channel();
        tokio::spawn(keep(Arc::clone(&core), to_return));
        Ok(Self { shared: Arc::new(Shared { core, returns }) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SessionId {
        self.shared.core.session()
    }

    /// Asks for a lock, for the nameless owner.
    pub fn lock(&self, lock: LockName) -> LockRequest {
        LockRequest::new(Arc::clone(&self.shared), OwnerId::default(), lock)
    }

    /// Asks for several locks at once, for the nameless owner. One that is named twice counts once,
    /// exclusive if either is.
    pub fn lock_all(&self, locks: impl IntoIterator<Item = (LockName, Mode)>) -> LocksRequest {
        LocksRequest::new(Arc::clone(&self.shared), OwnerId::default(), locks)
    }

    /// One sequential task of this session. Tasks that run side by side are to be owners of their
    /// own: an owner asks for one lock at a time, what it holds keeps no request of its own
    /// waiting, and deadlocks are found between owners.
    #[must_use]
    pub fn owner(&self, owner: OwnerId) -> SessionOwner {
        SessionOwner { shared: Arc::clone(&self.shared), owner }
    }

    /// Why the session and all its locks are lost, where they are.
    #[must_use]
    pub fn lost_reason(&self) -> Option<LockLost> {
        self.shared.core.lost()
    }

    /// Waits for the session to be lost.
    pub async fn lost(&self) -> LockLost {
        self.shared.core.until_lost().await
    }

    /// Ends the session; guards that are left have lost their locks.
    ///
    /// # Errors
    ///
    /// Where it could not be told to anybody. It expires then.
    pub async fn close(self) -> Result<(), SessionError> {
        let core = &self.shared.core;
        core.lose(LockLost::Closed);
        core.locks.close(core.session().clone()).await
    }
}

impl std::fmt::Debug for LockSession {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let core = &self.shared.core;
        formatter
            .debug_struct("LockSession")
            .field("options", &core.options)
            .finish_non_exhaustive()
    }
}

/// One task of a [`LockSession`].
#[derive(Clone)]
pub struct SessionOwner {
    shared: Arc<Shared>,
    owner: OwnerId,
}

impl SessionOwner {
    /// Asks for a lock.
    pub fn lock(&self, lock: LockName) -> LockRequest {
        LockRequest::new(Arc::clone(&self.shared), self.owner.clone(), lock)
    }

    /// Asks for several locks at once. One that is named twice counts once, exclusive if either
    /// is.
    pub fn lock_all(&self, locks: impl IntoIterator<Item = (LockName, Mode)>) -> LocksRequest {
        LocksRequest::new(Arc::clone(&self.shared), self.owner.clone(), locks)
    }
}

impl std::fmt::Debug for SessionOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SessionOwner").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// For how long a session lives for sure after a sign of life was sent.
pub(super) fn surely(options: &SessionOptions) -> Duration {
    options.ttl * (1_000 - options.drift_permille) / 1_000
}

async fn open_anew(
    locks: &dyn Locks,
    options: &SessionOptions,
) -> Result<SessionInfo, SessionError> {
    match locks.close(options.session.clone()).await {
        Ok(()) | Err(SessionError::Expired) => {}
        Err(error) => return Err(error),
    }
    let info = locks.open(options.session.clone(), options.ttl, options.lock_delay).await?;
    // Somebody else has it, and holds locks already.
    if info.tokens.is_empty() { Ok(info) } else { Err(ServiceError::Unavailable.into()) }
}
