//! Raft consensus: a deterministic core, a durable log and a tokio driver.

mod codec;
mod config;
mod core;
#[cfg(feature = "tokio")]
mod driver;
mod entry;
mod message;
mod output;
mod ports;
mod storage;
#[cfg(feature = "testing")]
pub mod testing;
mod types;

pub use crate::core::{Raft, Rejected, StartError, Status, TransferError};
pub use codec::DecodeError;
pub use config::{Config, ConfigError};
#[cfg(feature = "tokio")]
pub use driver::{Applied, Group, MemoryNetwork, Node, ProposeError, ReadError, StartGroupError};
pub use entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
pub use message::{Envelope, Message, MessageBody, Round};
pub use output::{Leadership, Output, Persist, ProposalFate, RoleKind};
pub use ports::{RestoreError, Restored, StateMachine, Storage, StorageError, Transport};
pub use storage::MemoryStorage;
#[cfg(feature = "tokio")]
pub use storage::{FileStorage, Identity};
pub use types::{
    GroupId, LogId, LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Term, Timestamp,
};
