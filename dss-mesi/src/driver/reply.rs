//! Waiting for the answer of an operation, in a future that may be dropped.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::drive::Inner;
use crate::cache::{Answer, Cache, OperationId};
use crate::error::CacheError;
use crate::view::Timestamp;

/// An answer that is there, or will come. Dropping it gives the operation up.
pub(super) enum Reply {
    There(Answer),
    Coming(Coming),
}

pub(super) struct Coming {
    inner: Arc<Inner>,
    place: usize,
    operation: OperationId,
    receiver: Option<oneshot::Receiver<Answer>>,
}

impl Reply {
    /// Begins an operation on a key of this part.
    pub(super) fn begin(
        inner: &Arc<Inner>,
        place: usize,
        begin: impl FnOnce(&mut Cache, Timestamp, OperationId),
    ) -> Self {
        let begun = inner.drive_operation(place, begin);
        match begun {
            Ok(answer) => Self::There(answer),
            Err((operation, receiver)) => {
                let (inner, receiver) = (Arc::clone(inner), Some(receiver));
                Self::Coming(Coming { inner, place, operation, receiver })
            }
        }
    }

    pub(super) async fn answer(self) -> Answer {
        match self {
            Self::There(answer) => answer,
            Self::Coming(coming) => coming.answer().await,
        }
    }
}

impl Coming {
    async fn answer(mut self) -> Answer {
        let Some(receiver) = self.receiver.as_mut() else {
            return Answer::Failed(CacheError::ShutDown);
        };
        let answer = receiver.await;
        self.receiver = None;
        // The sender is dropped only with the node's state.
        answer.unwrap_or(Answer::Failed(CacheError::ShutDown))
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if self.receiver.is_some() {
            self.inner.cancel(self.place, self.operation);
        }
    }
}

impl Inner {
    fn drive_operation(
        self: &Arc<Self>,
        place: usize,
        begin: impl FnOnce(&mut Cache, Timestamp, OperationId),
    ) -> Result<Answer, (OperationId, oneshot::Receiver<Answer>)> {
        let mut part = self.part(place);
        if part.closed {
            return Ok(Answer::Failed(CacheError::ShutDown));
        }
        let operation = part.begin();
        begin(&mut part.cache, self.now(), operation);
        let todo = self.pump(place, &mut part);
        let begun = part.begun(operation);
        drop(part);
        self.perform(place, todo);
        begun.map_err(|receiver| (operation, receiver))
    }
}
