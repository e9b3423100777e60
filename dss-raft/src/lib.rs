//! Raft consensus: a deterministic core, a durable log and a tokio driver.

mod codec;
mod config;
mod entry;
mod message;
mod output;
mod ports;
mod storage;
mod types;

pub use codec::DecodeError;
pub use config::{Config, ConfigError};
pub use entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
pub use message::{Envelope, Message, MessageBody, Round};
pub use output::{Leadership, Output, Persist, ProposalFate, RoleKind};
pub use ports::{RestoreError, Restored, StateMachine, Storage, StorageError, Transport};
pub use storage::MemoryStorage;
pub use types::{
    GroupId, LogId, LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Term, Timestamp,
};
