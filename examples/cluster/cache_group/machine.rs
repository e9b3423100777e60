//! What the cache's Raft group replicates: the view, and main memory or where that is instead.

use bytes::Bytes;
use dss_mesi::{Epoch, MemoryTable, StoreOutcome, Stored, Version, View, ViewCommand, ViewTable};
use dss_raft::{LogIndex, RestoreError, StateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::register::{Register, RegisterCommand, RegisterReply};

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
    /// Says which Redis servers are main memory instead.
    Register(RegisterCommand),
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
    /// What the register answers.
    Register(RegisterReply),
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
    register: Register,
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
        let machine = Self {
            views: ViewTable::new(),
            memory: MemoryTable::new(),
            register: Register::default(),
            announced,
            table: sender,
        };
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

    /// Whether main memory is on Redis servers.
    pub(crate) fn is_on_redis(&self) -> bool {
        self.register.is_in_use()
    }

    fn change_view(&mut self, command: ViewCommand) -> View {
        let mut table = self.views.clone();
        let view = table.apply(command);
        self.replace_table(table);
        view
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
            Some(CacheCommand::View(command)) => CacheReply::View(self.change_view(command)),
            Some(CacheCommand::Store { writer, key, version, value }) => {
                CacheReply::Stored(self.memory.store(writer, key, version, value))
            }
            Some(CacheCommand::Fence(epoch)) => CacheReply::Fence(self.memory.fence(epoch)),
            Some(CacheCommand::Register(command)) => {
                let (reply, used) = self.register.apply(command);
                if let Some(epoch) = used {
                    self.change_view(ViewCommand::Pass { epoch });
                }
                CacheReply::Register(reply)
            }
            None => CacheReply::Malformed,
        }
    }

    fn snapshot(&self) -> Bytes {
        let parts = (self.views.snapshot(), self.memory.snapshot(), &self.register);
        postcard::to_extend(&parts, vec![FORMAT]).expect("it holds nothing that has no form").into()
    }

    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
        let damaged = |problem| move || RestoreError { problem };
        let (views, memory, register): (Bytes, Bytes, Register) =
            decode(snapshot).ok_or_else(damaged("not a snapshot of the cache group"))?;
        let views = ViewTable::restore(&views).map_err(|_| damaged("its view")())?;
        let memory = MemoryTable::restore(&memory).map_err(|_| damaged("its memory")())?;
        self.memory = memory;
        self.register = register;
        self.replace_table(views);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dss_mesi::{Incarnation, Member, NodeId};

    use super::*;

    fn member(node: u64) -> Member {
        Member { node: NodeId::new(node), incarnation: Incarnation::new(1) }
    }

    fn version(write: u64) -> Version {
        Version { epoch: Epoch::new(1), grant: 1, write }
    }

    fn apply(machine: &mut CacheMachine, command: &CacheCommand) -> CacheReply {
        machine.apply(LogIndex::new(1), &command.encode())
    }

    fn store(key: &'static str, write: u64) -> CacheCommand {
        CacheCommand::Store {
            writer: Epoch::new(1),
            key: key.into(),
            version: version(write),
            value: Some(key.into()),
        }
    }

    fn claim() -> CacheCommand {
        CacheCommand::Register(RegisterCommand::begin(vec!["r".into()], "r".into(), None))
    }

    #[test]
    fn epochs_begin_above_those_that_were_used_on_a_server_that_is_taken_over() {
        let (mut machine, mut events) = CacheMachine::new();
        apply(&mut machine, &CacheCommand::View(ViewCommand::Join { member: member(1) }));
        apply(&mut machine, &claim());
        let done = RegisterCommand::Done { server: "r".into(), newest: Epoch::new(57) };
        for _ in 0..2 {
            apply(&mut machine, &CacheCommand::Register(done.clone()));
        }
        let epochs = std::iter::from_fn(|| events.views.try_recv().ok());
        assert_eq!(epochs.map(|view| view.epoch.get()).collect::<Vec<_>>(), [1, 58]);
        assert_eq!(machine.table().view().members, [member(1)]);
    }

    #[test]
    fn every_new_view_is_told_once_and_every_table() {
        let (mut machine, mut events) = CacheMachine::new();
        let join = |node| CacheCommand::View(ViewCommand::Join { member: member(node) });
        apply(&mut machine, &join(1));
        apply(&mut machine, &join(1));
        apply(&mut machine, &join(2));
        apply(&mut machine, &CacheCommand::View(ViewCommand::TakeOffice { term: 7 }));
        apply(&mut machine, &store("k", 1));
        let epochs = std::iter::from_fn(|| events.views.try_recv().ok());
        assert_eq!(epochs.map(|view| view.epoch.get()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(events.table.borrow().office(), 7);
    }

    #[test]
    fn a_snapshot_restores_members_and_memory_and_tells_the_view() {
        let (mut machine, _events) = CacheMachine::new();
        let join = CacheCommand::View(ViewCommand::Join { member: member(1) });
        apply(&mut machine, &join);
        apply(&mut machine, &store("k", 2));
        apply(&mut machine, &CacheCommand::Fence(Epoch::new(9)));
        apply(&mut machine, &claim());
        let snapshot = machine.snapshot();

        let (mut restored, mut events) = CacheMachine::new();
        restored.restore(&snapshot).unwrap();
        assert_eq!(restored.table(), machine.table());
        assert!(restored.is_on_redis() && restored.register == machine.register);
        assert_eq!(restored.load(b"k").unwrap().version, version(2));
        assert_eq!(events.views.try_recv().unwrap(), *machine.table().view());
        let late = apply(&mut restored, &store("k", 3));
        let fenced = StoreOutcome::Fenced { fence: Epoch::new(9) };
        assert_eq!(late, CacheReply::Stored(fenced), "the fence is part of it");
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (mut machine, _events) = CacheMachine::new();
        apply(&mut machine, &store("k", 1));
        let before = machine.snapshot();
        let command = store("k", 2).encode();
        for bytes in [&b""[..], b"\x01", b"\x02\x00", b"\x01\x09", &command[..command.len() - 1]] {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(machine.apply(LogIndex::new(1), &bytes), CacheReply::Malformed);
            assert!(machine.restore(&bytes).is_err());
        }
        for end in 0..before.len() {
            assert!(machine.restore(&before.slice(..end)).is_err(), "{end}");
        }
        assert_eq!(machine.snapshot(), before);
    }
}
