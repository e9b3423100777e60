//! A deterministic simulation of a cluster: virtual time, a network that loses, doubles, delays
//! and reorders, disks that are slow and forget what was not synced, crashes, partitions, clients.
//!
//! [`simulate`] runs the real [`Raft`](crate::Raft) on every node, with a state machine of yours,
//! and checks after every step
//!
//! - Raft's five safety properties (figure 3 of the paper): election safety, leader append-only,
//!   log matching, leader completeness, state machine safety;
//! - that what a client was told holds: an acknowledged proposal is in the log for good, once; a
//!   rejected one never is; each proposal and each read ends exactly once; and what clients read
//!   and write, through any node, with and without sessions, is linearizable: registers are kept
//!   beside your state machine, and at the end a [`History`] of all calls is checked;
//! - and in the end, with all faults off, that the cluster elects a leader, serves, and has the
//!   same state everywhere.
//!
//! A run is a function of its seed. What the seed decides (how many nodes, which faults, how bad)
//! is drawn by [`Options::swarm`], so that every seed is bad in a way of its own.
//!
//! ```
//! use dss_raft::testing::{HashChainWorkload, Options, simulate};
//!
//! let report = simulate(Options::swarm(7), HashChainWorkload::default())?;
//! assert!(report.acknowledged > 0);
//! # Ok::<(), dss_raft::testing::Failure>(())
//! ```
//!
//! # Your state machine in it
//!
//! Most mistakes in a state machine show only where a node restarts from a snapshot in the middle
//! of something. Here is one: a machine that answers a repeated request from memory, and forgets
//! that memory in its snapshot. A [`Workload`] says what clients ask for and what must never be;
//! the simulation finds a run in which it is.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bytes::Bytes;
//! use dss_raft::testing::{Broken, Options, Workload, simulate};
//! use dss_raft::{LogIndex, RestoreError, StateMachine};
//!
//! /// Gives every ticket a number; the same ticket gets the same number again.
//! #[derive(Default)]
//! struct Tickets {
//!     next: u64,
//!     given: BTreeMap<Bytes, u64>,
//! }
//!
//! impl StateMachine for Tickets {
//!     type Reply = u64;
//!
//!     fn apply(&mut self, _: LogIndex, ticket: &Bytes) -> u64 {
//!         *self.given.entry(ticket.clone()).or_insert_with(|| {
//!             self.next += 1;
//!             self.next
//!         })
//!     }
//!
//!     fn snapshot(&self) -> Bytes {
//!         // The bug: `given` is not in it.
//!         self.next.to_le_bytes().to_vec().into()
//!     }
//!
//!     fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError> {
//!         let bytes = snapshot[..].try_into().map_err(|_| RestoreError { problem: "length" })?;
//!         *self = Self { next: u64::from_le_bytes(bytes), given: BTreeMap::new() };
//!         Ok(())
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Desk {
//!     given: BTreeMap<Bytes, u64>,
//! }
//!
//! impl Workload for Desk {
//!     type Machine = Tickets;
//!
//!     fn machine(&mut self) -> Tickets {
//!         Tickets::default()
//!     }
//!
//!     fn command(&mut self, random: u64) -> Bytes {
//!         vec![(random % 20) as u8].into()
//!     }
//!
//!     fn acknowledged(&mut self, ticket: &Bytes, number: u64) -> Result<(), Broken> {
//!         if *self.given.entry(ticket.clone()).or_insert(number) == number {
//!             return Ok(());
//!         }
//!         Err(Broken("a ticket has two numbers"))
//!     }
//! }
//!
//! let failure = (0..100).find_map(|seed| simulate(Options::swarm(seed), Desk::default()).err());
//! let failure = failure.expect("one of the first hundred runs restores a snapshot");
//! // A node that was restored counts tickets again that the others remember: either the cluster's
//! // own check sees that first, or a client does. It names the seed, and
//! // `simulate(Options::swarm(seed), ..)` is the very same run again.
//! let problem = format!("{failure}: {failure:?}");
//! assert!(problem.contains("differs") || problem.contains("two numbers"), "{problem}");
//! ```
//!
//! # Your storage and your transport
//!
//! [`storage_conformance`] and [`transport_conformance`] run what a [`Storage`](crate::Storage) and
//! a [`Transport`](crate::Transport) promise against any implementation.

mod callers;
mod checker;
mod clients;
mod disk;
mod download;
#[cfg(test)]
mod exploration;
mod faults;
mod hash_chain;
mod host;
mod linearizability;
mod network;
mod options;
mod outputs;
mod queue;
mod registers;
mod seeds;
pub(crate) mod storage_conformance;
#[cfg(feature = "tokio")]
mod transport_conformance;
mod violation;
mod workload;
mod world;

pub use crate::core::PlantedBug;
pub use hash_chain::{HashChain, HashChainWorkload};
pub use linearizability::{CallId, History, Model, NotLinearizable};
pub use options::Options;
pub use seeds::{check_seeds, seeds};
pub use storage_conformance::storage_conformance;
#[cfg(feature = "tokio")]
pub use transport_conformance::{Deliver, transport_conformance};
pub use violation::{Failure, Violation};
pub use workload::{Broken, Workload};
pub use world::{Report, simulate};
