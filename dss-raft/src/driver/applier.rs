//! The task that owns a group's state machine.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::budget::Share;
use super::error::{ProposeError, ReadError};
use super::group::Applied;
use super::group_snapshots::GroupSnapshots;
use super::inputs::Event;
use super::waiters::Waiters;
use crate::entry::{Entries, Payload, Snapshot};
use crate::ports::StateMachine;
use crate::types::LogIndex;

/// What is expected to take longer than this is done on a blocking thread, where it keeps no other
/// task waiting; below it, the way there and back would be the greater part.
const INLINE_MAX: Duration = Duration::from_micros(500);

/// After how many entries the clock is looked at again, which takes as long as a small entry does.
const CLOCK_EVERY: usize = 8;

/// Who waits for the reply to a proposal, and the share of the limits that it holds meanwhile.
pub(super) struct ProposalWaiter<R> {
    outcome: oneshot::Sender<Result<Applied<R>, ProposeError>>,
    _share: Share,
}

impl<R> ProposalWaiter<R> {
    pub(super) fn new(
        outcome: oneshot::Sender<Result<Applied<R>, ProposeError>>,
        share: Share,
    ) -> Self {
        Self { outcome, _share: share }
    }

    /// Whether whoever waited has given up.
    pub(super) fn is_abandoned(&self) -> bool {
        self.outcome.is_closed()
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
    _share: Share,
}

impl<M> Query<M> {
    pub(super) fn new(
        answer: impl FnOnce(Result<&M, ReadError>) + Send + 'static,
        share: Share,
    ) -> Self {
        Self { answer: Box::new(answer), _share: share }
    }

    pub(super) fn end(self, machine: Result<&M, ReadError>) {
        (self.answer)(machine);
    }
}

/// What the core task wants done with the state machine, in this order.
pub(super) enum Job<M: StateMachine> {
    /// Apply these, and answer who proposed them here.
    Apply { entries: Entries, waiters: Waiters<LogIndex, ProposalWaiter<M::Reply>> },
    /// Replace the state.
    Restore(Box<Snapshot>),
    /// Take a snapshot of the state, which is that after this entry.
    TakeSnapshot(LogIndex),
    /// Answer once this entry is applied.
    Query { after: LogIndex, query: Query<M> },
}

/// The applier: `run` is its task.
pub(super) struct Applier<M: StateMachine> {
    jobs: mpsc::UnboundedReceiver<Job<M>>,
    worker: Worker<M>,
}

impl<M: StateMachine> Applier<M> {
    /// `machine` is as after `applied`.
    pub(super) fn new(
        machine: M,
        applied: LogIndex,
        snapshots: GroupSnapshots,
        jobs: mpsc::UnboundedReceiver<Job<M>>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Self {
        let worker = Worker {
            machine,
            applied,
            snapshots,
            events,
            waiting: BTreeMap::new(),
            pace: Duration::ZERO,
            freezing: Duration::ZERO,
        };
        Self { jobs, worker }
    }

    /// Works until the core task has gone and every job is done, or until the machine fails.
    pub(super) async fn run(self) {
        let Self { mut jobs, mut worker } = self;
        while let Some(job) = jobs.recv().await {
            let mut left = Some(job);
            if let Some(job) = left.take_if(|job| !worker.would_block(job)) {
                match worker.perform(job, INLINE_MAX) {
                    Ok(rest) => left = rest,
                    Err(MachineFailed) => return,
                }
            }
            if let Some(job) = left {
                let done = tokio::task::spawn_blocking(move || {
                    let performed = worker.perform(job, Duration::MAX);
                    (worker, performed)
                });
                // The work panics only where an invariant is broken: the worker says goodbye when
                // it is dropped.
                let Ok((returned, Ok(_))) = done.await else { return };
                worker = returned;
            }
            // A woken reader or the core task may be bound to this very thread.
            tokio::task::yield_now().await;
        }
    }
}

/// The state machine, and who waits for it.
struct Worker<M: StateMachine> {
    machine: M,
    applied: LogIndex,
    snapshots: GroupSnapshots,
    events: mpsc::UnboundedSender<Event>,
    /// Reads that came before the entries they must see.
    waiting: BTreeMap<LogIndex, Vec<Query<M>>>,
    /// How long an entry takes, as a moving average.
    pace: Duration,
    /// How long it took to freeze the machine, the last time.
    freezing: Duration,
}

/// However the task ends, nothing is applied behind it. A core task that ended first does not care.
impl<M: StateMachine> Drop for Worker<M> {
    fn drop(&mut self) {
        self.tell(Event::MachineFailed);
    }
}

/// The machine panicked or refused a snapshot; its state is not to be trusted.
struct MachineFailed;

impl<M: StateMachine> Worker<M> {
    /// The core task may have gone; the jobs it left are done all the same.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn would_block(&self, job: &Job<M>) -> bool {
        match job {
            Job::Apply { entries, .. } => {
                let entries = u32::try_from(entries.len()).unwrap_or(u32::MAX);
                self.pace.saturating_mul(entries) > INLINE_MAX
            }
            // It reads a file.
            Job::Restore(_) => true,
            Job::TakeSnapshot(_) => self.freezing > INLINE_MAX,
            // Asked to be short.
            Job::Query { .. } => false,
        }
    }

