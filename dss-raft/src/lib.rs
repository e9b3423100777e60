//! Raft consensus: a deterministic core, a durable log and a tokio driver.
//!
//! Give it a state machine, and every node of a cluster runs the same one: what was acknowledged
//! survives the loss of any minority of them, reads on any node see every write that was
//! acknowledged before, and a new leader takes over within about an election timeout.
//!
//! It is not a database, a network or a service: it brings no sockets, no client protocol and no
//! data model. Bytes go in as commands, come out at [`StateMachine::apply`] in the same order on
//! every node, and travel between nodes over whatever [`Transport`] you have.
//!
//! ```text
//!   your clients                                                    the other nodes
//!        │ propose, read                                                   │
//!  ┌─────▼─────┐   ┌──────────────────────────────────┐   ┌────────────┐   │
//!  │ `Group`   ├──►│ `Raft`: the core                 ├──►│ `Transport`├───┘
//!  └─────▲─────┘   │ no clock, no I/O, no threads     │   └────────────┘
//!        │ reply   └──┬───────────────────────────┬───┘
//!  ┌─────┴─────────┐  │ committed         to keep │   ┌───────────────────────────┐
//!  │ `StateMachine`│◄─┘                           └──►│ `Storage`: `FileStorage`  │
//!  └───────────────┘                                  └───────────────────────────┘
//! ```
//!
//! The two types to know are [`Node`], which runs any number of groups over one transport and one
//! log, and [`Group`], which a service proposes to and reads from. Who drives consensus themselves
//! (in a simulator, on another runtime) finds in [`Raft`] all of the protocol as a value with
//! inputs and outputs, and leaves the feature `tokio` off.
//!
//! # A replicated counter
//!
//! Three nodes in one process; over a real network only the transport differs.
//!
//! ```
//! use bytes::Bytes;
//! use dss_raft::*;
//!
//! /// Counts; every command is the number to add, as one byte.
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Reply = u64;
//!
//!     fn apply(&mut self, _: LogIndex, command: &Bytes) -> u64 {
//!         self.0 += command.iter().map(|byte| u64::from(*byte)).sum::<u64>();
//!         self.0
//!     }
//!
//!     fn snapshot(&self) -> Bytes {
//!         self.0.to_le_bytes().to_vec().into()
//!     }
//!
//!     fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
//!         let bytes = snapshot[..].try_into();
//!         self.0 = bytes.map(u64::from_le_bytes).map_err(|_| RestoreError { problem: "length" })?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = MemoryNetwork::new();
//! let members = Configuration::of_voters([1, 2, 3].map(NodeId::new));
//! let (mut nodes, mut groups) = (Vec::new(), Vec::new());
//! for id in members.voters.clone() {
//!     // `FileStorage::open(folder, identity).await?` keeps it through restarts.
//!     let node = Node::start(MemoryStorage::new(), network.transport(id));
//!     network.attach(id, &node);
//!     let config = Config::new(id, id.get());
//!     groups.push(node.start_group(GroupId::new(0), config, members.clone(), Counter(0)).await?);
//!     nodes.push(node);
//! }
//!
//! let leader = groups[0].leadership().wait_for(|now| now.leader.is_some()).await?.leader;
//! let leader = groups.iter().find(|group| Some(group.status().node) == leader).expect("one of us");
//! assert_eq!(leader.propose(Bytes::from_static(&[5])).await?.reply, 5);
//! assert_eq!(leader.propose(Bytes::from_static(&[2])).await?.reply, 7);
//! for group in &groups {
//!     assert_eq!(group.read(|counter| counter.0).await?, 7);
//! }
//! for node in &nodes {
//!     node.shutdown().await;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised, and by whom
//!
//! - A proposal ends in exactly one way: with its reply, with an error that says that it never
//!   counts, or with [`ProposeError::OutcomeUnknown`].
//! - What [`Storage::persist`] has returned from survives a crash. [`FileStorage`] does that with
//!   one sync for all groups and proposals that came in meanwhile; a write that failed once is
//!   final, and damage is refused with the name of the file.
//! - The transport may lose, double, delay and reorder; what it delivers must be what a member
//!   sent. Encryption and the identity of peers are its concern.
//! - The state machine must do the same on every node: no clock, no randomness, no I/O.
//!
//! # Features
//!
//! - `tokio` (default): [`Node`], [`Group`], [`FileStorage`], [`MemoryNetwork`].
//! - `testing`: a simulator of whole clusters with faults, for your state machine too, and a
//!   conformance suite for storages.
//!
//! # References
//!
//! "The paper" is Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm*
//! (extended version, 2014), whose sections and figures the documentation cites; "the dissertation"
//! is Ongaro's *Consensus: Bridging Theory and Practice* (2014).

#[cfg_attr(
    not(feature = "tokio"),
    allow(dead_code, unused_imports, reason = "the log on files comes with the driver")
)]
mod codec;
mod config;
mod core;
#[cfg(feature = "tokio")]
mod driver;
mod entry;
mod message;
mod output;
mod ports;
#[cfg_attr(
    not(feature = "tokio"),
    allow(dead_code, unused_imports, reason = "the log on files comes with the driver")
)]
mod storage;
#[cfg(feature = "testing")]
pub mod testing;
mod types;

pub use crate::core::{ChangeError, Raft, Rejected, StartError, Status, TransferError};
pub use codec::DecodeError;
pub use config::{Config, ConfigError, Priority};
#[cfg(feature = "tokio")]
pub use driver::{
    Applied, Group, MemoryNetwork, Metrics, Node, ProposeError, ReadError, SnapshotError,
    StartGroupError,
};
pub use entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
pub use message::{
    Envelope, Message, MessageBody, PartContent, Round, SnapshotPart, SnapshotRequest,
};
pub use output::{Leadership, Output, Persist, ProposalFate, RoleKind};
pub use ports::{
    RestoreError, Restored, SnapshotImage, SnapshotReader, SnapshotStore, SnapshotWriter,
    StateMachine, Storage, StorageError, Transport,
};
pub use storage::MemoryStorage;
#[cfg(feature = "tokio")]
pub use storage::{FileStorage, Identity};
pub use types::{
    GroupId, LogId, LogIdentity, LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Term, Timestamp,
};

/// The code in the README is compiled with the tests.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../README.md")]
struct Readme;
