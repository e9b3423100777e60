//! Who waits until a snapshot that was asked for is in the log.

use tokio::sync::oneshot;

use super::error::{SnapshotError, Stopped};
use crate::types::{LogIndex, PersistSeq};

type Answer = oneshot::Sender<Result<Option<LogIndex>, SnapshotError>>;

/// Those who wait. Each is answered once: with the last entry of its snapshot when that is durable,
/// or with why it never will be. Whoever asked may have given up.
#[derive(Default)]
pub(super) struct SnapshotWaiters {
    waiting: Vec<SnapshotWaiter>,
}

struct SnapshotWaiter {
    /// The last entry of the snapshot.
    last: LogIndex,
    /// The write that names it, once there is one.
    named_by: Option<PersistSeq>,
    answer: Answer,
}

impl SnapshotWaiters {
    /// Somebody waits for the snapshot up to `last`.
    pub(super) fn push(&mut self, last: LogIndex, answer: Answer) {
        self.waiting.push(SnapshotWaiter { last, named_by: None, answer });
    }

    /// This write names the snapshot up to `last`.
    pub(super) fn named(&mut self, last: LogIndex, write: PersistSeq) {
        for waiter in self.waiting.iter_mut().filter(|waiter| waiter.last <= last) {
            waiter.named_by.get_or_insert(write);
        }
    }

    /// Every write up to this one is durable.
    pub(super) fn persisted(&mut self, write: PersistSeq) {
        self.end_where(|waiter| waiter.named_by.is_some_and(|named| named <= write), Ok);
    }

    /// There will be no snapshot up to `last`.
    pub(super) fn failed(&mut self, last: LogIndex) {
        self.end_where(|waiter| waiter.last == last, |_| Err(SnapshotError::Failed));
    }

    /// Nobody is answered any more otherwise.
    pub(super) fn stop(mut self, stopped: Stopped) {
        self.end_where(|_| true, |_| Err(stopped.into()));
    }

    fn end_where(
        &mut self,
        ends: impl Fn(&SnapshotWaiter) -> bool,
        outcome: impl Fn(LogIndex) -> Result<LogIndex, SnapshotError>,
    ) {
        for waiter in self.waiting.extract_if(.., |waiter| ends(waiter)) {
            let _ = waiter.answer.send(outcome(waiter.last).map(Some));
        }
    }
}
