//! What the queue is asked, answers and reports.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fence::Fence;
use crate::id::{MessageId, Receipt, ShardId};
use crate::message::{DeadReason, Delivery, NewMessage};
use crate::name::{ConsumerName, GroupName, TopicName};
use crate::placement::Placement;
use crate::refusal::Refusal;
use crate::settings::TopicSettings;
use crate::time::UnixMillis;

/// A change of the queue. Commands are all that changes it, and what a log holds of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Fire what is due: every command does, this one nothing else.
    Tick,
    /// Create a topic, or change its settings. Answered by [`Reply::Done`].
    Configure {
        /// The topic.
        topic: TopicName,
        /// Its settings from here on.
        settings: TopicSettings,
    },
    /// Store messages, all or none; creates the topic with the default settings. Answered by
    /// [`Reply::Published`].
    Publish {
        /// The shard that new ids name.
        shard: ShardId,
        /// The topic.
        topic: TopicName,
        /// What to store, in this order.
        messages: Vec<NewMessage>,
    },
    /// Lease messages to a consumer; creates the group. Answered by [`Reply::Received`].
    Receive {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Who receives.
        consumer: ConsumerName,
        /// How many messages at most.
        max: u32,
        /// For how long; `None` for as long as the topic says.
        visibility: Option<Duration>,
    },
    /// Done with these messages for good. Answered by [`Reply::Settled`].
    Ack {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Which deliveries.
        receipts: Vec<Receipt>,
    },
    /// Not done: deliver them again after `delay`, or give them up where no attempt is left.
    /// Answered by [`Reply::Settled`].
    Nack {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Which deliveries.
        receipts: Vec<Receipt>,
        /// How long they stay unseen.
        delay: Duration,
    },
    /// Never seen: deliver them again at once, and do not count this attempt. For whoever leased
    /// on behalf of a consumer that has gone. Answered by [`Reply::Settled`].
    HandBack {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Which deliveries.
        receipts: Vec<Receipt>,
    },
    /// Still at it: the leases end `visibility` from now. Answered by [`Reply::Settled`].
    Extend {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// Which deliveries.
        receipts: Vec<Receipt>,
        /// For how long from now.
        visibility: Duration,
    },
    /// Give up to [`REDRIVE_MAX`](crate::limits::REDRIVE_MAX) dead letters, oldest first, all
    /// their attempts again. Answered by [`Reply::Redriven`].
    Redrive {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// Forget all messages of a topic and its groups' dead letters; settings, groups and dedupe
    /// ids stay. Answered by [`Reply::Done`].
    Purge {
        /// The topic.
        topic: TopicName,
    },
    /// Settle all that a group has not, its dead letters included; messages in flight are lost to
    /// their consumers. Takes as long as the topic has messages. Answered by [`Reply::Done`].
    PurgeGroup {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// Forget a group, as if it had never received: what only it had not settled goes with it,
    /// unless it was the last. Takes as long as the topic has messages. Answered by
    /// [`Reply::Done`].
    DeleteGroup {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// Forget a topic. Answered by [`Reply::Done`].
    Delete {
        /// The topic.
        topic: TopicName,
    },
    /// Go by another placement: serve no topic that it gives to others, and no topic that it gives
    /// to this shard before it has come. Refused until what the placement before asks for is done;
    /// and the first one, where it gives topics to other shards than those that have them.
    /// Answered by [`Reply::Done`].
    Place {
        /// What the placement calls this shard.
        shard: String,
        /// The placement until now.
        previous: Placement,
        /// The placement from here on.
        current: Placement,
    },
    /// Take in a part of a topic that leaves another shard; the last one installs it. Answered by
    /// [`Reply::Imported`].
    Import {
        /// The epoch of the placement that moves it.
        epoch: u64,
        /// The shard that it leaves.
        source: String,
        /// The topic.
        topic: TopicName,
        /// How many bytes of its [export](crate::Queue::export) come before this part.
        offset: u64,
        /// The part.
        bytes: Bytes,
        /// Whether it is the last one.
        last: bool,
    },
    /// Everything that this shard is to keep of another one's has come. Answered by
    /// [`Reply::Done`].
    EndImports {
        /// The epoch of the placement that moved it.
        epoch: u64,
        /// The other shard.
        source: String,
    },
    /// Forget a topic that is at the shard that is to keep it. Answered by [`Reply::Done`].
    Forget {
        /// The epoch of the placement that moved it.
        epoch: u64,
        /// The topic.
        topic: TopicName,
    },
    /// The same as [`Publish`](Self::Publish), unless somebody has published under a newer token of
    /// the lock. Answered by [`Reply::Published`].
    PublishFenced {
        /// The shard that new ids name.
        shard: ShardId,
        /// The topic.
        topic: TopicName,
        /// What to store, in this order.
        messages: Vec<NewMessage>,
        /// What it is done under.
        fence: Fence,
    },
}

impl Command {
    /// The topic that this is a client's command for.
    pub(crate) fn topic(&self) -> Option<&TopicName> {
        match self {
            Self::Configure { topic, .. }
            | Self::Publish { topic, .. }
            | Self::PublishFenced { topic, .. }
            | Self::Receive { topic, .. }
            | Self::Ack { topic, .. }
            | Self::Nack { topic, .. }
            | Self::HandBack { topic, .. }
            | Self::Extend { topic, .. }
            | Self::Redrive { topic, .. }
            | Self::Purge { topic }
            | Self::PurgeGroup { topic, .. }
            | Self::DeleteGroup { topic, .. }
            | Self::Delete { topic } => Some(topic),
            Self::Tick
            | Self::Place { .. }
            | Self::Import { .. }
            | Self::EndImports { .. }
            | Self::Forget { .. } => None,
        }
    }
}

/// What a command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The ids of the messages, in their order; of one whose dedupe id is known, the id that was
    /// answered first.
    Published(Vec<MessageId>),
    /// What was leased.
    Received {
        /// The messages.
        deliveries: Vec<Delivery>,
        /// Whether another receive may find more right away.
        more: bool,
    },
    /// How many receipts were good.
    Settled(Settled),
    /// What was moved.
    Redriven {
        /// How many dead letters.
        redriven: u64,
        /// Whether there are more.
        more: bool,
    },
    /// How many bytes of a topic that moves are here.
    Imported {
        /// Up to which offset.
        bytes: u64,
    },
    /// Nothing was done.
    Refused(Refusal),
}

/// What became of receipts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settled {
    /// How many were settled.
    pub done: usize,
    /// Those whose lease is over, or that belong to another group: nothing was done for them.
    pub stale: Vec<Receipt>,
}

