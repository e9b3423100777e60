//! An at-least-once message queue: consumer groups, leases, retries and dead letters.
//!
//! Producers publish messages to a *topic*. Each *group* of consumers sees every message: one of
//! them is given it under a *lease*, and acknowledges it before the lease ends, or it is delivered
//! again. A message that fails too often goes to the group's *dead letters*, from where it can be
//! redriven.
//!
//! ```text
//!   publish ──► topic: │ m1 │ m2 │ m3 │ m4 │ m5 │ ◄── untouched from the cursor on
//!                        │    │    │
//!   group billing:      done  │   returned, attempt 2
//!                             leased to worker-7 until 12:00:30, receipt …-2-1-9
//! ```
//!
//! [`Queue`] is the whole of it as a deterministic value: no clock, no I/O, no threads. Its only
//! input is [`Queue::apply`], with the time as an argument. What is around it comes with the
//! feature `raft` (on by default): [`QueueMachine`] puts it behind a `dss_raft::Group`,
//! [`ReplicatedBroker`] serves topics from several such groups, one per shard, [`LocalBroker`] from
//! a folder of one process, and [`Broker`] is the async trait that services program against.
//! [`Consumer`] runs a handler for each message, and keeps leases while it works.
//!
//! What it is not: exactly-once (a consumer that stalls past its lease shares its message with the
//! next one; the [`Receipt`] tells the queue who is late, and consumers can make their effects
//! idempotent by the [`MessageId`]), nor a log to be replayed: what every group has acknowledged is
//! forgotten.
//!
//! ```
//! use dss_queue::{
//!     Command, ConsumerName, GroupName, NewMessage, Queue, Reply, ShardId, TopicName, UnixMillis,
//! };
//!
//! let (topic, group) = (TopicName::new("orders")?, GroupName::new("billing")?);
//! let consumer = ConsumerName::new("worker-7")?;
//! let mut queue = Queue::new();
//!
//! let messages = vec![NewMessage::new("order 42")];
//! let publish = Command::Publish { shard: ShardId::new(1), topic: topic.clone(), messages };
//! let (Reply::Published(ids), _) = queue.apply(UnixMillis::new(0), publish) else { panic!() };
//!
//! let receive = Command::Receive {
//!     topic: topic.clone(),
//!     group: group.clone(),
//!     consumer,
//!     max: 10,
//!     visibility: None,
//! };
//! let (Reply::Received { deliveries, .. }, _) = queue.apply(UnixMillis::new(5), receive.clone())
//! else {
//!     panic!()
//! };
//! assert_eq!((deliveries[0].id, deliveries[0].attempt), (ids[0], 1));
//!
//! // Nobody acknowledges it: 30 s later it is delivered again, and the first receipt is worthless.
//! let again = queue.next_deadline().expect("the lease ends");
//! let (Reply::Received { deliveries: redelivered, .. }, _) = queue.apply(again, receive) else {
//!     panic!()
//! };
//! assert_eq!((redelivered[0].id, redelivered[0].attempt), (ids[0], 2));
//!
//! let receipts = vec![deliveries[0].receipt, redelivered[0].receipt];
//! let (Reply::Settled(settled), _) = queue.apply(again, Command::Ack { topic, group, receipts })
//! else {
//!     panic!()
//! };
//! assert_eq!((settled.done, settled.stale), (1, vec![deliveries[0].receipt]));
//! # Ok::<(), dss_queue::NameError>(())
//! ```
//!
//! # What is promised
//!
//! - *Nothing acknowledged is lost or comes back.* A published message is delivered to each group
//!   until that acknowledges it or its attempts are used up; it is never under two leases of one
//!   group at a time, and never delivered to a group that has acknowledged it.
//! - *A receipt is a lease.* It names message, attempt and a nonce that is never used twice. Late
//!   and foreign receipts are reported as stale and disturb nobody.
//! - *Attempts count at delivery*, and a nack without delay as much as a lease that runs out.
//! - *Messages of one key* are delivered to a group in the order of their publish, one at a time,
//!   also when one is redelivered or delayed: it holds up the later ones of its key, and nothing
//!   else. Only a dead letter is overtaken; redriven, it waits for a message of its key that was
//!   delivered and is not settled, and goes before the others.
//! - *A topic that moves* to another shard takes its groups, leases, attempts and dedupe ids along:
//!   all of this holds across the move, and receipts stay good.
//! - *A publish under a lock* ([`Fence`]) is refused once somebody has published to the topic who
//!   got the lock later.
//! - *Time* is the leader's wall clock, made monotone: a new leader whose clock is behind makes
//!   time stand still, never go back.
//!
//! # What is kept
//!
//! A message is forgotten once every group of its topic has acknowledged it or given it up. So
//!
//! - a topic without groups keeps everything, for the groups to come;
//! - a group that is first named by a receive starts at the oldest message that is kept: at
//!   everything, if it is the first group, else at what the slowest of the others has left;
//! - a group that nobody receives for any more keeps the messages of its topic for ever, unless
//!   the topic has a `retention`, a `max_length` or a `max_bytes`.
//!
//! Those drop the oldest messages for all groups, also such as nobody has seen. What is in
//! flight then can still be acknowledged, but does not come back. Dead letters are not touched:
//! they stay until they are redriven, or purged or deleted with their topic or group.
//!
//! A group is a cursor plus exceptions: what it costs grows with what it has in flight, not with
//! its backlog. Everything has a limit, see [`limits`]; what a shard keeps lives in memory.

#[cfg(feature = "raft")]
mod broker;
mod command;
#[cfg(feature = "raft")]
mod consumer;
mod fence;
mod group;
mod id;
pub mod limits;
#[cfg(feature = "raft")]
mod local;
#[cfg(feature = "raft")]
mod machine;
mod message;
mod name;
mod placement;
mod queue;
mod refusal;
#[cfg(feature = "raft")]
mod replicated;
mod settings;
mod snapshot;
mod time;
mod topic;
#[cfg(feature = "raft")]
mod under_way;
#[cfg(feature = "raft")]
mod waiters;

#[cfg(feature = "raft")]
pub use broker::{Broker, BrokerError, ReceiveRequest, TopicInfo};
pub use command::{Command, Event, GroupInfo, LeaseInfo, Reply, Settled, TopicSummary};
#[cfg(feature = "raft")]
pub use consumer::{Consumer, Lease, Tally, Verdict};
pub use fence::Fence;
pub use id::{MessageId, ParseIdError, Receipt, ShardId};
#[cfg(feature = "raft")]
pub use local::{LocalBroker, OpenError};
#[cfg(feature = "raft")]
pub use machine::{QueueEvents, QueueMachine};
pub use message::{
    DeadLetter, DeadReason, Delivery, MessageState, NewMessage, Peek, PeekedMessage,
};
pub use name::{ConsumerName, GroupName, NameError, TopicName};
pub use placement::{Ownership, Placement};
pub use queue::{Availability, Queue};
pub use refusal::Refusal;
#[cfg(feature = "raft")]
pub use replicated::ReplicatedBroker;
pub use settings::{Backoff, Overflow, TopicSettings};
pub use snapshot::DecodeError;
pub use time::UnixMillis;
#[cfg(feature = "raft")]
pub use under_way::UnderWay;

#[cfg(all(doctest, feature = "raft"))]
#[doc = include_str!("../README.md")]
struct Readme;
