//! What the driver's operations can end in, besides success.

use crate::core::{ChangeError, Rejected, StartError};
use crate::ports::{RestoreError, StorageError};
use crate::types::{GroupId, NodeId};

/// Why [`Group::propose`](super::Group::propose) has no reply.
///
/// Only [`OutcomeUnknown`](ProposeError::OutcomeUnknown) leaves it open whether the command was or
/// will be applied; after every other error it never is, and may be proposed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// Another node leads, or none does.
    #[error("this node does not lead the group")]
    NotLeader {
        /// Who does (or is about to), as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Too many proposals, or too many bytes of them, are under way. Try again later.
    #[error("too many proposals are under way")]
    Overloaded,
    /// The command may or may not be applied: the node lost leadership, or stopped, meanwhile.
    #[error("it is not known whether the command will be applied")]
    OutcomeUnknown,
    /// This node cannot write its log any more. [`Node::storage_failure`](super::Node) says why.
    #[error("the log of this node cannot be written")]
    StorageFailed,
    /// The state machine of this node panicked, or refused its leader's snapshot.
    #[error("the state machine of this node has failed")]
    MachineFailed,
    /// The node was shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

/// Why [`Group::read`](super::Group::read) has no answer. The query was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader could be found that was still confirmed by a majority. Try again, or elsewhere.
    #[error("no leader could confirm the read")]
    NoLeader,
    /// Too many reads are under way. Try again later.
    #[error("too many reads are under way")]
    Overloaded,
    /// The state machine of this node panicked, or refused its leader's snapshot.
    #[error("the state machine of this node has failed")]
    MachineFailed,
    /// The node was shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

/// Why [`Group::change`](super::Group::change) has not changed the members.
///
/// After [`OutcomeUnknown`](MembershipError::OutcomeUnknown) they may be the new ones now or soon:
/// ask [`Group::status`](super::Group::status). After every other error they are not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// Nothing was begun.
    #[error("the change was refused")]
    Refused(#[from] ChangeError),
    /// A new voter did not receive the log in time.
    #[error("a new voter did not catch up")]
    NotCaughtUp,
    /// The node lost leadership, or stopped, meanwhile.
    #[error("it is not known whether the members will change")]
    OutcomeUnknown,
    /// The state machine of this node panicked, or refused its leader's snapshot.
    #[error("the state machine of this node has failed")]
    MachineFailed,
    /// The node was shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

impl From<Stopped> for MembershipError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ShutDown => Self::ShutDown,
            Stopped::MachineFailed => Self::MachineFailed,
        }
    }
}

/// Why [`Group::snapshot`](super::Group::snapshot) has not taken one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The storage could not take it (a full disk, say), or the state machine could not write it.
    /// The group goes on without.
    #[error("the snapshot could not be stored")]
    Failed,
    /// The state machine of this node panicked, or refused its leader's snapshot.
    #[error("the state machine of this node has failed")]
    MachineFailed,
    /// The node was shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

/// Why [`Node::start_group`](super::Node::start_group) started nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartGroupError {
    /// The node runs that group already.
    #[error("group {group} is already running on this node")]
    AlreadyStarted {
        /// Which.
        group: GroupId,
    },
    /// The storage could not say what the group had made durable.
    #[error("the stored state could not be read")]
    Storage(#[from] StorageError),
    /// The state machine refused the stored snapshot.
    #[error("the stored snapshot could not be restored")]
    Machine(#[from] RestoreError),
    /// The stored state contradicts itself or the configuration.
    #[error("the stored state cannot be started from")]
    Inconsistent(#[from] StartError),
    /// The node was shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

/// Why a group takes nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    ShutDown,
    MachineFailed,
}

impl From<Stopped> for ProposeError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ShutDown => Self::ShutDown,
            Stopped::MachineFailed => Self::MachineFailed,
        }
    }
}

impl From<Stopped> for ReadError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ShutDown => Self::ShutDown,
            Stopped::MachineFailed => Self::MachineFailed,
        }
    }
}

impl From<Stopped> for SnapshotError {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::ShutDown => Self::ShutDown,
            Stopped::MachineFailed => Self::MachineFailed,
        }
    }
}

impl From<Rejected> for ProposeError {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::NotLeader { leader } => Self::NotLeader { leader },
            Rejected::Transferring { to } => Self::NotLeader { leader: Some(to) },
            Rejected::Overloaded => Self::Overloaded,
            Rejected::StorageFailed => Self::StorageFailed,
        }
    }
}