    /// Does the job, or as much of it as may be done within `limit`: returns the rest.
    fn perform(&mut self, job: Job<M>, limit: Duration) -> Result<Option<Job<M>>, MachineFailed> {
        match job {
            Job::Apply { entries, waiters } => return self.apply(&entries, waiters, limit),
            Job::Restore(snapshot) => {
                let restored = catch_unwind(AssertUnwindSafe(|| {
                    self.snapshots.restore(&snapshot.data, &mut self.machine)
                }));
                if !matches!(restored, Ok(Ok(()))) {
                    return Err(MachineFailed);
                }
                self.advance_to(snapshot.last.index);
            }
            Job::TakeSnapshot(index) => {
                assert_eq!(index, self.applied, "a snapshot is taken right after its last entry");
                let begun = Instant::now();
                let image = catch_unwind(AssertUnwindSafe(|| self.machine.freeze()))
                    .map_err(|_| MachineFailed)?;
                self.freezing = begun.elapsed();
                self.snapshots.store(index, image, self.events.clone());
            }
            Job::Query { after, query } => {
                if after <= self.applied {
                    query.end(Ok(&self.machine));
                } else {
                    self.waiting.entry(after).or_default().push(query);
                }
            }
        }
        Ok(None)
    }

    fn apply(
        &mut self,
        entries: &Entries,
        mut waiters: Waiters<LogIndex, ProposalWaiter<M::Reply>>,
        limit: Duration,
    ) -> Result<Option<Job<M>>, MachineFailed> {
        let begun = Instant::now();
        let mut done = 0;
        for entry in entries.iter() {
            if done % CLOCK_EVERY == 0 && begun.elapsed() > limit {
                break;
            }
            let index = entry.id.index;
            assert_eq!(index, self.applied.next(), "entries are applied once and in order");
            if let Payload::Command(command) = &entry.payload {
                let reply = catch_unwind(AssertUnwindSafe(|| self.machine.apply(index, command)))
                    .map_err(|_| MachineFailed)?;
                if let Some(waiter) = waiters.take(index) {
                    waiter.end(Ok(Applied { index, reply }));
                }
            }
            self.applied = index;
            done += 1;
        }
        self.advance_to(self.applied);
        let each = begun.elapsed() / u32::try_from(done).unwrap_or(u32::MAX).max(1);
        self.pace = (self.pace * 3 + each) / 4;
        let entries = entries.slice(done..entries.len());
        Ok((!entries.is_empty()).then_some(Job::Apply { entries, waiters }))
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
