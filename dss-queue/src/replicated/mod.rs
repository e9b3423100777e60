//! The queue over Raft groups, one per shard.

mod clock;
mod mover;
mod place;
mod router;
mod shard;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dss_raft::{Group, NodeId};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::broker::{Broker, BrokerError, ReceiveRequest, TopicInfo};
use crate::command::{Command, Reply, Settled};
use crate::fence::Fence;
use crate::id::{MessageId, Receipt, ShardId};
use crate::limits::{
    MESSAGE_OVERHEAD_BYTES, REDRIVE_MAX, STORED_BYTES_MAX, check_delay, check_receipts,
    check_visibility,
};
use crate::machine::{QueueEvents, QueueMachine};
use crate::message::{DeadLetter, Delivery, NewMessage, Peek};
use crate::name::{GroupName, TopicName};
use crate::placement::{Ownership, Placement};
use crate::queue::Queue;
use crate::settings::TopicSettings;
use clock::Clock;
use mover::Mover;
use router::Router;
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
/// [`place`](ReplicatedBroker::place) changes the shards that topics are spread over; those that
/// change hands are moved while producers and consumers go on. A request for a topic that is on
/// its way waits for it for a few seconds, and is [`Moving`](BrokerError::Moving) after that.
///
/// A receive that waits is parked on the leader and costs no log entry; a message that becomes
/// ready wakes one of them, first come, first served, and is leased through the log before it is
/// handed out. One that does not wait takes what is there, whoever else is parked. A receive that
/// is dropped leases nothing, or what it was granted is handed back at once without counting an
/// attempt; what was returned to its caller before that one went away comes back when its
/// visibility ends.
#[derive(Debug)]
pub struct ReplicatedBroker {
    router: Router,
    /// The shards of the first placement; of epoch 0.
    founders: Placement,
    shards: Arc<[Arc<Shard>]>,
    tasks: Vec<AbortHandle>,
}

impl ReplicatedBroker {
    /// Serves these shards: for each its name, its group on this node, and what came with the
    /// group's machine. Every node must be given the same names. Topics are spread over all of
    /// them, until [`place`](Self::place) says otherwise.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, without shards, and where two of them have the same name, or
    /// names of the same 32-bit FNV-1a hash: message ids tell shards by it.
    #[must_use]
    pub fn start(shards: Vec<(String, Group<QueueMachine>, QueueEvents)>) -> Self {
        let founders = shards.iter().map(|(name, ..)| name.clone()).collect();
        Self::start_among(founders, shards)
    }

    /// The same where topics were spread over `founders` only when the cluster began. The machines
    /// of the other shards are [`outside`](QueueMachine::outside). Every node must be given the
    /// same founders for ever.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start); and where there is no founder, or one is none of the shards.
    #[must_use]
    pub fn start_among(
        founders: BTreeSet<String>,
        shards: Vec<(String, Group<QueueMachine>, QueueEvents)>,
    ) -> Self {
        let root = founders.first().expect("a queue needs a shard").clone();
        let ids: BTreeSet<_> = shards.iter().map(|(name, ..)| shard_id(name)).collect();
        assert!(ids.len() == shards.len(), "the ids of two shards collide: rename one");
        let founders = Placement::new(0, founders).expect("the caller has few shards with names");

        let (clock, runtime) = (Clock::start(), Handle::current());
        let (router, mut tasks) = (Router::new(founders.clone()), Vec::new());
        let mut start = |(name, group, events): (String, _, QueueEvents)| {
            let (id, runtime) = (shard_id(&name), runtime.clone());
            let QueueEvents { waiters, deadline, placed } = events;
            let shard = Arc::new(Shard { name, id, group, waiters, clock, placed, runtime });
            tasks.push(tokio::spawn(Arc::clone(&shard).run_timer(deadline)).abort_handle());
            let learning = router.clone().learn(shard.placed.clone());
            tasks.push(tokio::spawn(learning).abort_handle());
            shard
        };
        let shards: Arc<[_]> = shards.into_iter().map(&mut start).collect();
        let root = shards.iter().find(|shard| shard.name == root);
        let root = root.expect("the caller names founders among the shards");
        for shard in shards.iter() {
            let (shard, root) = (Arc::clone(shard), Arc::clone(root));
            let mover = Mover { shard, root, shards: Arc::clone(&shards) };
            tasks.push(tokio::spawn(mover.run()).abort_handle());
        }
        Self { router, founders, shards, tasks }
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
        let query = move |queue: &Queue| queue.peek(&name, group.as_ref(), after, max);
        self.read(topic, query).await?.1.ok_or(BrokerError::NotFound)
    }

    /// Forgets all messages of a topic; see [`Command::Purge`].
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    pub async fn purge(&self, topic: &TopicName) -> Result<(), BrokerError> {
        self.propose(topic, Command::Purge { topic: topic.clone() }).await.map(drop)
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
        self.propose(topic, command).await.map(drop)
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
        self.propose(topic, command).await.map(drop)
    }

