//! The face that services program against.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use dss_raft::{NodeId, ProposeError, ReadError};

use crate::command::{GroupInfo, Settled};
use crate::fence::Fence;
use crate::id::{MessageId, Receipt};
use crate::limits::{RECEIVE_MESSAGES_MAX, WAIT_MAX, check_visibility};
use crate::message::{DeadLetter, Delivery, NewMessage};
use crate::name::{ConsumerName, GroupName, TopicName};
use crate::refusal::Refusal;
use crate::settings::TopicSettings;

/// A queue with topics and consumer groups, wherever it keeps them.
///
/// What a method has answered with `Ok` is durable. Every future may be dropped at any time; what
/// it asked for may then be done or not. Names of groups that were never received for are
/// [`NotFound`](BrokerError::NotFound), as unknown topics are.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Creates the topic or changes its settings.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn configure(
        &self,
        topic: &TopicName,
        settings: TopicSettings,
    ) -> Result<(), BrokerError>;

    /// Stores messages, all or none, and answers their ids in order; creates the topic.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`]. After [`OutcomeUnknown`](BrokerError::OutcomeUnknown), messages with
    /// dedupe ids can safely be published again.
    async fn publish(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<MessageId>, BrokerError>;

    /// The same while the lock's token is the newest that was published under to this topic; from
    /// then on it refuses what comes under older ones.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`]; [`Fenced`](BrokerError::Fenced) where somebody has published who got
    /// the lock later.
    async fn publish_fenced(
        &self,
        topic: &TopicName,
        messages: Vec<NewMessage>,
        fence: Fence,
    ) -> Result<Vec<MessageId>, BrokerError>;

    /// Leases messages to a consumer; waits for one as long as the request says, and answers none
    /// where none has come. A group that is named for the first time starts at the oldest message
    /// that is kept.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`]; [`NotFound`](BrokerError::NotFound) where there is no such topic.
    async fn receive(
        &self,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError>;

    /// Done with these for good.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn ack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError>;

    /// Not done: to be delivered again after `delay`, or given up where no attempt is left.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn nack(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        delay: Duration,
    ) -> Result<Settled, BrokerError>;

    /// Never started: to be delivered again at once, without counting this attempt.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn hand_back(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
    ) -> Result<Settled, BrokerError>;

    /// Still at it: the leases end `visibility` from now.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn extend(
        &self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        visibility: Duration,
    ) -> Result<Settled, BrokerError>;

    /// The oldest [`DEAD_LETTERS_LISTED_MAX`](crate::limits::DEAD_LETTERS_LISTED_MAX) dead letters
    /// of the group.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn dead_letters(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<Vec<DeadLetter>, BrokerError>;

    /// Gives the group's dead letters all their attempts again, and answers how many.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`]; some may have been moved before it came to that.
    async fn redrive(&self, topic: &TopicName, group: &GroupName) -> Result<u64, BrokerError>;

    /// A topic at a glance.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn topic(&self, topic: &TopicName) -> Result<TopicInfo, BrokerError>;

    /// All topics, in order.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn topics(&self) -> Result<Vec<TopicName>, BrokerError>;

    /// Forgets a topic with all that is in it.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    async fn delete(&self, topic: &TopicName) -> Result<(), BrokerError>;

    /// The node that serves the topic, as far as this one knows; nothing where every node can or
    /// that is not known. A hint for whoever sends requests on, and costs no message.
    fn served_by(&self, topic: &TopicName) -> Option<NodeId> {
        let _ = topic;
        None
    }
}

/// What a consumer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveRequest {
    /// Who receives.
    pub consumer: ConsumerName,
    /// How many messages at most: 1 to [`RECEIVE_MESSAGES_MAX`].
    pub max: usize,
    /// How long to wait for the first one: up to [`WAIT_MAX`].
    pub wait: Duration,
    /// How long they stay the consumer's alone; `None` for as long as the topic says.
    pub visibility: Option<Duration>,
}

impl ReceiveRequest {
    /// Whether every value is in its range. Every broker refuses what is not.
    ///
    /// # Errors
    ///
    /// What is out of range.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.max == 0 || self.max > RECEIVE_MESSAGES_MAX {
            return Err(Refusal::invalid("max", "must be 1 to 1000"));
        }
        if self.wait > WAIT_MAX {
            return Err(Refusal::invalid("wait", "must not exceed an hour"));
        }
        self.visibility.map_or(Ok(()), check_visibility)
    }
}

/// A topic at a glance, and where it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: TopicName,
    /// The shard that keeps it.
    pub shard: String,
    /// Who serves that shard now, where somebody does: a node's id as text.
    pub home: Option<String>,
    /// Its settings.
    pub settings: TopicSettings,
    /// How many messages it keeps.
    pub length: u64,
    /// Its groups.
    pub groups: BTreeMap<GroupName, GroupInfo>,
}

/// Why a broker did not do what it was asked.
///
/// Nothing was done, [`OutcomeUnknown`](BrokerError::OutcomeUnknown) excepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// There is no such topic, or it has no such group.
    #[error("there is no such topic or group")]
    NotFound,
    /// A value is out of its range.
    #[error("{field} {problem}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A payload, the headers of a message or a batch has too many bytes.
    #[error("{what} must not have more than {bytes_max} bytes")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// How many there may be.
        bytes_max: usize,
    },
    /// Another node serves the topic.
    #[error("another node serves the topic")]
    NotLeader {
        /// Which, where that is known.
        leader: Option<NodeId>,
    },
    /// There is too much of something already: of what is kept, in flight or under way. Try again
    /// once consumers have caught up.
    #[error("there is too much to do already")]
    Overloaded,
    /// Somebody who got the lock later has published.
    #[error("the fencing token is stale: somebody has published under a newer one")]
    Fenced,
    /// The topic, or the topics of a change of shards, are on their way from shard to shard. Try
    /// again.
    #[error("the topic is on its way to another shard")]
    Moving,
    /// It may or may not have been done.
    #[error("it is not known whether it was done")]
    OutcomeUnknown,
    /// The broker does not work at present.
    #[error("the queue is not available")]
    Unavailable,
}

impl From<Refusal> for BrokerError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Invalid { field, problem } => Self::Invalid { field, problem },
            Refusal::TooLarge { what, bytes_max } => Self::TooLarge { what, bytes_max },
            Refusal::Full
            | Refusal::TopicFull
            | Refusal::TooManyTopics
            | Refusal::TooManyGroups
            | Refusal::TooManyFences
            | Refusal::TooManyInFlight => Self::Overloaded,
            // Written by a newer release than this node runs.
            Refusal::Fenced { .. } => Self::Fenced,
            Refusal::Moved { .. } => Self::Moving,
            Refusal::Malformed => Self::Unavailable,
        }
    }
}

impl From<ProposeError> for BrokerError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => Self::NotLeader { leader },
            ProposeError::Overloaded => Self::Overloaded,
            ProposeError::StorageFailed | ProposeError::ShutDown => Self::Unavailable,
            _ => Self::OutcomeUnknown,
        }
    }
}

impl From<ReadError> for BrokerError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NoLeader => Self::NotLeader { leader: None },
            ReadError::Overloaded => Self::Overloaded,
            _ => Self::Unavailable,
        }
    }
}
