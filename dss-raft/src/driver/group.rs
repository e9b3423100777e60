//! A group as its users see it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::applier::{ProposalWaiter, Query};
use super::budget::Budget;
use super::error::{MembershipError, ProposeError, ReadError, SnapshotError};
use super::inputs::{Event, Request};
use super::published::{Metrics, Published};
use crate::core::{Status, TransferError};
use crate::entry::Configuration;
use crate::output::{Leadership, RoleKind};
use crate::ports::StateMachine;
use crate::types::{LogIndex, NodeId};

/// How many proposals, and how many KiB of them, are under way at most: as much as a leader may
/// have uncommitted.
const PROPOSALS_MAX: usize = 64 << 10;
/// How many reads are under way at most.
const READS_MAX: usize = 64 << 10;

/// One group on this node: what a service proposes to and reads from.
///
/// Cheap to clone. Every future may be dropped at any time: a proposal that was not yet taken in
/// is then not made, one that was goes its way without anybody waiting for it.
pub struct Group<M: StateMachine> {
    shared: Arc<Shared<M>>,
}

/// The reply to a proposal, and where in the log it was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied<R> {
    /// The command's place in the log.
    pub index: LogIndex,
    /// What the state machine of this node answered.
    pub reply: R,
}

/// What the handle and the core task have in common.
pub(super) struct Shared<M: StateMachine> {
    /// As many as the budgets let through.
    pub(super) requests: mpsc::UnboundedSender<Request<M>>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) published: Arc<Published>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) proposals: Arc<Budget>,
    pub(super) reads: Arc<Budget>,
}

impl<M: StateMachine> Shared<M> {
    pub(super) fn new(
        requests: mpsc::UnboundedSender<Request<M>>,
        events: mpsc::UnboundedSender<Event>,
        published: Arc<Published>,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        Self {
            requests,
            events,
            published,
            leadership,
            proposals: Budget::new(PROPOSALS_MAX),
            reads: Budget::new(READS_MAX),
        }
    }
}

/// A proposal under way: what it comes to. Dropped before it was taken in, it is not made.
#[derive(Debug)]
pub struct Submitted<R> {
    ended: oneshot::Receiver<Result<Applied<R>, ProposeError>>,
}

impl<R> Future for Submitted<R> {
    type Output = Result<Applied<R>, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Without an answer it went down with the node, at whatever point.
        Pin::new(&mut self.ended)
            .poll(context)
            .map(|ended| ended.unwrap_or(Err(ProposeError::OutcomeUnknown)))
    }
}

impl<M: StateMachine> Group<M> {
    pub(super) fn new(shared: Shared<M>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Replicates the command and applies it; works on the leader only.
    ///
    /// # Errors
    ///
    /// See [`ProposeError`]: it says whether the command may still be applied.
    pub async fn propose(&self, command: Bytes) -> Result<Applied<M::Reply>, ProposeError> {
        self.submit(command)?.await
    }

    /// Replicates the command as [`propose`](Group::propose) does, from now on and not only when
    /// somebody waits for it: what is submitted first comes first in the log, where both get there.
    ///
    /// # Errors
    ///
    /// Where it was not even tried; see [`ProposeError`].
    pub fn submit(&self, command: Bytes) -> Result<Submitted<M::Reply>, ProposeError> {
        let units = 1 + command.len() / 1024;
        let share = self.shared.proposals.take(units).ok_or(ProposeError::Overloaded)?;
        let (outcome, ended) = oneshot::channel();
        let waiter = ProposalWaiter::new(outcome, share);
        let request = Request::Propose { command, waiter };
        if self.shared.requests.send(request).is_err() {
            return Err(self.shared.published.stopped().into());
        }
        Ok(Submitted { ended })
    }

    /// Runs `query` on this node's state machine once that has applied everything that was
    /// committed anywhere when the read began: linearizable, on any node.
    ///
    /// `query` runs between two commands, so it should be short. If it panics, so does this.
    ///
    /// # Errors
    ///
    /// Where no leader could confirm the read; see [`ReadError`].
    pub async fn read<R: Send + 'static>(
        &self,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.run(query, Request::Read).await
    }

