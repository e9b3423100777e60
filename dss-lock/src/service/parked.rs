//! The acquires of this node that wait for their end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dss_raft::Term;
use tokio::sync::oneshot;

use crate::numbers::AttemptId;
use crate::reply::Outcome;

/// Who is to be woken by the end of which wait.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    waiting: Mutex<BTreeMap<AttemptId, oneshot::Sender<Outcome>>>,
    sequence: AtomicU64,
}

impl Parked {
    /// A new attempt, and where its end will be told. To be given back by
    /// [`forget`](Parked::forget).
    pub(super) fn register(&self, term: Term) -> (AttemptId, oneshot::Receiver<Outcome>) {
        // Only the leader of a term makes attempts in it, and it counts them.
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let attempt = AttemptId { term: term.get(), sequence };
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(attempt, sender);
        (attempt, receiver)
    }

    pub(super) fn forget(&self, attempt: AttemptId) {
        self.waiting().remove(&attempt);
    }

    /// Tells those of the attempts that are of this node.
    pub(crate) fn wake(&self, attempts: &[AttemptId], outcome: &Outcome) {
        let mut waiting = self.waiting();
        for attempt in attempts {
            if let Some(sender) = waiting.remove(attempt) {
                // Whoever waited may have gone just now; its claim is then being withdrawn.
                let _ = sender.send(outcome.clone());
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<AttemptId, oneshot::Sender<Outcome>>> {
        // Nothing that is done under this lock leaves it half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
