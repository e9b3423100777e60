//! What clients have asked and the core has not taken in.

use tokio::sync::mpsc;

use super::inputs::Request;
use crate::ports::StateMachine;

/// Requests in the order in which they came. The first may have been taken out of the queue to see
/// that somebody is there, and be held back for later.
pub(super) struct Requests<M: StateMachine> {
    held: Option<Request<M>>,
    queue: mpsc::UnboundedReceiver<Request<M>>,
}

impl<M: StateMachine> Requests<M> {
    pub(super) fn new(queue: mpsc::UnboundedReceiver<Request<M>>) -> Self {
        Self { held: None, queue }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len() + usize::from(self.held.is_some())
    }

    /// The first, where it is here.
    pub(super) fn pop(&mut self) -> Option<Request<M>> {
        self.held.take().or_else(|| self.queue.try_recv().ok())
    }

    /// Waits for the next one to come: for where none is held back.
    pub(super) async fn recv(&mut self) -> Option<Request<M>> {
        debug_assert!(self.held.is_none(), "the one that is held back comes first");
        self.queue.recv().await
    }

    /// Takes back the one that has just come.
    pub(super) fn hold(&mut self, request: Request<M>) {
        debug_assert!(self.held.is_none(), "requests keep their order");
        self.held = Some(request);
    }

    pub(super) fn has_held(&self) -> bool {
        self.held.is_some()
    }

    /// The one that is held back.
    pub(super) fn take_held(&mut self) -> Option<Request<M>> {
        self.held.take()
    }

    /// Lets no more in.
    pub(super) fn close(&mut self) {
        self.queue.close();
    }
}
