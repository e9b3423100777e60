//! The queue behind Raft.

use std::sync::Arc;

use bytes::Bytes;
use dss_raft::{LogIndex, RestoreError, StateMachine};
use tokio::sync::watch;

use crate::command::{Command, Event, Reply};
use crate::placement::Placement;
use crate::queue::Queue;
use crate::refusal::Refusal;
use crate::time::UnixMillis;
use crate::waiters::Waiters;

/// A [`Queue`] as the state machine of one shard's group.
///
/// Its log entries are [`Command::encode`]'s, its snapshots [`Queue::snapshot`]'s. An entry that
/// cannot be read is answered by [`Refusal::Malformed`].
#[derive(Debug)]
pub struct QueueMachine {
    queue: Queue,
    waiters: Arc<Waiters>,
    deadline: watch::Sender<Option<UnixMillis>>,
    placed: watch::Sender<Placed>,
}

/// Where a shard stands in the placement of topics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placed {
    pub(crate) epoch: u64,
    /// Whether all that has to come and go for it has done so.
    pub(crate) is_settled: bool,
    /// `None` before the first change.
    pub(crate) placement: Option<Arc<Placement>>,
}

/// The other end of a machine: whom to wake when it has applied something, and when it has
/// something to do by itself. For [`ReplicatedBroker::start`](crate::ReplicatedBroker::start).
#[derive(Debug)]
pub struct QueueEvents {
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) deadline: watch::Receiver<Option<UnixMillis>>,
    pub(crate) placed: watch::Receiver<Placed>,
}

impl QueueMachine {
    /// A machine with an empty queue, and what it tells.
    #[must_use]
    pub fn new() -> (Self, QueueEvents) {
        Self::with(Queue::new())
    }

    /// The same for a shard that is to be added to others: it serves no topic before
    /// [`ReplicatedBroker::place`](crate::ReplicatedBroker::place) gives it its place.
    #[must_use]
    pub fn outside() -> (Self, QueueEvents) {
        Self::with(Queue::outside())
    }

    fn with(queue: Queue) -> (Self, QueueEvents) {
        let waiters = Arc::new(Waiters::default());
        let (deadline, next_deadline) = watch::channel(None);
        let (placed, placements) = watch::channel(Placed::default());
        let events = QueueEvents {
            waiters: Arc::clone(&waiters),
            deadline: next_deadline,
            placed: placements,
        };
        let machine = Self { queue, waiters, deadline, placed };
        machine.tell_placed();
        (machine, events)
    }

    fn tell_placed(&self) {
        let (epoch, is_settled) = (self.queue.epoch(), self.queue.is_settled());
        self.placed.send_if_modified(|placed| {
            if epoch == placed.epoch && is_settled == placed.is_settled {
                return false;
            }
            if epoch != placed.epoch {
                placed.placement =
                    self.queue.placements().map(|(_, current)| Arc::new(current.clone()));
            }
            (placed.epoch, placed.is_settled) = (epoch, is_settled);
            true
        });
    }

    /// The state.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    fn announce(&self, events: &[Event]) {
        for event in events {
            match event {
                Event::Published { topic, count } => self.waiters.call_all_groups(topic, *count),
                Event::Available { topic, group, count } => {
                    self.waiters.call(topic, group, *count);
                }
                Event::GroupDeleted { topic, group } => self.waiters.call(topic, group, u64::MAX),
                Event::Deleted { topic } => self.waiters.call_all_groups(topic, u64::MAX),
                Event::Placed => self.waiters.call_everybody(),
                Event::Left { topic } => self.waiters.call_all_groups(topic, u64::MAX),
                Event::Died { .. } | Event::Dropped { .. } => {}
            }
        }
        self.tell_placed();
        let next = self.queue.next_deadline();
        self.deadline.send_if_modified(|deadline| std::mem::replace(deadline, next) != next);
    }
}

impl StateMachine for QueueMachine {
    type Reply = Reply;

    fn apply(&mut self, _: LogIndex, command: &Bytes) -> Reply {
        let Ok((now, command)) = Command::decode(command) else {
            return Reply::Refused(Refusal::Malformed);
        };
        let (reply, events) = self.queue.apply(now, command);
        self.announce(&events);
        reply
    }

    fn snapshot(&self) -> Bytes {
        self.queue.snapshot()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let restored = Queue::restore(snapshot);
        self.queue = restored.map_err(|error| RestoreError { problem: error.problem })?;
        self.waiters.call_everybody();
        self.announce(&[]);
        Ok(())
    }
}
