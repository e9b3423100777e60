//! The queue over Raft groups, one per shard.

mod clock;
mod shard;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dss_raft::Group;
use dss_ring::{HashRing, Weight};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::broker::{Broker, BrokerError, ReceiveRequest, TopicInfo};
use crate::command::{Command, Reply, Settled};
use crate::id::{MessageId, Receipt, ShardId};
use crate::limits::{
    MESSAGE_OVERHEAD_BYTES, REDRIVE_MAX, STORED_BYTES_MAX, check_delay, check_receipts,
    check_visibility,
};
use crate::machine::{QueueEvents, QueueMachine};
use crate::message::{DeadLetter, Delivery, NewMessage, Peek};
use crate::name::{GroupName, TopicName};
use crate::settings::TopicSettings;
use clock::Clock;
use shard::Shard;

/// How many redrives it takes at most to move all dead letters that a shard can hold.
const REDRIVES_MAX: u64 = STORED_BYTES_MAX / MESSAGE_OVERHEAD_BYTES / REDRIVE_MAX as u64 + 1;

/// A [`Broker`] whose shards are replicated by Raft; a topic lives on the shard that owns its name
/// on a consistent hash ring.
///
/// What changes or receives works on the shard's leader; elsewhere it is
/// [`NotLeader`](BrokerError::NotLeader) at once. `topic`, `topics` and `dead_letters` are
/// linearizable reads and work on any node.
///
/// A receive that waits is parked on the leader and costs no log entry; a message that becomes
/// ready wakes one of them, first come, first served, and is leased through the log before it is
/// handed out. One that does not wait takes what is there, whoever else is parked. A receive that
/// is dropped leases nothing, or what it was granted is handed back at once without counting an
/// attempt; what was returned to its caller before that one went away comes back when its
/// visibility ends.
#[derive(Debug)]
pub struct ReplicatedBroker {
    ring: HashRing<String>,
    shards: Vec<Arc<Shard>>,
    timers: Vec<AbortHandle>,
}

impl ReplicatedBroker {
    /// Serves these shards: for each its name, its group on this node, and what came with the
    /// group's machine. Every node must be given the same names.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, without shards, and where two of them have the same name, or
    /// names of the same 32-bit FNV-1a hash: message ids tell shards by it.
    #[must_use]
    pub fn start(shards: Vec<(String, Group<QueueMachine>, QueueEvents)>) -> Self {
        assert!(!shards.is_empty(), "a queue needs a shard");
        let names = shards.iter().map(|(name, ..)| (name.clone(), Weight::ONE));
        let ring = HashRing::new(names).expect("the caller has named every shard differently");
        let ids: BTreeSet<_> = shards.iter().map(|(name, ..)| shard_id(name)).collect();
        assert!(ids.len() == shards.len(), "the ids of two shards collide: rename one");

        let (clock, runtime) = (Clock::start(), Handle::current());
        let mut broker = Self { ring, shards: Vec::new(), timers: Vec::new() };
        for (name, group, events) in shards {
            let (id, runtime) = (shard_id(&name), runtime.clone());
            let QueueEvents { waiters, deadline } = events;
            let shard = Arc::new(Shard { name, id, group, waiters, clock, runtime });
            let timer = tokio::spawn(Arc::clone(&shard).run_timer(deadline));
            broker.timers.push(timer.abort_handle());
            broker.shards.push(shard);
        }
        broker
    }

    /// Looks at messages without taking them, see [`Queue::peek`](crate::Queue::peek). A
    /// linearizable read on any node.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`]; [`NotFound`](BrokerError::NotFound) where there is no such topic or
    /// group.
    pub async fn peek(
        &self,
        topic: &TopicName,
        group: Option<&GroupName>,
        after: Option<MessageId>,
        max: usize,
    ) -> Result<Peek, BrokerError> {
        let (name, group) = (topic.clone(), group.cloned());
        let query =
            move |machine: &QueueMachine| machine.queue().peek(&name, group.as_ref(), after, max);
        self.shard(topic).group.read(query).await?.ok_or(BrokerError::NotFound)
    }

    /// Forgets all messages of a topic; see [`Command::Purge`].
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    pub async fn purge(&self, topic: &TopicName) -> Result<(), BrokerError> {
        self.shard(topic).propose(&Command::Purge { topic: topic.clone() }).await.map(drop)
    }