    fn owner(&self, placement: &Placement, topic: &TopicName) -> Result<&Arc<Shard>, BrokerError> {
        let owner = placement.owner(topic);
        let shard = self.shards.iter().find(|shard| Some(&*shard.name) == owner);
        // A placement may name a shard that only a later release of this node has.
        shard.ok_or(BrokerError::Unavailable)
    }

    /// Has the shard that keeps the topic store what this publishes.
    async fn propose_publish(
        &self,
        topic: &TopicName,
        command: Command,
    ) -> Result<Vec<MessageId>, BrokerError> {
        match self.propose(topic, command).await? {
            Reply::Published(ids) => Ok(ids),
            _ => Err(BrokerError::Unavailable),
        }
    }

    /// Has the shard that keeps the topic do this.
    async fn propose(&self, topic: &TopicName, mut command: Command) -> Result<Reply, BrokerError> {
        let mut search = self.router.search();
        loop {
            let shard = self.owner(&search.placement(), topic)?;
            if let Command::Publish { shard: origin, .. }
            | Command::PublishFenced { shard: origin, .. } = &mut command
            {
                *origin = shard.id;
            }
            match shard.propose(&command).await {
                Err(BrokerError::Moving) if search.again().await => {}
                done => return done,
            }
        }
    }

    /// Asks the shard that keeps the topic: a linearizable read.
    async fn read<R: Send + 'static>(
        &self,
        topic: &TopicName,
        query: impl Fn(&Queue) -> R + Clone + Send + 'static,
    ) -> Result<(&Arc<Shard>, R), BrokerError> {
        let mut search = self.router.search();
        loop {
            let shard = self.owner(&search.placement(), topic)?;
            let (name, query) = (topic.clone(), query.clone());
            let ask = move |machine: &QueueMachine| {
                let queue = machine.queue();
                (queue.ownership(&name) == Ownership::Here).then(|| query(queue))
            };
            match shard.group.read(ask).await? {
                Some(answer) => return Ok((shard, answer)),
                None if search.again().await => {}
                None => return Err(BrokerError::Moving),
            }
        }
    }

    async fn settle(&self, topic: &TopicName, command: Command) -> Result<Settled, BrokerError> {
        match self.propose(topic, command).await? {
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
        for task in &self.tasks {
            task.abort();
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
        self.propose(topic, command).await.map(drop)
    }

    async fn publish(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<MessageId>, BrokerError> {
        NewMessage::check_batch(&messages)?;
        let origin = ShardId::default();
        let command = Command::Publish { shard: origin, topic: topic.clone(), messages };
        self.propose_publish(topic, command).await
    }

    async fn publish_fenced(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
        fence: Fence,
    ) -> Result<Vec<MessageId>, BrokerError> {
        NewMessage::check_batch(&messages)?;
        fence.check()?;
        let (shard, topic_name) = (ShardId::default(), topic.clone());
        let command = Command::PublishFenced { shard, topic: topic_name, messages, fence };
        self.propose_publish(topic, command).await
    }

    async fn receive(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError> {
        request.check()?;
        let (mut search, until) = (self.router.search(), Instant::now() + request.wait);
        loop {
            let shard = self.owner(&search.placement(), topic)?;
            let wait = until.saturating_duration_since(Instant::now());
            let request = ReceiveRequest { wait, ..request.clone() };
            match shard.receive(topic, group, request).await {
                // It may have waited there for long before the topic was moved.
                Err(BrokerError::Moving) if search.again().await => {}
                done => return done,
            }
        }
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
        let query = move |queue: &Queue| queue.dead_letters(&name, &group);
        self.read(topic, query).await?.1.ok_or(BrokerError::NotFound)
    }

    async fn redrive(&self, topic: &TopicName, group: &GroupName) -> Result<u64, BrokerError> {
        let command = Command::Redrive { topic: topic.clone(), group: group.clone() };
        let mut total = 0;
        for _ in 0..REDRIVES_MAX {
            let reply = self.propose(topic, command.clone()).await?;
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
        let name = topic.clone();
        let (shard, summary) = self.read(topic, move |queue: &Queue| queue.topic(&name)).await?;
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
        let mut topics = BTreeSet::new();
        let first = self.list(&mut topics).await?;
        // One that moved meanwhile may have been at no shard when that was asked.
        if first.is_none_or(|epoch| epoch != self.router.newest().epoch()) {
            self.list(&mut topics).await?;
        }
        Ok(topics.into_iter().collect())
    }

    async fn delete(&self, topic: &TopicName) -> Result<(), BrokerError> {
        self.propose(topic, Command::Delete { topic: topic.clone() }).await.map(drop)
    }

    fn served_by(&self, topic: &TopicName) -> Option<NodeId> {
        let shard = self.owner(&self.router.newest(), topic).ok()?;
        shard.group.leadership().borrow().leader
    }
}
