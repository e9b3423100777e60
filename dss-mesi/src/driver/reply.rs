//! Waiting for the answer of an operation, in a future that may be dropped.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::node::Inner;
use crate::cache::{Answer, OperationId};
use crate::error::CacheError;

/// An answer that is there, or will come. Dropping it gives the operation up.
pub(super) struct Reply {
    inner: Arc<Inner>,
    operation: OperationId,
    receiver: Option<oneshot::Receiver<Answer>>,
}

impl Reply {
    pub(super) const fn new(
        inner: Arc<Inner>,
        operation: OperationId,
        receiver: oneshot::Receiver<Answer>,
    ) -> Self {
        Self { inner, operation, receiver: Some(receiver) }
    }

    pub(super) async fn answer(mut self) -> Answer {
        let Some(receiver) = self.receiver.as_mut() else {
            return Answer::Failed(CacheError::ShutDown);
        };
        let answer = receiver.await;
        self.receiver = None;
        // The sender is dropped only with the node's state.
        answer.unwrap_or(Answer::Failed(CacheError::ShutDown))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.receiver.is_some() {
            self.inner.cancel(self.operation);
        }
    }
}
