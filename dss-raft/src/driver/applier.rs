//! The task that owns a group's state machine.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::core_task::Event;
use super::error::{ProposeError, ReadError};
use super::group::Applied;
use crate::entry::{Entries, Payload, Snapshot};
use crate::ports::StateMachine;
use crate::types::LogIndex;

/// After how many entries the task lets others run: a woken reader or the core task may be bound
/// to the same worker.
const ENTRIES_PER_TURN: usize = 256;

/// Who waits for the reply to a proposal, and the share of the limits that it holds meanwhile.
pub(super) struct ProposalWaiter<R> {
    outcome: oneshot::Sender<Result<Applied<R>, ProposeError>>,
    _budget: OwnedSemaphorePermit,
}

impl<R> ProposalWaiter<R> {
    pub(super) fn new(
        outcome: oneshot::Sender<Result<Applied<R>, ProposeError>>,
        budget: OwnedSemaphorePermit,
    ) -> Self {
        Self { outcome, _budget: budget }
    }

    /// Whoever waited may have given up.
    pub(super) fn end(self, outcome: Result<Applied<R>, ProposeError>) {
        let _ = self.outcome.send(outcome);
    }
}

type Answer<M> = dyn FnOnce(Result<&M, ReadError>) + Send;

/// A read on its way to the state machine. Dropped instead of answered, it ends as shut down.
pub(super) struct Query<M> {
    answer: Box<Answer<M>>,
    _budget: OwnedSemaphorePermit,
}

impl<M> Query<M> {
    pub(super) fn new(
        answer: impl FnOnce(Result<&M, ReadError>) + Send + 'static,
        budget: OwnedSemaphorePermit,
    ) -> Self {
        Self { answer: Box::new(answer), _budget: budget }
    }

    pub(super) fn end(self, machine: Result<&M, ReadError>) {
        (self.answer)(machine);
    }
}

/// What the core task wants done with the state machine, in this order.
pub(super) enum Job<M: StateMachine> {
    /// Apply these, and answer who proposed them here.
    Apply { entries: Entries, waiters: BTreeMap<LogIndex, ProposalWaiter<M::Reply>> },
    /// Replace the state.
    Restore(Snapshot),
    /// Take a snapshot of the state, which is that after this entry.
    TakeSnapshot(LogIndex),
    /// Answer once this entry is applied.
    Query { after: LogIndex, query: Query<M> },
}

/// The applier: `run` is its task.
pub(super) struct Applier<M: StateMachine> {
    machine: M,
    applied: LogIndex,
    jobs: mpsc::UnboundedReceiver<Job<M>>,
    events: mpsc::UnboundedSender<Event>,
    /// Reads that came before the entries they must see.
    waiting: BTreeMap<LogIndex, Vec<Query<M>>>,
}

/// However the task ends, nothing is applied behind it. A core task that ended first does not care.
impl<M: StateMachine> Drop for Applier<M> {
    fn drop(&mut self) {
        self.tell(Event::MachineFailed);
    }
}

/// The machine panicked or refused a snapshot; its state is not to be trusted.
struct MachineFailed;

impl<M: StateMachine> Applier<M> {
    pub(super) fn new(
        machine: M,
        applied: LogIndex,
        jobs: mpsc::UnboundedReceiver<Job<M>>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        Self { machine, applied, jobs, events, waiting: BTreeMap::new() }
    }

    /// Works until the core task has gone and every job is done, or until the machine fails.
    pub(super) async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            if self.perform(job).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The core task may have gone; the jobs it left are done all the same.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    async fn perform(&mut self, job: Job<M>) -> Result<(), MachineFailed> {
        match job {
            Job::Apply { entries, waiters } => self.apply(&entries, waiters).await,
            Job::Restore(snapshot) => {
                let restored =
                    catch_unwind(AssertUnwindSafe(|| self.machine.restore(&snapshot.data)));
                if !matches!(restored, Ok(Ok(()))) {
                    return Err(MachineFailed);
                }
                self.advance_to(snapshot.last.index);
                Ok(())
            }
            Job::TakeSnapshot(index) => {
                assert_eq!(index, self.applied, "a snapshot is taken right after its last entry");
                let data = catch_unwind(AssertUnwindSafe(|| self.machine.snapshot()))
                    .map_err(|_| MachineFailed)?;
                self.tell(Event::SnapshotTaken { index, data });
                Ok(())
            }
            Job::Query { after, query } => {
                if after <= self.applied {
                    query.end(Ok(&self.machine));
                } else {
                    self.waiting.entry(after).or_default().push(query);
                }
                Ok(())
            }
        }
    }

    async fn apply(
        &mut self,
        entries: &Entries,
        mut waiters: BTreeMap<LogIndex, ProposalWaiter<M::Reply>>,
    ) -> Result<(), MachineFailed> {
        for turn in entries.chunks(ENTRIES_PER_TURN) {
            for entry in turn {
                let index = entry.id.index;
                assert_eq!(index, self.applied.next(), "entries are applied once and in order");
                if let Payload::Command(command) = &entry.payload {
                    let reply =
                        catch_unwind(AssertUnwindSafe(|| self.machine.apply(index, command)))
                            .map_err(|_| MachineFailed)?;
                    if let Some(waiter) = waiters.remove(&index) {
                        waiter.end(Ok(Applied { index, reply }));
                    }
                }
                self.applied = index;
            }
            self.advance_to(self.applied);
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn advance_to(&mut self, index: LogIndex) {
        self.applied = index;
        self.tell(Event::Applied(index));
        while let Some(waiting) = self.waiting.first_entry()
            && *waiting.key() <= index
        {
            for query in waiting.remove() {
                query.end(Ok(&self.machine));
            }
        }
    }
}
