//! A coherent distributed cache: the MESI protocol, linearizable per key through crashes.
//!
//! Each node keeps copies of what its clients use, in memory, and reads them without a message;
//! and yet a read on any node returns what was written last on any other, also while messages are
//! lost, doubled and overtaken, while nodes crash, and while the network is cut. It is a cache in
//! front of a *main memory* that you bring (a database, a replicated table, Redis): not a database
//! itself, and no transactions over several keys.
//!
//! ```text
//!   client        client              Each key has a home, one of the nodes, which knows who
//!      │             │                holds a copy. A cache asks it for a line, to share it (S)
//!  ┌───┴───┐     ┌───┴───┐            or to own it (E; M once written). The home first recalls
//!  │ Cache │     │ Cache │            the line from whoever must give way, stores what was
//!  ├───────┤◄───►├───────┤            written, and then grants it: one thing at a time for each
//!  │ Home  │     │ Home  │            line. Every message may be repeated, and is until it is
//!  └───┬───┘     └───┬───┘            answered.
//!      ▼             ▼
//!  ┌─────────────────────┐            Main memory takes versioned, conditional writes, and none
//!  │     main memory     │            from an earlier view once the fence is raised.
//!  └─────────────────────┘
//! ```
//!
//! What to know: [`CacheNode`] is a node, [`Memory`], [`Transport`] and [`Placement`] are what it
//! needs, [`View`] says who takes part.
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), dss_mesi::CacheError> {
//! use std::{sync::Arc, time::Duration};
//!
//! use dss_mesi::{
//!     CacheConfig, CacheNode, Condition, Epoch, InMemoryMemory, InMemoryNetwork, Incarnation,
//!     Member, NodeId, RendezvousPlacement, View,
//! };
//! use tokio::time::Instant;
//!
//! let (memory, network) = (Arc::new(InMemoryMemory::new()), InMemoryNetwork::new());
//! let members = [1, 2, 3].map(|node| Member {
//!     node: NodeId::new(node),
//!     incarnation: Incarnation::new(1),
//! });
//! let view = View { epoch: Epoch::new(1), members: members.to_vec() };
//! let nodes = members.map(|member| {
//!     let transport = network.transport(member.node);
//!     let placement = Arc::new(RendezvousPlacement);
//!     let node =
//!         CacheNode::start(CacheConfig::new(), member, memory.clone(), transport, placement);
//!     network.attach(member.node, &node);
//!     node.set_lease(Instant::now() + Duration::from_secs(5));
//!     node.set_view(view.clone());
//!     node
//! });
//!
//! let version = nodes[0].put("k".into(), "v".into(), Condition::None).await?;
//! let first = nodes[1].get("k".into()).await?.expect("it was written");
//! assert_eq!((&first.value[..], first.version, first.hit), (&b"v"[..], version, false));
//! let second = nodes[1].get("k".into()).await?.expect("it was written");
//! assert!(second.hit, "without a message");
//! nodes[2].put("k".into(), "w".into(), Condition::Matches(version)).await?;
//! assert_eq!(&nodes[1].get("k".into()).await?.expect("it was written").value[..], b"w");
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # What is promised
//!
//! - Operations on one key are linearizable, across all nodes; keys are independent of each other.
//! - With [`WritePolicy::WriteThrough`], the default, nothing that was acknowledged is ever lost.
//!   With [`WritePolicy::WriteBack`] a write costs no message, and a crashed node loses what it had
//!   not stored yet, as long as no other node had seen it; what is lost never comes back.
//! - An operation that could not be done says so within a bounded time, and whether the write may
//!   have happened all the same ([`CacheError::Indeterminate`]).
//!
//! # What must hold for it
//!
//! - All nodes are given the same sequence of [`View`]s, each perhaps late or never, and a life of
//!   a node that is gone from it never returns: a restart is another [`Incarnation`].
//! - A node is left out of a view only after its lease is over or the node has shut down; clocks
//!   may be anything, but run at about the same rate. [`membership`] has cores for both.
//! - [`Placement`] is the same function on all nodes. [`Memory`] keeps what [`MemoryTable`] does.
//!
//! # Layout
//!
//! [`Cache`] and [`Home`] are the two deterministic cores: no clock, no I/O, no randomness, and
//! their documentation is the table of the protocol. [`CacheNode`] runs some of each, every one for
//! its part of the keys and behind a lock of its own (feature `tokio`, on by default). The page
//! [`walk`] follows one line through two writers, a crash and a partition. The protocol is the
//! textbook's directory MESI (Sorin, Hill and Wood, *A Primer on Memory Consistency and Cache
//! Coherence*, chapter 8) made for networks: with requests that are repeated, a sequence over grants
//! and recalls, and write-backs that are kept until they are confirmed, in place of its transient
//! states.

mod cache;
#[cfg(test)]
mod checker;
mod config;
mod conformance;
#[cfg(feature = "tokio")]
mod driver;
mod error;
mod flaw;
mod home;
mod line;
pub mod membership;
mod memory;
mod message;
mod placed;
mod placement;
mod ports;
#[cfg(test)]
mod simulation;
mod statistics;
mod timer;
mod version;
mod view;
#[cfg(doc)]
pub mod walk;

pub use cache::{Answer, Cache, Cause, Condition, Dropped, LineView, OperationId, Output, Read};
pub use config::{CacheConfig, WritePolicy};
pub use conformance::memory_conformance;
#[cfg(feature = "tokio")]
pub use conformance::{Arrival, transport_conformance};
#[cfg(feature = "tokio")]
pub use driver::{CacheNode, InMemoryNetwork, LoadError};
pub use error::CacheError;
pub use home::{Home, HomeOutput, MemoryCall};
pub use line::LineState;
pub use membership::{
    LeaseConfig, LeaseConfigError, LeaseGranter, LeaseHolder, Refused, Renewal, ViewCommand,
    ViewDecodeError, ViewTable,
};
pub use memory::{InMemoryMemory, MemoryTable, TableError};
pub use message::{Body, DecodeError, Dirty, Message, Payload, Want};
pub use placement::RendezvousPlacement;
pub use ports::{Memory, MemoryError, Placement, StoreOutcome, Stored, Transport};
pub use statistics::Statistics;
pub use version::{RequestId, Seq, Version, VersionError};
pub use view::{Epoch, Incarnation, Member, NodeId, Timestamp, View};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
