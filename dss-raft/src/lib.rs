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
//! It is Raft with the parts that the paper leaves to its readers: pre-vote, check-quorum, reads on
//! any member, transfer of leadership, joint consensus with learners, streamed snapshots, sessions,
//! a log on files. The README sets it beside its peers, feature by feature, with the test that shows
//! each.
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
//! # The run loop
//!
//! What [`Node`] does for every group, here for one node without a network, in virtual time. Outputs
//! are performed in their order; what names a write in `after` waits for that write, nothing else
//! does, and a driver that forgets a kind of output does not compile.
//!
//! ```
//! use bytes::Bytes;
//! use dss_raft::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = NodeId::new(1);
//! let members = Configuration::of_voters([id]);
//! let mut now = Timestamp::ZERO;
//! let mut raft = Raft::new(Config::new(id, 7), members, Restored::default(), now)?;
//! let (mut proposed, mut log, mut machine) = (None, Vec::new(), Vec::new());
//! while machine.is_empty() {
//!     // 1. Wait for an input (a message, a finished write, a client) or for the deadline.
//!     if let Some(deadline) = raft.poll_timeout() {
//!         now = now.max(deadline);
//!         raft.handle_timeout(now);
//!     }
//!     // 2. Hand in whatever else has come: all of it becomes one write and one message a peer.
//!     if proposed.is_none() && raft.status().role == RoleKind::Leader {
//!         proposed = Some(raft.propose(now, Bytes::from_static(b"hello"))?);
//!     }
//!     // 3. Do what the core wants done.
//!     while let Some(output) = raft.poll_output() {
//!         match output {
//!             Output::Persist(persist) => {
//!                 // Written and synced, maybe on another thread. Only then:
//!                 log.extend_from_slice(&persist.entries);
//!                 raft.handle_persisted(now, persist.seq);
//!             }
//!             Output::Send { to, .. } => unreachable!("there is nobody else, not even {to}"),
//!             Output::Apply(entries) => {
//!                 for entry in entries.iter() {
//!                     if let Payload::Command(command) = &entry.payload {
//!                         machine.push(command.clone());
//!                     }
//!                 }
//!                 raft.handle_applied(now, entries.last_index().expect("never without entries"));
//!             }
//!             // The state machine as a whole, to a file and from one: the core knows its name only.
//!             Output::TakeSnapshot { index } => {
//!                 raft.handle_snapshot_taken(now, index, Bytes::from_static(b"the file's name"));
//!             }
//!             Output::Restore { snapshot, .. } => raft.handle_applied(now, snapshot.last.index),
//!             // How what was asked for ended.
//!             Output::Proposal { proposal, fate } => {
//!                 assert_eq!(Some(proposal), proposed);
//!                 assert!(matches!(fate, ProposalFate::Committed(_)));
//!             }
//!             Output::Read { .. } | Output::Leadership(_) => {}
//!         }
//!     }
//! }
//! assert_eq!(machine, ["hello"]);
//! assert_eq!(log.len(), 2, "the leader's blank entry, and ours");
//! # Ok(())
//! # }
//! ```
//!
//! # The rules, and where they are from
//!
//! | rule | from | see |
//! | --- | --- | --- |
//! | one vote a term, durable before it is spoken of | paper 5.2 | [`HardState`] |
//! | votes go to logs that are at least as up to date | paper 5.4.1 | [`MessageBody::VoteRequest`] |
//! | a campaign is announced before a term is entered (pre-vote) | dissertation 9.6 | [`MessageBody::PreVoteRequest`] |
//! | nobody else is supported while a leader is heard | paper 6, dissertation 4.2.3 | [`Config::timing`] |
//! | a leader without a majority steps down | dissertation 6.2 | [`Leadership`] |
//! | entries follow the one before them, or replace what contradicts | paper 5.3 | [`MessageBody::Append`] |
//! | a rejection names the term that conflicts | paper 5.3, at its end | [`MessageBody::AppendRejected`] |
//! | only entries of its own term are committed by counting | paper 5.4.2, figure 8 | [`Payload::Blank`] |
//! | a leader replicates while it writes, and counts its copy once it is durable | dissertation 10.2.1 | [`Output::Persist`] |
//! | members are in force when appended, through a joint configuration | paper 6, dissertation 4.3 | [`Raft::change`] |
//! | new voters catch up first, in rounds | dissertation 4.2.1 | [`Raft::change`] |
//! | a removed leader commits that, hands over, steps down | dissertation 4.2.2 | [`Raft::change`] |
//! | leadership is handed over to a log that is complete | dissertation 3.10 | [`Raft::transfer_leadership`] |
//! | snapshots carry their last entry and its configuration | paper 7, figure 13 | [`Snapshot`] |
//! | a read is confirmed by a round begun after it, on any member | paper 8, dissertation 6.4 | [`Raft::read`] |
//! | a leader with a lease asks nobody | dissertation 6.4.1 | [`Config::lease_reads`] |
//! | a repeated command is applied once | paper 8, dissertation 6.3 | [`sessions`] |
//!
//! Beyond either: a member that lost its storage is told from the one it was ([`LogIdentity`]), a
//! leader whose disk hangs hands over, and of equal logs the one of higher [`Priority`] leads.
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
//! - `testing`: a simulator of whole clusters with faults, for your state machine too, and
//!   conformance suites for storages and transports.
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
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod output;
mod ports;
mod recover;
pub mod sessions;
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
    Applied, Group, MembershipError, MemoryNetwork, Metrics, Node, ProposeError, ReadError,
    SnapshotError, StartGroupError,
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
pub use recover::{RecoverError, recover};
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
