//! What the world must provide: a transport, a storage and a state machine.

mod snapshots;
mod state_machine;
mod storage;

pub use snapshots::{SnapshotReader, SnapshotStore, SnapshotWriter};
pub use state_machine::{RestoreError, SnapshotImage, StateMachine};
pub use storage::{Restored, Storage, StorageError};

use crate::message::Envelope;
use crate::types::NodeId;

/// Carries envelopes to other nodes.
///
/// Raft needs no promise from it: an envelope may be lost, doubled, delayed or overtaken, but what
/// arrives is what was sent. Whoever implements it hands what arrives to
/// `Node::deliver`.
pub trait Transport: Send + Sync + 'static {
    /// Sends, or drops where it cannot. Never blocks.
    fn send(&self, to: NodeId, envelope: Envelope);
}
