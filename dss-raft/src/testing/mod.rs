//! A deterministic simulation of a cluster: virtual time, a network that loses, doubles, delays
//! and reorders, disks that are slow and forget what was not synced, crashes, partitions, clients.
//!
//! [`simulate`] runs the real [`Raft`](crate::Raft) on every node, with a state machine of yours,
//! and checks after every step
//!
//! - Raft's five safety properties (figure 3 of the paper): election safety, leader append-only,
//!   log matching, leader completeness, state machine safety;
//! - that what a client was told holds: an acknowledged proposal is in the log for good, once; a
//!   rejected one never is; each proposal and each read ends exactly once; a read sees everything
//!   that was acknowledged or read before it began;
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

mod checker;
mod clients;
mod disk;
mod faults;
mod hash_chain;
mod host;
mod network;
mod options;
mod outputs;
mod queue;
mod seeds;
pub(crate) mod storage_conformance;
mod violation;
mod workload;
mod world;

pub use crate::core::PlantedBug;
pub use hash_chain::{HashChain, HashChainWorkload};
pub use options::Options;
pub use seeds::{check_seeds, seeds};
pub use storage_conformance::storage_conformance;
pub use violation::{Failure, Violation};
pub use workload::{Broken, Workload};
pub use world::{Report, simulate};
