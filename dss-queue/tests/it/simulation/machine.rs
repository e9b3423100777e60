//! The shard's machine, watched by the ledger, and with a bug where one is planted.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use dss_queue::{Command, QueueMachine, Reply, UnixMillis};
use dss_raft::{LogIndex, RestoreError, StateMachine};

use super::GROUP;
use super::ledger::Ledger;
use crate::bench::{group, topic};

/// A bug that is planted around the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    AcksWithoutTheLease,
    /// A node that restarts from a snapshot begins at the oldest message that is kept.
    ForgetsThePlace,
    /// A node that restarts from a snapshot stores again what was stored before.
    ForgetsDedupeIds,
}

/// A [`QueueMachine`] that shows the ledger what it does.
pub(super) struct Watched {
    machine: QueueMachine,
    ledger: Arc<Mutex<Ledger>>,
    flaw: Option<Flaw>,
    restored: bool,
}

impl Watched {
    pub(super) fn new(ledger: Arc<Mutex<Ledger>>, flaw: Option<Flaw>) -> Self {
        Self { machine: QueueMachine::new().0, ledger, flaw, restored: false }
    }

    fn distort(&self, mut command: Command) -> Command {
        match (&mut command, self.flaw) {
            (Command::Ack { topic, group, receipts }, Some(Flaw::AcksWithoutTheLease)) => {
                let leases = self.machine.queue().leases(topic, group).unwrap_or_default();
                for receipt in receipts {
                    let message = receipt.message();
                    let lease = leases.iter().find(|lease| lease.receipt.message() == message);
                    *receipt = lease.map_or(*receipt, |lease| lease.receipt);
                }
            }
            (Command::Publish { messages, .. }, Some(Flaw::ForgetsDedupeIds)) if self.restored => {
                messages.iter_mut().for_each(|message| message.dedupe_id = None);
            }
            _ => {}
        }
        command
    }
}

impl StateMachine for Watched {
    type Reply = Reply;

    fn apply(&mut self, index: LogIndex, entry: &Bytes) -> Reply {
        let (now, command) = Command::decode(entry).expect("the clients' own encoding");
        let distorted = self.distort(command.clone()).encode(now);
        let reply = self.machine.apply(index, &distorted);
        self.ledger.lock().unwrap().applied(index, now, &command, &reply);
        reply
    }

    fn snapshot(&self) -> Bytes {
        self.machine.snapshot()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        self.machine.restore(snapshot)?;
        self.restored = true;
        if self.flaw == Some(Flaw::ForgetsThePlace) {
            let forget = Command::DeleteGroup { topic: topic("orders"), group: group(GROUP) };
            self.machine.apply(LogIndex::ZERO, &forget.encode(UnixMillis::ZERO));
        }
        Ok(())
    }
}
