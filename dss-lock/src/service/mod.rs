//! The replicated service: a [`LockMachine`] behind `dss-raft`, with what a replicated machine
//! cannot do itself: clocks, timers, waiting, and the memory of who is alive.

mod acquire;
mod claim;
mod deferral;
mod error;
mod parked;
mod reign;
mod sessions;
mod tasks;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dss_raft::{Group, NodeId};
use serde::{Deserialize, Serialize};

pub use self::error::{AcquireError, ReleaseError, ServiceError, SessionError};
pub(crate) use self::parked::Parked;
use self::reign::{Inner, Reign};
pub use self::sessions::SessionInfo;
use self::tasks::Tasks;
use crate::command::{Command, DecodeError, ReleaseRequest, decode, encode};
use crate::machine::{LockEvents, LockMachine};
use crate::names::{LockName, Owner};
use crate::numbers::{AttemptId, FencingToken};
use crate::reply::{DeadlockInfo, DowngradeOutcome, Grant, ReleaseOutcome, Reply};
use crate::views::{LockInfo, LockPage, WaitEdge};

/// Locks, replicated. One per node and group; cheap to clone.
///
/// Everything works on the leader alone: elsewhere it is refused at once, with the leader's name,
/// for whoever can reach that one to go there. What waits on a node that stops leading goes on
/// waiting there.
///
/// Every future may be dropped at any time. A dropped [`acquire`](LockService::acquire) is taken
/// back, whatever has become of it; everything else that was sent off goes its way.
///
/// The tasks of a service end with its last clone.
#[derive(Clone)]
pub struct LockService {
    inner: Arc<Inner>,
    _tasks: Arc<Tasks>,
}

/// An acquire that its caller has given up on a node that does not lead any more.
///
/// It is to reach the leader, as [`LockService::withdraw`], so that no lock goes to somebody who
/// does not know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    attempt: AttemptId,
    locks: Vec<LockName>,
    owner: Owner,
}

/// Stands first in every encoded withdrawal; another layout gets another number.
const WITHDRAWAL_VERSION: u8 = 2;

impl Withdrawal {
    /// The bytes that stand for it between nodes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(WITHDRAWAL_VERSION, self)
    }

    /// The withdrawal that these bytes stand for.
    ///
    /// # Errors
    ///
    /// Where they stand for none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(WITHDRAWAL_VERSION, bytes)
    }
}

/// Carries withdrawals to other nodes, see [`LockService::start_with_courier`].
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Hands the withdrawal to [`LockService::withdraw`] on `leader`; whether that did it. It is
    /// tried again until it did, and may arrive more than once.
    async fn carry(&self, leader: NodeId, withdrawal: Withdrawal) -> bool;
}

/// For a service that can reach no other node.
struct NoCourier;

#[async_trait]
impl Courier for NoCourier {
    async fn carry(&self, _leader: NodeId, _withdrawal: Withdrawal) -> bool {
        false
    }
}

