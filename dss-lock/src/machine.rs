//! The lock table as a replicated state machine.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use dss_raft::{LogIndex, RestoreError, StateMachine};
use tokio::sync::{mpsc, watch};

use crate::command::{DecodeError, StampedCommand};
use crate::numbers::ClusterTime;
use crate::reply::{Event, Reply};
use crate::service::Parked;
use crate::snapshot::SnapshotError;
use crate::table::LockTable;

/// A [`LockTable`] that `dss-raft` replicates.
///
/// Every node of the group runs one and sees every [`Event`]; what is done about them is for the
/// [`LockService`](crate::LockService) that is started with the other half, [`LockEvents`].
#[derive(Debug)]
pub struct LockMachine {
    table: LockTable,
    /// What a command has brought about, before it is sent on; kept for its room.
    happened: Vec<Event>,
    events: mpsc::UnboundedSender<Event>,
    deadline: watch::Sender<Option<ClusterTime>>,
    /// Those of this node whose waits end here. They are told before whoever gave way to them has
    /// an answer: what they do next is what everybody behind them waits for.
    parked: Arc<Parked>,
}

/// What happens in a [`LockMachine`], for the service of the same node.
#[derive(Debug)]
pub struct LockEvents {
    /// In the order of the log, the ends of waits left out. What happened while a snapshot replaced
    /// the table is not among them.
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// When the table has next something to do.
    pub(crate) deadline: watch::Receiver<Option<ClusterTime>>,
    pub(crate) parked: Arc<Parked>,
}

impl LockMachine {
    /// A machine without locks, and what tells of it.
    ///
    /// The events are kept until they are taken: where no service is wanted, drop them.
    #[must_use]
    pub fn new() -> (Self, LockEvents) {
        let (events, received) = mpsc::unbounded_channel();
        let (deadline, next) = watch::channel(None);
        // Of the hashes alone, which show nowhere: so no client can choose names that collide.
        let seed = std::collections::hash_map::RandomState::new().hash_one(());
        let table = LockTable { seed, ..LockTable::default() };
        let parked = Arc::<Parked>::default();
        let events_of =
            LockEvents { events: received, deadline: next, parked: Arc::clone(&parked) };
        (Self { table, happened: Vec::new(), events, deadline, parked }, events_of)
    }

    /// The table as it is on this node.
    #[must_use]
    pub fn table(&self) -> &LockTable {
        &self.table
    }

    fn publish_deadline(&self) {
        let next = self.table.next_deadline();
        self.deadline.send_if_modified(|deadline| {
            let changed = *deadline != next;
            *deadline = next;
            changed
        });
    }
}

impl StateMachine for LockMachine {
    /// A command of another version, or no command, changes nothing on any node.
    type Reply = Result<Reply, DecodeError>;

    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Self::Reply {
        let StampedCommand { now, command } = StampedCommand::decode(command)?;
        let reply = self.table.apply_into(index.get(), now, command, &mut self.happened);
        for event in self.happened.drain(..) {
            if let Event::WaitEnded { attempts, outcome, .. } = &event {
                self.parked.wake(attempts, outcome);
                continue;
            }
            // Without a service nobody listens, which is nothing to the machine.
            let _ = self.events.send(event);
        }
        self.publish_deadline();
        Ok(reply)
    }

    fn snapshot(&self) -> Bytes {
        self.table.snapshot()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let table =
            LockTable::restore_seeded(snapshot, self.table.seed).map_err(|error| RestoreError {
                problem: match error {
                    SnapshotError::Decode(DecodeError::Version) => "of an unknown version",
                    SnapshotError::Decode(DecodeError::Malformed) => "malformed",
                    SnapshotError::Inconsistent(problem) => problem,
                },
            })?;
        self.table = table;
        self.publish_deadline();
        Ok(())
    }
}
