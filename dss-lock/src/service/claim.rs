//! What makes a dropped acquire leave nothing behind.

use std::sync::Arc;
use std::time::Duration;

use dss_raft::ReadError;
use tokio::sync::oneshot;

use super::Withdrawal;
use super::error::ServiceError;
use super::reign::{Inner, Reign};
use crate::names::{LockName, Owner, RequestId};
use crate::reply::Outcome;
use crate::views::Found;

/// How long a withdrawal that found no way waits for the next try. Each costs a read.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// An acquire that is under way. Dropped before it is [settled](Claim::settle) it takes the
/// acquire back: whatever has become of it, nobody has been told.
pub(super) struct Claim {
    inner: Arc<Inner>,
    /// The reign in which it was proposed.
    pub(super) reign: Reign,
    pub(super) withdrawal: Withdrawal,
    pub(super) request_id: Option<RequestId>,
    /// How the wait ended, once an event has told.
    pub(super) ended: oneshot::Receiver<Outcome>,
    settled: bool,
}

impl Claim {
    pub(super) fn new(
        inner: &Arc<Inner>,
        reign: Reign,
        locks: Vec<LockName>,
        owner: Owner,
        request_id: Option<RequestId>,
    ) -> Self {
        let (attempt, ended) = inner.parked.register(reign.term);
        let withdrawal = Withdrawal { attempt, locks, owner };
        let inner = Arc::clone(inner);
        Self { inner, reign, withdrawal, request_id, ended, settled: false }
    }

    /// The caller is being told, or there is surely nothing to take back.
    pub(super) fn settle(mut self) {
        self.settled = true;
    }

    /// Asks this node's table, through the leader, what has become of it.
    pub(super) async fn look_up(&self) -> Result<Found, ReadError> {
        let Withdrawal { attempt, locks, owner } = self.withdrawal.clone();
        let request_id = self.request_id.clone();
        let query = move |machine: &crate::LockMachine| {
            machine.table().find(attempt, &locks, &owner, request_id.as_ref())
        };
        self.inner.group.read(query).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.parked.forget(self.withdrawal.attempt);
        if !self.settled {
            let (inner, reign) = (Arc::clone(&self.inner), self.reign);
            self.inner.runtime.spawn(withdraw(inner, reign, self.withdrawal.clone()));
        }
    }
}

/// Takes an acquire back: proposed here, carried to whoever leads, or found to be over.
async fn withdraw(inner: Arc<Inner>, reign: Reign, withdrawal: Withdrawal) {
    loop {
        match inner.reign().await {
            Ok(current) => {
                if inner.propose(&current, withdrawal.clone().into()).await.is_ok() {
                    return;
                }
            }
            Err(ServiceError::NotLeader { leader: Some(leader) }) => {
                if inner.courier.carry(leader, withdrawal.clone()).await {
                    return;
                }
            }
            Err(_) => {}
        }
        let Withdrawal { attempt, locks, owner } = withdrawal.clone();
        let query =
            move |machine: &crate::LockMachine| machine.table().find(attempt, &locks, &owner, None);
        match inner.group.read(query).await {
            // While its own term lasts it may still be on its way to the log.
            Ok(Found::Nothing) if inner.leadership().term > reign.term => return,
            Ok(_) | Err(ReadError::NoLeader | ReadError::Overloaded) => {}
            // The node has stopped: the others elect, and the session expires.
            Err(_) => return,
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}
