//! The queue in one process, on one disk.

mod room;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dss_raft::{
    Config, Configuration, Envelope, FileStorage, GroupId, Identity, MemoryStorage, Node, NodeId,
    RoleKind, StartGroupError, Storage, StorageError, Transport,
};
use tokio::time::Instant;

use crate::broker::{Broker, BrokerError, ReceiveRequest, TopicInfo};
use crate::command::Settled;
use crate::fence::Fence;
use crate::id::{MessageId, Receipt};
use crate::machine::QueueMachine;
use crate::message::{DeadLetter, Delivery, NewMessage};
use crate::name::{GroupName, TopicName};
use crate::replicated::ReplicatedBroker;
use crate::settings::TopicSettings;
use room::Room;

const NODE: NodeId = NodeId::new(1);
const GROUP: GroupId = GroupId::new(16);
/// A single voter is elected once its own timeout ends; nobody has to be found dead.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(30);
const HEARTBEAT: Duration = Duration::from_millis(10);
/// How long an open waits for the log to be applied: a gigabyte of it, with time to spare.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// What a disk must have free for a publish: room for two segments of the log and a snapshot of a
/// queue of some size, so that consumers can work it off.
const RESERVE_BYTES: u64 = 128 << 20;

/// A durable [`Broker`] in one folder, for one process.
///
/// It is a [`ReplicatedBroker`] of one shard whose Raft group has one member. A queue of its own
/// kind of log would have been the second write-ahead log of this workspace, with the same
/// segments, group commit, checksums, snapshots and rules about torn and damaged writes; this way
/// there is one, `dss_raft::FileStorage`, which a conformance suite crashes at every write, sync
/// and rename. The journal's port is `dss_raft::Storage`, and any implementation of it will do,
/// see [`open_on`](Self::open_on).
///
/// - What was answered is on the disk. A crash in the middle of a write cuts that write off; any
///   other damage is [`OpenError::Storage`] and changes nothing.
/// - Leases, delays, dedupe ids and the place of every group are where they were after a restart.
/// - A failed write is final: every later call is [`Unavailable`](BrokerError::Unavailable) until
///   the folder is opened anew.
/// - While the disk has less than 128 MiB free, publishing is refused as
///   [`Overloaded`](BrokerError::Overloaded); receiving and settling go on.
///
/// ```
/// # use dss_queue::{Broker, LocalBroker, NewMessage, TopicName};
/// # let folder = std::env::temp_dir().join(format!("dss-queue-doc-{}", std::process::id()));
/// # let run = async {
/// let broker = LocalBroker::open(&folder).await?;
/// let orders = TopicName::new("orders")?;
/// broker.publish(&orders, vec![NewMessage::new("order 42")]).await?;
/// broker.shutdown().await;
///
/// let broker = LocalBroker::open(&folder).await?;
/// assert_eq!(broker.topic(&orders).await?.length, 1);
/// # broker.shutdown().await;
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # };
/// # tokio::runtime::Runtime::new()?.block_on(run)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LocalBroker {
    broker: ReplicatedBroker,
    node: Node,
    room: Option<Room>,
}

