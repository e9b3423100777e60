//! A coherent distributed cache: the MESI protocol, linearizable per key through crashes.

mod cache;
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

pub use cache::{Answer, Cache, Condition, LineView, OperationId, Output, Read};
pub use config::{CacheConfig, WritePolicy};
pub use conformance::memory_conformance;
#[cfg(feature = "tokio")]
pub use driver::{CacheNode, InMemoryNetwork};
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