/// What happened, for whoever waits or watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Messages of a topic became ready for every group of it.
    Published {
        /// The topic.
        topic: TopicName,
        /// How many.
        count: u64,
    },
    /// Messages became ready for one group: returned, or the next of their key.
    Available {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
        /// How many.
        count: u64,
    },
    /// A message went to the dead letters.
    Died {
        /// The topic.
        topic: TopicName,
        /// The group that gave it up.
        group: GroupName,
        /// The message.
        message: MessageId,
        /// Why.
        reason: DeadReason,
    },
    /// A message was dropped before every group had settled it: it was too old, or one too many.
    Dropped {
        /// The topic.
        topic: TopicName,
        /// The message.
        message: MessageId,
    },
    /// A group is gone.
    GroupDeleted {
        /// The topic.
        topic: TopicName,
        /// The group.
        group: GroupName,
    },
    /// A topic is gone.
    Deleted {
        /// The topic.
        topic: TopicName,
    },
    /// The shard goes by another placement.
    Placed,
    /// A topic is at another shard, and forgotten at this one.
    Left {
        /// The topic.
        topic: TopicName,
    },
}

/// A topic at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    /// Its settings.
    pub settings: TopicSettings,
    /// How many messages it keeps.
    pub length: u64,
    /// Its groups.
    pub groups: BTreeMap<GroupName, GroupInfo>,
}

/// A group at a glance. A message that the group has not settled is counted in exactly one of
/// `ready`, `in_flight` and `delayed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupInfo {
    /// Messages that wait to be delivered, also those behind an earlier message of their key.
    pub ready: u64,
    /// Messages that are leased.
    pub in_flight: u64,
    /// Messages whose delay is not over.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
}

/// A delivery that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The message and the attempt.
    pub receipt: Receipt,
    /// Who has it.
    pub consumer: ConsumerName,
    /// Until when.
    pub until: UnixMillis,
}