impl LockService {
    /// Starts the service of this node over its part in the group.
    ///
    /// An acquire that is dropped where this node does not lead any more leaves the queue when
    /// this node leads again, or with its session; where nodes can reach each other,
    /// [`start_with_courier`](LockService::start_with_courier) sees to it at once.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(group: Group<LockMachine>, events: LockEvents) -> Self {
        Self::start_with_courier(group, events, Arc::new(NoCourier))
    }

    /// Starts the service of this node, which can reach the others by `courier`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start_with_courier(
        group: Group<LockMachine>,
        events: LockEvents,
        courier: Arc<dyn Courier>,
    ) -> Self {
        let inner = Arc::new(Inner::new(group, courier, Arc::clone(&events.parked)));
        let tasks = Arc::new(Tasks::spawn(&inner, events));
        Self { inner, _tasks: tasks }
    }

    /// Gives a lock back, and with that to whoever is next; one that was entered more than once is
    /// held on, once less.
    ///
    /// # Errors
    ///
    /// Where it was not the owner's to give.
    pub async fn release(&self, request: ReleaseRequest) -> Result<(), ReleaseError> {
        let reign = self.inner.reign().await?;
        let _under_way = self.inner.deferral.note_release(request.lock.clone());
        match self.inner.propose(&reign, Command::Release(request.clone())).await {
            Ok(Reply::Release(ReleaseOutcome::Released | ReleaseOutcome::StillHeld { .. })) => {
                Ok(())
            }
            Ok(Reply::Release(ReleaseOutcome::NotHolder)) => Err(ReleaseError::NotHolder),
            Ok(Reply::Release(ReleaseOutcome::StaleToken)) => Err(ReleaseError::StaleToken),
            Ok(_) => Err(ServiceError::Unavailable.into()),
            Err(ServiceError::OutcomeUnknown) => Err(self.after_release(&reign, request).await),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a release whose outcome is unknown was surely not done: where the grant that it
    /// names is still in force. The opposite cannot be told from a grant that was lost before.
    async fn after_release(&self, reign: &Reign, request: ReleaseRequest) -> ReleaseError {
        let unknown = ReleaseError::Service(ServiceError::OutcomeUnknown);
        let Some(token) = request.token else { return unknown };
        let lock = request.lock;
        let held = move |table: &crate::LockTable| table.is_valid(&lock, token);
        match self.inner.read_after_reign(reign, acquire::RECOVERY_MAX, held).await {
            Some(true) => self.inner.not_leader().into(),
            Some(false) | None => unknown,
        }
    }

    /// Makes an exclusive hold shared, under the token that it has, so that readers are let in.
    ///
    /// # Errors
    ///
    /// Where it is not the owner's hold.
    pub async fn downgrade(&self, request: ReleaseRequest) -> Result<Grant, ReleaseError> {
        let reign = self.inner.reign().await?;
        match self.inner.propose(&reign, Command::Downgrade(request)).await? {
            Reply::Downgrade(DowngradeOutcome::Downgraded(grant)) => Ok(grant),
            Reply::Downgrade(DowngradeOutcome::NotHolder) => Err(ReleaseError::NotHolder),
            Reply::Downgrade(DowngradeOutcome::StaleToken) => Err(ReleaseError::StaleToken),
            _ => Err(ServiceError::Unavailable.into()),
        }
    }

    /// The newest deadlocks that were prevented, the oldest first.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn deadlocks(&self) -> Result<Vec<DeadlockInfo>, ServiceError> {
        let reign = self.inner.reign().await?;
        let query = |table: &crate::LockTable| table.deadlocks().cloned().collect();
        self.inner.read_as_leader(&reign, query).await
    }

    /// Takes a lock from all that hold it. A free lock is left as it is.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn force_release(&self, lock: LockName) -> Result<(), ServiceError> {
        let reign = self.inner.reign().await?;
        self.inner.propose(&reign, Command::ForceRelease { lock }).await.map(|_| ())
    }

    /// Whether the grant with this token is in force.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn validate(
        &self,
        lock: LockName,
        token: FencingToken,
    ) -> Result<bool, ServiceError> {
        let reign = self.inner.reign().await?;
        self.inner.read_as_leader(&reign, move |table| table.is_valid(&lock, token)).await
    }

    /// The lock, where it is held.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn lock(&self, lock: LockName) -> Result<Option<LockInfo>, ServiceError> {
        let reign = self.inner.reign().await?;
        self.inner.read_as_leader(&reign, move |table| table.lock(&lock)).await
    }

    /// The locks whose names begin with `prefix` and come after `after`, in order, `limit` of them
    /// but at most [`PAGE_LOCKS_MAX`](crate::PAGE_LOCKS_MAX) and at least one.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn locks(
        &self,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<LockPage, ServiceError> {
        let reign = self.inner.reign().await?;
        let query = move |table: &crate::LockTable| table.locks(&prefix, after.as_deref(), limit);
        self.inner.read_as_leader(&reign, query).await
    }

    /// Who waits for whom; see [`LockTable::wait_for`](crate::LockTable::wait_for).
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn wait_for(&self) -> Result<Vec<WaitEdge>, ServiceError> {
        let reign = self.inner.reign().await?;
        self.inner.read_as_leader(&reign, crate::LockTable::wait_for).await
    }

    /// Takes back an acquire that was given up on another node. Done more than once it does
    /// nothing more.
    ///
    /// # Errors
    ///
    /// See [`ServiceError`].
    pub async fn withdraw(&self, withdrawal: Withdrawal) -> Result<(), ServiceError> {
        let reign = self.inner.reign().await?;
        self.inner.propose(&reign, withdrawal.into()).await.map(|_| ())
    }
}

impl From<Withdrawal> for Command {
    fn from(Withdrawal { attempt, locks, owner }: Withdrawal) -> Self {
        Self::Cancel { attempt, locks, owner }
    }
}

impl std::fmt::Debug for LockService {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LockService")
            .field("group", &self.inner.group)
            .finish_non_exhaustive()
    }
}