    /// Settles all that a group has not; see [`Command::PurgeGroup`].
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    pub async fn purge_group(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<(), BrokerError> {
        let command = Command::PurgeGroup { topic: topic.clone(), group: group.clone() };
        self.shard(topic).propose(&command).await.map(drop)
    }

    /// Forgets a group; see [`Command::DeleteGroup`].
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    pub async fn delete_group(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<(), BrokerError> {
        let command = Command::DeleteGroup { topic: topic.clone(), group: group.clone() };
        self.shard(topic).propose(&command).await.map(drop)
    }

    fn shard(&self, topic: &TopicName) -> &Arc<Shard> {
        let owner = self.ring.owner(topic.as_str().as_bytes());
        self.shards
            .iter()
            .find(|shard| Some(&shard.name) == owner)
            .expect("the ring holds the names of the shards, and there is one")
    }

    async fn settle(&self, topic: &TopicName, command: Command) -> Result<Settled, BrokerError> {
        match self.shard(topic).propose(&command).await? {
            Reply::Settled(settled) => Ok(settled),
            _ => Err(BrokerError::Unavailable),
        }
    }
}

/// FNV-1a, 32 bits: written down because ids that are kept somewhere depend on it.
fn shard_id(name: &str) -> ShardId {
    let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    ShardId::new(name.bytes().fold(0x811c_9dc5, step))
}

impl Drop for ReplicatedBroker {
    fn drop(&mut self) {
        for timer in &self.timers {
            timer.abort();
        }
    }
}

#[async_trait]
impl Broker for ReplicatedBroker {
    async fn configure(
        &self,
        topic: &TopicName,
        settings: TopicSettings,
    ) -> Result<(), BrokerError> {
        settings.check()?;
        let command = Command::Configure { topic: topic.clone(), settings };
        self.shard(topic).propose(&command).await.map(drop)
    }

    async fn publish(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<MessageId>, BrokerError> {
        NewMessage::check_batch(&messages)?;
        let shard = self.shard(topic);
        let command = Command::Publish { shard: shard.id, topic: topic.clone(), messages };
        match shard.propose(&command).await? {
            Reply::Published(ids) => Ok(ids),
            _ => Err(BrokerError::Unavailable),
        }
    }

    async fn receive(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError> {
        request.check()?;
        self.shard(topic).receive(topic, group, request).await
    }

    async fn ack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        let group = group.clone();
        self.settle(topic, Command::Ack { topic: topic.clone(), group, receipts }).await
    }

    async fn nack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        delay: Duration,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        check_delay(delay)?;
        let group = group.clone();
        self.settle(topic, Command::Nack { topic: topic.clone(), group, receipts, delay }).await
    }

    async fn hand_back(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        let group = group.clone();
        self.settle(topic, Command::HandBack { topic: topic.clone(), group, receipts }).await
    }

    async fn extend(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        visibility: Duration,
    ) -> Result<Settled, BrokerError> {
        check_receipts(receipts.len())?;
        check_visibility(visibility)?;
        let (name, group) = (topic.clone(), group.clone());
        self.settle(topic, Command::Extend { topic: name, group, receipts, visibility }).await
    }

    async fn dead_letters(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<Vec<DeadLetter>, BrokerError> {
        let (name, group) = (topic.clone(), group.clone());
        let query = move |machine: &QueueMachine| machine.queue().dead_letters(&name, &group);
        self.shard(topic).group.read(query).await?.ok_or(BrokerError::NotFound)
    }

    async fn redrive(&self, topic: &TopicName, group: &GroupName) -> Result<u64, BrokerError> {
        let command = Command::Redrive { topic: topic.clone(), group: group.clone() };
        let mut total = 0;
        for _ in 0..REDRIVES_MAX {
            let reply = self.shard(topic).propose(&command).await?;
            let Reply::Redriven { redriven, more } = reply else {
                return Err(BrokerError::Unavailable);
            };
            total += redriven;
            if !more {
                break;
            }
        }
        Ok(total)
    }

    async fn topic(&self, topic: &TopicName) -> Result<TopicInfo, BrokerError> {
        let shard = self.shard(topic);
        let name = topic.clone();
        let summary = shard.group.read(move |machine| machine.queue().topic(&name)).await?;
        let summary = summary.ok_or(BrokerError::NotFound)?;
        Ok(TopicInfo {
            topic: topic.clone(),
            shard: shard.name.clone(),
            home: shard.group.status().leader.map(|leader| leader.to_string()),
            settings: summary.settings,
            length: summary.length,
            groups: summary.groups,
        })
    }

    async fn topics(&self) -> Result<Vec<TopicName>, BrokerError> {
        let mut topics = Vec::new();
        for shard in &self.shards {
            let query =
                |machine: &QueueMachine| machine.queue().topics().cloned().collect::<Vec<_>>();
            topics.extend(shard.group.read(query).await?);
        }
        topics.sort_unstable();
        Ok(topics)
    }

    async fn delete(&self, topic: &TopicName) -> Result<(), BrokerError> {
        self.shard(topic).propose(&Command::Delete { topic: topic.clone() }).await.map(drop)
    }
}
