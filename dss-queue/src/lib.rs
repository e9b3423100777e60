//! An at-least-once message queue: consumer groups, leases, retries and dead letters.

mod command;
mod group;
mod id;
pub mod limits;
mod message;
mod name;
mod queue;
mod refusal;
mod settings;
mod snapshot;
mod time;
mod topic;

pub use command::{Command, Event, GroupInfo, LeaseInfo, Reply, Settled, TopicSummary};
pub use id::{MessageId, ParseIdError, Receipt, ShardId};
pub use message::{DeadLetter, DeadReason, Delivery, NewMessage};
pub use name::{ConsumerName, GroupName, NameError, TopicName};
pub use queue::{Availability, Queue};
pub use refusal::Refusal;
pub use settings::TopicSettings;
pub use snapshot::DecodeError;
pub use time::UnixMillis;
