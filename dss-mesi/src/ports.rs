//! What the world must provide: a transport, a main memory and a placement.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::version::Version;
use crate::view::{Epoch, NodeId, View};

/// Carries messages to other nodes.
///
/// The protocol needs no promise from it: a message may be lost, doubled, delayed or overtaken,
/// but what arrives is what was sent. Whoever implements it hands what arrives to
/// `CacheNode::deliver`, and can put it to the test by `transport_conformance`.
pub trait Transport: Send + Sync + 'static {
    /// Sends, or drops where it cannot. Never blocks.
    fn send(&self, to: NodeId, message: Message);
}

/// Says which member is the home of a key.
pub trait Placement: Send + Sync + 'static {
    /// The home of `key` in `view`, one of its members; `None` only where it has none.
    ///
    /// Must be a function of its arguments alone, and the same one on every node.
    fn home(&self, key: &[u8], view: &View) -> Option<NodeId>;
}

/// What main memory has under a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stored {
    /// The newest write.
    pub version: Version,
    /// Its value; `None` is a tombstone, the version of a removal.
    pub value: Option<Bytes>,
}

/// How a [`Memory::store`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StoreOutcome {
    /// Memory has this version, from this call or an earlier one.
    Stored,
    /// Memory has a larger version and keeps it.
    Stale {
        /// That version.
        newest: Version,
    },
    /// The writer's epoch is below the fence: nothing was stored.
    Fenced {
        /// The fence.
        fence: Epoch,
    },
}

/// Main memory: where values are when no cache has newer ones.
///
/// Each call takes effect at one point between its start and its end, and what it did is durable
/// when it returns. After an error it may or may not have taken effect, and may still do so later;
/// the caller repeats it, which is harmless. Any implementation can be put to the test by
/// [`memory_conformance`](crate::memory_conformance).
#[async_trait]
pub trait Memory: Send + Sync + 'static {
    /// The newest write of `key`, be it a tombstone; `None` where it was never written.
    ///
    /// # Errors
    ///
    /// Where memory cannot be asked.
    async fn load(&self, key: &Bytes) -> Result<Option<Stored>, MemoryError>;

    /// Stores, unless `writer` is below the fence or `version` below the stored one.
    ///
    /// # Errors
    ///
    /// Where memory cannot be asked, or its answer is lost.
    async fn store(
        &self,
        writer: Epoch,
        key: &Bytes,
        version: Version,
        value: Option<Bytes>,
    ) -> Result<StoreOutcome, MemoryError>;

    /// Raises the fence to `epoch`: no store of an earlier writer takes effect after it returns.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Fenced`] where it is higher already; else as with a store.
    async fn fence(&self, epoch: Epoch) -> Result<(), MemoryError>;
}

/// Why a [`Memory`] cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// It cannot be reached, or did not answer.
    #[error("main memory is unavailable: {reason}")]
    Unavailable {
        /// What is known about it.
        reason: String,
    },
    /// The fence is higher than what was asked for.
    #[error("main memory is fenced at epoch {fence}")]
    Fenced {
        /// The fence.
        fence: Epoch,
    },
}
