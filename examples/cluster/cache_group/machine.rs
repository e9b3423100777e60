//! What the cache's Raft group replicates: the view, and main memory.

use bytes::Bytes;
use dss_mesi::{Epoch, MemoryTable, StoreOutcome, Stored, Version, View, ViewCommand, ViewTable};
use dss_raft::{LogIndex, RestoreError, StateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

/// The first byte of every command and snapshot.
const FORMAT: u8 = 1;

/// A command of the group. Each may be proposed again where its outcome is unknown: the second
/// time changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CacheCommand {
    /// Changes who takes part.
    View(ViewCommand),
    /// Stores a value, or a tombstone.
    Store { writer: Epoch, key: Bytes, version: Version, value: Option<Bytes> },
    /// Raises the fence.
    Fence(Epoch),
}

/// What a [`CacheCommand`] is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CacheReply {
    /// The view after the command.
    View(View),
    /// How the store ended.
    Stored(StoreOutcome),
    /// Where the fence stands after the command.
    Fence(Epoch),
    /// The command cannot be read, by this version.
    Malformed,
}

impl CacheCommand {
    pub(crate) fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![FORMAT]).expect("it holds nothing that has no form").into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        decode(bytes)
    }
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes.strip_prefix(&[FORMAT])?) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

/// The state machine of the group.
pub(crate) struct CacheMachine {
    views: ViewTable,
    memory: MemoryTable,
    announced: mpsc::UnboundedSender<View>,
    table: watch::Sender<ViewTable>,
}

/// What a [`CacheMachine`] tells its node.
pub(crate) struct CacheEvents {
    /// Every view that comes into force here, in order.
    pub(crate) views: mpsc::UnboundedReceiver<View>,
    /// The newest table of members.
    pub(crate) table: watch::Receiver<ViewTable>,
}

impl CacheMachine {
    /// An empty machine, and what it will tell while it is fed.
    pub(crate) fn new() -> (Self, CacheEvents) {
        // Views change when nodes come and go: rarely enough for a queue without a bound.
        let (announced, views) = mpsc::unbounded_channel();
        let (sender, table) = watch::channel(ViewTable::new());
        let machine =
            Self { views: ViewTable::new(), memory: MemoryTable::new(), announced, table: sender };
        (machine, CacheEvents { views, table })
    }

    /// Who takes part, and who may remove whom.
    pub(crate) fn table(&self) -> &ViewTable {
        &self.views
    }

    /// The newest write of `key`.
    pub(crate) fn load(&self, key: &[u8]) -> Option<Stored> {
        self.memory.load(key).cloned()
    }

    fn replace_table(&mut self, table: ViewTable) {
        if table.view().epoch > self.views.view().epoch {
            // Nobody listens any more where the node is shutting down.
            let _ = self.announced.send(table.view().clone());
        }
        self.table.send_replace(table.clone());
        self.views = table;
    }
}

impl StateMachine for CacheMachine {
    type Reply = CacheReply;

    fn apply(&mut self, _index: LogIndex, command: &Bytes) -> CacheReply {
        match CacheCommand::decode(command) {
            Some(CacheCommand::View(command)) => {
                let mut table = self.views.clone();
                let view = table.apply(command);
                self.replace_table(table);
                CacheReply::View(view)
            }
            Some(CacheCommand::Store { writer, key, version, value }) => {
                CacheReply::Stored(self.memory.store(writer, key, version, value))
            }
            Some(CacheCommand::Fence(epoch)) => CacheReply::Fence(self.memory.fence(epoch)),
            None => CacheReply::Malformed,
        }
    }

    fn snapshot(&self) -> Bytes {
        let parts = (self.views.snapshot(), self.memory.snapshot());
        postcard::to_extend(&parts, vec![FORMAT]).expect("two runs of bytes have a form").into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let damaged = |problem| move || RestoreError { problem };
        let (views, memory): (Bytes, Bytes) =
            decode(snapshot).ok_or_else(damaged("not a snapshot of the cache group"))?;
        let views = ViewTable::restore(&views).map_err(|_| damaged("its view")())?;
        let memory = MemoryTable::restore(&memory).map_err(|_| damaged("its memory")())?;
        self.memory = memory;
        self.replace_table(views);
        Ok(())
    }
}
