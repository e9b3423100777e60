//! What must survive a crash.

use std::sync::Arc;

use async_trait::async_trait;

use super::snapshots::SnapshotStore;
use crate::entry::{Entry, HardState, Snapshot};
use crate::output::Persist;
use crate::types::GroupId;

/// What a group had made durable before it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The newest snapshot, its `data` the descriptor by which [`Storage::snapshots`] finds it.
    pub snapshot: Option<Snapshot>,
    /// The log behind it: the first entry's index is at most one past the snapshot's.
    pub entries: Vec<Entry>,
}

/// Keeps what must survive a crash, for all groups of a node.
#[async_trait]
pub trait Storage: Send + 'static {
    /// What `group` had made durable; a group that never wrote gets the default.
    ///
    /// # Errors
    ///
    /// Whatever makes the stored state unreadable. Nothing is changed by it.
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError>;

    /// Makes these writes durable before it returns. A snapshot in them is one that
    /// [`snapshots`](Storage::snapshots) has finished, named by its descriptor. After a crash a prefix of them, in this
    /// order, is there: never a later one without an earlier one, never half of one.
    ///
    /// # Errors
    ///
    /// After an error it is not known which of them are durable, and every later call fails too: a
    /// write that failed once is never reported as done later.
    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError>;

    /// Where the bytes of snapshots are kept. Always the same one.
    fn snapshots(&self) -> Arc<dyn SnapshotStore>;
}

/// Why a [`Storage`] cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: std::path::PathBuf,
        /// What it said.
        #[source]
        source: std::io::Error,
    },
    /// Stored bytes are not what was written.
    #[error("{path} is damaged at byte {offset}: {problem}")]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// The folder belongs to another node or cluster.
    #[error("{path} belongs to {found}, not to {expected}")]
    WrongIdentity {
        /// The file that says so.
        path: std::path::PathBuf,
        /// Whom it names.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// Another process uses the folder.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: std::path::PathBuf,
    },
    /// A write does not follow what is stored: a bug of whoever asked for it.
    #[error("a write does not follow what group {group} has stored: {problem}")]
    OutOfOrder {
        /// Whose write.
        group: GroupId,
        /// What does not fit.
        problem: &'static str,
    },
    /// The descriptor names no snapshot that is kept.
    #[error("group {group} has no such snapshot")]
    NoSuchSnapshot {
        /// Whose snapshot was asked for.
        group: GroupId,
    },
    /// An earlier write failed; nothing is written any more.
    #[error("an earlier write failed")]
    Poisoned,
}