/// Why a local broker does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder cannot be used, or is damaged.
    #[error("the queue's folder cannot be used")]
    Storage(#[source] StorageError),
    /// What the folder holds is no queue.
    #[error("the queue cannot be started")]
    Start(#[source] StartGroupError),
    /// Storage has failed since it was opened.
    #[error("the queue's storage fails")]
    Unavailable,
}

impl LocalBroker {
    /// Opens the queue in a folder, or makes it.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with_reserve(folder, RESERVE_BYTES).await
    }

    /// Opens the queue in a folder, or makes it; publishes while the disk has this many bytes
    /// free.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open_with_reserve(
        folder: impl AsRef<Path>,
        reserve_bytes: u64,
    ) -> Result<Self, OpenError> {
        let folder = folder.as_ref();
        let (cluster, name) = ("local queue".to_owned(), "local".to_owned());
        let identity = Identity { cluster, node: NODE, name };
        let storage = FileStorage::open(folder, identity).await.map_err(OpenError::Storage)?;
        let mut broker = Self::open_on(storage).await?;
        broker.room = Some(Room::new(folder.to_owned(), reserve_bytes));
        Ok(broker)
    }

    /// A queue that is gone with the process.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn in_memory() -> Self {
        Self::open_on(MemoryStorage::default()).await.expect("memory does not fail")
    }

    /// Opens the queue on any storage.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open_on(storage: impl Storage) -> Result<Self, OpenError> {
        let node = Node::start(storage, Arc::new(Nobody));
        let (machine, events) = QueueMachine::new();
        // Nobody else is there who could take one start for another.
        let config = Config::new(NODE, 1)
            .timing(ELECTION_TIMEOUT, HEARTBEAT)
            .expect("the timeout is three heartbeats");
        let members = Configuration::of_voters([NODE]);
        let group = node.start_group(GROUP, config, members, machine).await;
        let group = group.map_err(|error| match error {
            StartGroupError::Storage(error) => OpenError::Storage(error),
            error => OpenError::Start(error),
        })?;
        let mut leadership = group.leadership();
        let deadline = Instant::now() + OPEN_MAX;
        let leads = leadership.wait_for(|current| current.role == RoleKind::Leader);
        let leads = tokio::time::timeout_at(deadline, leads).await;
        leads.map_err(|_| OpenError::Unavailable)?.map_err(|_| OpenError::Unavailable)?;
        // Everything that was answered in an earlier life is applied before anything is asked.
        let applied = tokio::time::timeout_at(deadline, group.read(|_| ())).await;
        applied.map_err(|_| OpenError::Unavailable)?.map_err(|_| OpenError::Unavailable)?;
        let broker = ReplicatedBroker::start(vec![("local".to_owned(), group, events)]);
        Ok(Self { broker, node, room: None })
    }

    /// What looks into the queue and tidies it up: peek, purge and the like.
    #[must_use]
    pub fn replicated(&self) -> &ReplicatedBroker {
        &self.broker
    }

    /// Ends what is under way and lets go of the folder.
    pub async fn shutdown(&self) {
        self.node.shutdown().await;
    }

    /// Whether the disk has room for a publish, as far as that is looked after.
    fn check_room(&self) -> Result<(), BrokerError> {
        self.room.as_ref().map_or(Ok(()), Room::check)
    }
}

/// There is no other node.
struct Nobody;

impl Transport for Nobody {
    fn send(&self, _: NodeId, _: Envelope) {}
}

#[async_trait]
impl Broker for LocalBroker {
    async fn configure(
        &self,
        topic: &TopicName,
        settings: TopicSettings,
    ) -> Result<(), BrokerError> {
        self.broker.configure(topic, settings).await
    }

    async fn publish(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<MessageId>, BrokerError> {
        self.check_room()?;
        self.broker.publish(topic, messages).await
    }

    async fn publish_fenced(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
        fence: Fence,
    ) -> Result<Vec<MessageId>, BrokerError> {
        self.check_room()?;
        self.broker.publish_fenced(topic, messages, fence).await
    }

    async fn receive(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError> {
        self.broker.receive(topic, group, request).await
    }

    async fn ack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError> {
        self.broker.ack(topic, group, receipts).await
    }

    async fn nack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        delay: Duration,
    ) -> Result<Settled, BrokerError> {
        self.broker.nack(topic, group, receipts, delay).await
    }

    async fn hand_back(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError> {
        self.broker.hand_back(topic, group, receipts).await
    }

    async fn extend(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        visibility: Duration,
    ) -> Result<Settled, BrokerError> {
        self.broker.extend(topic, group, receipts, visibility).await
    }

    async fn dead_letters(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<Vec<DeadLetter>, BrokerError> {
        self.broker.dead_letters(topic, group).await
    }

    async fn redrive(&self, topic: &TopicName, group: &GroupName) -> Result<u64, BrokerError> {
        self.broker.redrive(topic, group).await
    }

    async fn topic(&self, topic: &TopicName) -> Result<TopicInfo, BrokerError> {
        self.broker.topic(topic).await
    }

    async fn topics(&self) -> Result<Vec<TopicName>, BrokerError> {
        self.broker.topics().await
    }

    async fn delete(&self, topic: &TopicName) -> Result<(), BrokerError> {
        self.broker.delete(topic).await
    }
}
