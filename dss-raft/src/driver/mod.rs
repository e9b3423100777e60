//! The driver: runs groups of [`Raft`](crate::Raft) on tokio.
//!
//! ```text
//!   clients ──► Group ──requests──►┐                      ┌──► transport
//!   peers ────► Node ──messages──► │ core task, one each  │──writes──► log writer, one per node
//!   log writer, applier ──events──►┘ group: owns a `Raft` └──jobs────► applier, one per group:
//!                                                                      owns the state machine
//! ```
//!
//! The core task drains its queues before it looks at the core's outputs, so that whatever came in
//! meanwhile becomes one write and one message per follower; the log writer drains what all groups
//! ask for into one sync. Neither ever waits for a state machine: heartbeats go on while one is
//! slow.

mod applier;
mod blocking;
mod budget;
mod core_task;
mod download;
mod error;
mod gathering;
mod group;
mod group_snapshots;
mod heartbeats;
mod inbox;
mod inputs;
mod log_writer;
mod memory_network;
mod node;
mod outbox;
mod published;
mod requests;
mod snapshot_server;
mod snapshot_waiters;
mod snapshots;
mod waiters;

pub use error::{MembershipError, ProposeError, ReadError, SnapshotError, StartGroupError};
pub use group::{Applied, Group, Submitted};
pub use memory_network::MemoryNetwork;
pub use node::Node;
pub use published::Metrics;
