//! Raft consensus: a deterministic core, a durable log and a tokio driver.

mod config;
mod core;
mod entry;
mod message;
mod output;
mod ports;
#[cfg(feature = "testing")]
pub mod testing;
mod types;

pub use crate::core::{Raft, Rejected, StartError, Status, TransferError};
pub use config::{Config, ConfigError};
pub use entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
pub use message::{Envelope, Message, MessageBody, Round};
pub use output::{Leadership, Output, Persist, ProposalFate, RoleKind};
pub use ports::{RestoreError, Restored, StateMachine, Storage, StorageError, Transport};
pub use types::{
    GroupId, LogId, LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Term, Timestamp,
};
