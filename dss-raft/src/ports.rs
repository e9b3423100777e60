//! What the world must provide: a transport, a storage and a state machine.

use async_trait::async_trait;
use bytes::Bytes;

use crate::entry::{Entry, HardState, Snapshot};
use crate::message::Envelope;
use crate::output::Persist;
use crate::types::{GroupId, LogIndex, NodeId};

/// Carries envelopes to other nodes.
///
/// Raft needs no promise from it: an envelope may be lost, doubled, delayed or overtaken, but what
/// arrives is what was sent. Whoever implements it hands what arrives to
/// `Node::deliver`.
pub trait Transport: Send + Sync + 'static {
    /// Sends, or drops where it cannot. Never blocks.
    fn send(&self, to: NodeId, envelope: Envelope);
}

/// What a group had made durable before it stopped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The newest snapshot.
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

    /// Makes these writes durable before it returns. After a crash a prefix of them, in this
    /// order, is there: never a later one without an earlier one, never half of one.
    ///
    /// # Errors
    ///
    /// After an error it is not known which of them are durable, and every later call fails too: a
    /// write that failed once is never reported as done later.
    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError>;
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
    /// An earlier write failed; nothing is written any more.
    #[error("an earlier write failed")]
    Poisoned,
}

/// What is replicated: a deterministic machine that every node runs.
///
/// Neither clock nor randomness nor anything else that differs between nodes may reach it; time,
/// where it needs one, is in the command.
pub trait StateMachine: Send + 'static {
    /// What applying a command answers the node that proposed it. Not replicated.
    type Reply: Send + 'static;

    /// Applies the command at `index`. Commands come in order, each exactly once since the
    /// snapshot that was last restored.
    ///
    /// A command that makes no sense is answered as an error in `Reply`: to panic would take every
    /// node down, one restart after the other.
    fn apply(&mut self, index: LogIndex, command: &Bytes) -> Self::Reply;

    /// The whole state, so that [`restore`](StateMachine::restore) on another node continues
    /// exactly here.
    fn snapshot(&self) -> Bytes;

    /// Replaces the state by `snapshot`.
    ///
    /// # Errors
    ///
    /// Where the bytes are not a snapshot of this machine. The state is then as before.
    fn restore(&mut self, snapshot: &Bytes) -> Result<(), RestoreError>;
}

/// The bytes given to [`StateMachine::restore`] are no snapshot of that machine.
#[derive(Debug, thiserror::Error)]
#[error("not a snapshot of this state machine: {problem}")]
pub struct RestoreError {
    /// What is wrong with them.
    pub problem: &'static str,
}
