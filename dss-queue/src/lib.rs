//! An at-least-once message queue: consumer groups, leases, retries and dead letters.

#[cfg(feature = "raft")]
mod broker;
mod command;
mod group;
mod id;
pub mod limits;
#[cfg(feature = "raft")]
mod machine;
mod message;
mod name;
mod queue;
mod refusal;
#[cfg(feature = "raft")]
mod replicated;
mod settings;
mod snapshot;
mod time;
mod topic;
#[cfg(feature = "raft")]
mod waiters;

#[cfg(feature = "raft")]
pub use broker::{Broker, BrokerError, ReceiveRequest, TopicInfo};
pub use command::{Command, Event, GroupInfo, LeaseInfo, Reply, Settled, TopicSummary};
pub use id::{MessageId, ParseIdError, Receipt, ShardId};
#[cfg(feature = "raft")]
pub use machine::{QueueEvents, QueueMachine};
pub use message::{DeadLetter, DeadReason, Delivery, NewMessage};
pub use name::{ConsumerName, GroupName, NameError, TopicName};
pub use queue::{Availability, Queue};
pub use refusal::Refusal;
#[cfg(feature = "raft")]
pub use replicated::ReplicatedBroker;
pub use settings::TopicSettings;
pub use snapshot::DecodeError;
pub use time::UnixMillis;
