//! One part of a node.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::cache::{Answer, Cache, Dropped, OperationId};
use crate::home::{Home, HomeOutput};
use crate::message::Message;
use crate::statistics::Statistics;
use crate::view::{NodeId, Timestamp};

/// The cores of the keys of one part, and who waits for them.
// The cache comes first: what every hit looks at lies beside the lock, and what hits of one part
// change lies apart from what those of others do.
#[repr(C, align(128))]
pub(super) struct Part {
    pub(super) cache: Cache,
    pub(super) home: Home,
    pub(super) closed: bool,
    last_operation: u64,
    /// The operation that is begun just now, and its answer if that comes at once.
    current: Option<OperationId>,
    immediate: Option<Answer>,
    replies: BTreeMap<OperationId, oneshot::Sender<Answer>>,
}

/// What is to be done once a part is unlocked.
#[derive(Debug, Default)]
pub(super) struct Todo {
    pub(super) calls: Vec<HomeOutput>,
    pub(super) dropped: Vec<Dropped>,
}

impl Part {
    pub(super) const fn new(cache: Cache, home: Home) -> Self {
        Self {
            cache,
            home,
            closed: false,
            last_operation: 0,
            current: None,
            immediate: None,
            replies: BTreeMap::new(),
        }
    }

    /// The next operation begins.
    pub(super) fn begin(&mut self) -> OperationId {
        self.last_operation += 1;
        let operation = OperationId::new(self.last_operation);
        self.current = Some(operation);
        operation
    }

    /// The operation has begun: its answer, or where that will come.
    pub(super) fn begun(
        &mut self,
        operation: OperationId,
    ) -> Result<Answer, oneshot::Receiver<Answer>> {
        self.current = None;
        if let Some(answer) = self.immediate.take() {
            return Ok(answer);
        }
        let (sender, receiver) = oneshot::channel();
        self.replies.insert(operation, sender);
        Err(receiver)
    }

    pub(super) fn cancel(&mut self, operation: OperationId) {
        self.replies.remove(&operation);
        self.cache.cancel(operation);
    }

    pub(super) fn answer(&mut self, operation: OperationId, answer: Answer) {
        if self.current == Some(operation) {
            self.immediate = Some(answer);
        } else if let Some(reply) = self.replies.remove(&operation) {
            // Nobody listens any more: then nobody wants to know.
            let _ = reply.send(answer);
        }
    }

    pub(super) fn handle_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        if self.closed {
            return;
        }
        if message.body.is_for_home() {
            self.home.handle_message(now, from, message);
        } else {
            self.cache.handle_message(now, from, message);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let (cache, home) = (self.cache.poll_timeout(), self.home.poll_timeout());
        cache.into_iter().chain(home).min()
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.cache.statistics().plus(self.home.statistics())
    }
}
