//! The queue behind Raft.

use std::sync::Arc;

use bytes::Bytes;
use dss_raft::{LogIndex, RestoreError, StateMachine};
use tokio::sync::watch;

use crate::command::{Command, Event, Reply};
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
}

/// The other end of a machine: whom to wake when it has applied something, and when it has
/// something to do by itself. For [`ReplicatedBroker::start`](crate::ReplicatedBroker::start).
#[derive(Debug)]
pub struct QueueEvents {
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) deadline: watch::Receiver<Option<UnixMillis>>,
}

impl QueueMachine {
    /// A machine with an empty queue, and what it tells.
    #[must_use]
    pub fn new() -> (Self, QueueEvents) {
        let waiters = Arc::new(Waiters::default());
        let (deadline, receiver) = watch::channel(None);
        let events = QueueEvents { waiters: Arc::clone(&waiters), deadline: receiver };
        (Self { queue: Queue::new(), waiters, deadline }, events)
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
                Event::Died { .. } | Event::Dropped { .. } => {}
            }
        }
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
