//! Acquires that are sure to wait go with the next command, instead of a write of their own.
//!
//! Whoever gives a lock back and asks for it again asks at the moment at which the next holder
//! gives it back. Were the acquire written at once, the release that everybody waits for would
//! have to wait for that write, and a hand-off would take two of them. So an acquire of a lock for
//! which others wait already is kept here until anything else is proposed: nothing can be granted
//! to it before. Where nothing comes, it is proposed a moment later.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dss_raft::ProposeError;
use tokio::sync::oneshot;

use super::error::ServiceError;
use super::reign::{Inner, Reign, Submission};
use crate::command::Command;
use crate::names::LockName;
use crate::reply::Reply;

/// How long an acquire is kept at most, to within the grain of the timers. That is how much later
/// its wait is seen, and a deadlock found; and how long it is delayed where it could have been
/// granted after all, since those before it have left together.
const DEFERRED_MAX: Duration = Duration::from_millis(5);

/// What is deferred, and what tells whether an acquire may be.
#[derive(Default)]
pub(super) struct Deferral {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    deferred: Vec<Deferred>,
    /// Whether a task will propose them when their time is over.
    is_timed: bool,
    /// Of the locks that this service has something under way for.
    locks: BTreeMap<LockName, UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    /// Acquires that wait in the queue of the lock.
    waits: usize,
    /// Releases that were proposed and are not answered.
    releases: usize,
}

/// An acquire that is not proposed yet.
struct Deferred {
    reign: Reign,
    command: Command,
    submitted: oneshot::Sender<Result<Submission, ProposeError>>,
}

/// Which of the two is under way.
#[derive(Clone, Copy)]
enum Kind {
    Wait,
    Release,
}

/// Something under way for a lock, until it is dropped.
pub(super) struct Noted<'a> {
    deferral: &'a Deferral,
    lock: LockName,
    kind: Kind,
}

impl Deferral {
    /// An acquire waits for the lock from now on.
    pub(super) fn note_wait(&self, lock: LockName) -> Noted<'_> {
        self.note(lock, Kind::Wait)
    }

    /// A release of the lock is proposed.
    pub(super) fn note_release(&self, lock: LockName) -> Noted<'_> {
        self.note(lock, Kind::Release)
    }

    fn note(&self, lock: LockName, kind: Kind) -> Noted<'_> {
        *self.state().locks.entry(lock.clone()).or_default().count(kind) += 1;
        Noted { deferral: self, lock, kind }
    }

    /// Whether whoever asks for the lock exclusively is sure to wait: more wait already than there
    /// are releases under way, each of which lets one of them through.
    pub(super) fn is_queued_for(&self, lock: &LockName) -> bool {
        let state = self.state();
        state.locks.get(lock).is_some_and(|under_way| under_way.waits > under_way.releases)
    }

    fn take(&self) -> Vec<Deferred> {
        std::mem::take(&mut self.state().deferred)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under this lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Wait => &mut self.waits,
            Kind::Release => &mut self.releases,
        }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let mut state = self.deferral.state();
        let Some(under_way) = state.locks.get_mut(&self.lock) else { return };
        *under_way.count(self.kind) -= 1;
        if under_way.waits + under_way.releases == 0 {
            state.locks.remove(&self.lock);
        }
    }
}

impl Inner {
    /// Proposes the command like [`propose`](Inner::propose), but not before something else is, or
    /// a moment has passed.
    pub(super) async fn propose_deferred(
        self: &Arc<Self>,
        reign: &Reign,
        command: Command,
    ) -> Result<Reply, ServiceError> {
        let (submitted, submission) = oneshot::channel();
        let deferred = Deferred { reign: *reign, command, submitted };
        let timed = {
            let mut state = self.deferral.state();
            state.deferred.push(deferred);
            std::mem::replace(&mut state.is_timed, true)
        };
        if !timed {
            self.runtime.spawn(Arc::clone(self).propose_in_time());
        }
        // Who takes it out of the list submits it, whatever comes of that.
        let submission = submission.await.map_err(|_| ServiceError::Unavailable)?;
        Self::ended(submission?.await)
    }

    /// Proposes what is deferred.
    pub(super) fn propose_what_is_deferred(&self) {
        for Deferred { reign, command, submitted } in self.deferral.take() {
            if submitted.is_closed() {
                // Nobody wants it any more, and nobody has it yet.
                continue;
            }
            let submission = if *self.reign.borrow() == Some(reign) {
                self.submit(&reign, command)
            } else {
                Err(ProposeError::NotLeader { leader: self.known_leader() })
            };
            // Whoever waited may have gone just now.
            let _ = submitted.send(submission);
        }
    }

    /// Proposes what is deferred from time to time, until nothing is.
    async fn propose_in_time(self: Arc<Self>) {
        loop {
            tokio::time::sleep(DEFERRED_MAX).await;
            {
                let mut state = self.deferral.state();
                if state.deferred.is_empty() {
                    state.is_timed = false;
                    return;
                }
            }
            self.propose_what_is_deferred();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acquire_is_sure_to_wait_behind_more_waits_than_releases() {
        let deferral = Deferral::default();
        let lock = LockName::new("a").unwrap();
        let is_queued_for = || deferral.is_queued_for(&lock);
        assert!(!is_queued_for());
        let first = deferral.note_wait(lock.clone());
        assert!(is_queued_for());
        let release = deferral.note_release(lock.clone());
        assert!(!is_queued_for(), "the only one that waits is let through");
        let second = deferral.note_wait(lock.clone());
        assert!(is_queued_for());
        drop((release, first));
        assert!(is_queued_for());
        drop(second);
        assert!(!is_queued_for());
        assert!(deferral.state().locks.is_empty());
    }
}