    /// Runs `query` on this node's state machine as it is: it may lag behind what is committed.
    ///
    /// If `query` panics, so does this.
    ///
    /// # Errors
    ///
    /// Where the group has stopped, or too many reads are under way.
    pub async fn read_local<R: Send + 'static>(
        &self,
        query: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.run(query, Request::ReadLocal).await
    }

    async fn run<R: Send + 'static>(
        &self,
        query: impl FnOnce(&M) -> R + Send + 'static,
        request: impl FnOnce(Query<M>) -> Request<M>,
    ) -> Result<R, ReadError> {
        let share = self.shared.reads.take(1).ok_or(ReadError::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        let query = move |machine: Result<&M, ReadError>| {
            if !answer.is_closed() {
                let result =
                    machine.map(|machine| catch_unwind(AssertUnwindSafe(|| query(machine))));
                // Whoever asked may have given up meanwhile.
                let _ = answer.send(result);
            }
        };
        if self.shared.requests.send(request(Query::new(query, share))).is_err() {
            return Err(self.shared.published.stopped().into());
        }
        match answered.await {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(panic))) => resume_unwind(panic),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.shared.published.stopped().into()),
        }
    }

    /// How the group stands on this node: a sample, no older than the last answer that this node
    /// gave to a proposal or a read.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.published.status()
    }

    /// What the group has done on this node: a sample, taken a moment ago.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.published.metrics()
    }

    /// Takes a snapshot of this node's state machine now and cuts its log behind it, however short
    /// that is: up to which entry, once both are durable; `None` where nothing was applied since
    /// the last one.
    ///
    /// The state machine is held up only for [`StateMachine::freeze`].
    ///
    /// # Errors
    ///
    /// Where it could not be stored, or the group has stopped; see [`SnapshotError`].
    pub async fn snapshot(&self) -> Result<Option<LogIndex>, SnapshotError> {
        let (answer, answered) = oneshot::channel();
        let stopped = || self.shared.published.stopped().into();
        self.shared.events.send(Event::TakeSnapshot { answer }).map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Who leads, and every change of it from now on. Closed when the group stops.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.clone()
    }

    /// Makes `target` the members of the group, if `expected` are its members now; works on the
    /// leader only, and ends once `target`, and nothing but it, is in force: at which entry.
    ///
    /// `expected` is what [`status`](Group::status) said when `target` was thought up: of two
    /// operators that change the group at the same time, one is refused. New members are started
    /// with [`Node::start_group`](super::Node::start_group) first, and with the members that all
    /// others were started with; new voters receive the log before anything else happens, so that
    /// the group never waits for them. A leader that is not among the new voters hands over.
    ///
    /// The change goes on where this future is dropped.
    ///
    /// # Errors
    ///
    /// See [`MembershipError`]: it says whether the members may still change.
    pub async fn change(
        &self,
        expected: Configuration,
        target: Configuration,
    ) -> Result<LogIndex, MembershipError> {
        let (answer, answered) = oneshot::channel();
        let event = Event::Change { expected, target, answer };
        if self.shared.events.send(event).is_err() {
            return Err(self.shared.published.stopped().into());
        }
        answered.await.unwrap_or(Err(MembershipError::OutcomeUnknown))
    }

    /// Hands leadership to `to`, or to the voter whose log is furthest; done when this node leads
    /// no more. Proposals are refused meanwhile.
    ///
    /// # Errors
    ///
    /// Where this node does not lead, `to` cannot, or it did not happen within about an election
    /// timeout.
    pub async fn transfer_leadership(&self, to: Option<NodeId>) -> Result<(), TransferError> {
        transfer(&self.shared.events, self.leadership(), to).await
    }
}

/// Asks the core task for the transfer and waits for its end.
pub(super) async fn transfer(
    events: &mpsc::UnboundedSender<Event>,
    mut leadership: watch::Receiver<Leadership>,
    to: Option<NodeId>,
) -> Result<(), TransferError> {
    let (answer, answered) = oneshot::channel();
    let not_leader = |_| TransferError::NotLeader { leader: None };
    events
        .send(Event::Transfer { to, answer })
        .map_err(|_| TransferError::NotLeader { leader: None })?;
    let (_, limit) = answered.await.map_err(not_leader)??;
    let gone = leadership.wait_for(|leadership| leadership.role != RoleKind::Leader);
    match tokio::time::timeout(limit, gone).await {
        // Closed means that the group has stopped, and with it leads no more.
        Ok(_) => Ok(()),
        Err(_) => Err(TransferError::TimedOut),
    }
}

impl<M: StateMachine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: StateMachine> std::fmt::Debug for Group<M> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Group").field("status", &self.status()).finish_non_exhaustive()
    }
}
