//! What requests for one lock and for several have in common.

use std::pin::Pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::guard::Held;
use super::session::{Core, Hold, RETRY_AFTER};
use crate::command::Wait;
use crate::names::{LockName, OwnerId, RequestId};
use crate::service::{AcquireError, ServiceError};

/// What is asked for comes as this.
pub(super) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AcquireError>> + Send + 'a>>;

/// What stands in the way of a new grant here.
pub(super) enum Present {
    Nothing,
    Held(Arc<Held>),
    Returning,
}

impl Core {
    fn present(&self, owner: &OwnerId, lock: &LockName) -> Present {
        match self.holds().get(&(owner.clone(), lock.clone())) {
            None => Present::Nothing,
            Some(Hold::Returning) => Present::Returning,
            Some(Hold::Held { held, .. }) => match held.upgrade() {
                // What was taken away by force may be asked for again; its guards stay lost.
                Some(held) if held.is_lost() => Present::Nothing,
                Some(held) => Present::Held(held),
                // It is just being dropped.
                None => Present::Returning,
            },
        }
    }

    /// What `owner` has guards of, among these locks, once nothing of them is on its way back.
    pub(super) async fn guarded(
        &self,
        owner: &OwnerId,
        locks: impl Iterator<Item = &LockName> + Clone,
    ) -> Result<Vec<Option<Arc<Held>>>, AcquireError> {
        loop {
            if self.lost().is_some() {
                return Err(AcquireError::SessionExpired);
            }
            // Before the look, so that what happens after it is not missed.
            let returned = self.returned.notified();
            let present = locks.clone().map(|lock| match self.present(owner, lock) {
                Present::Returning => None,
                Present::Nothing => Some(None),
                Present::Held(held) => Some(Some(held)),
            });
            if let Some(present) = present.collect() {
                return Ok(present);
            }
            returned.await;
        }
    }

    /// Asks, by `send`, and asks again under the same id until it is known what came of it or the
    /// session is lost.
    pub(super) async fn ask<'a, T>(
        &'a self,
        wait: Wait,
        send: impl Fn(RequestId, Wait) -> Answer<'a, T>,
    ) -> Result<T, AcquireError> {
        let begun = Instant::now();
        let mut request_id = self.next_request();
        loop {
            let left = match wait {
                Wait::For(span) => Wait::For(span.saturating_sub(begun.elapsed())),
                wait => wait,
            };
            let answer = tokio::select! {
                biased;
                _ = self.until_lost() => return Err(AcquireError::SessionExpired),
                answer = send(request_id.clone(), left) => answer,
            };
            match answer {
                Err(AcquireError::OwnerBusy | AcquireError::Cancelled) => {
                    // A request of this owner that was dropped is still being taken back.
                    request_id = self.next_request();
                }
                Err(AcquireError::Service(
                    ServiceError::NotLeader { .. }
                    | ServiceError::OutcomeUnknown
                    | ServiceError::Unavailable,
                )) => {}
                answer => return answer,
            }
            if let Wait::For(span) = wait
                && begun.elapsed() >= span + self.options.ttl
            {
                return Err(AcquireError::TimedOut);
            }
            sleep(RETRY_AFTER).await;
        }
    }
}
