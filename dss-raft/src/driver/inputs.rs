//! What a core task is told and asked.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::applier::{ProposalWaiter, Query};
use super::error::{MembershipError, SnapshotError};
use crate::core::TransferError;
use crate::entry::Configuration;
use crate::ports::StateMachine;
use crate::types::{LogIndex, NodeId, PersistSeq};

/// What other tasks of the node tell a core task. As many as are under way, and never dropped.
pub(super) enum Event {
    Persisted(PersistSeq),
    StorageFailed,
    Applied(LogIndex),
    SnapshotTaken {
        index: LogIndex,
        descriptor: Bytes,
    },
    SnapshotFailed {
        index: LogIndex,
    },
    /// Somebody wants one, and to know up to where it reaches once it is in the log.
    TakeSnapshot {
        answer: oneshot::Sender<Result<Option<LogIndex>, SnapshotError>>,
    },
    /// The snapshot that `from` offered under `descriptor` is in this node's store under the
    /// other one; or it cannot be had.
    SnapshotFetched {
        from: NodeId,
        descriptor: Bytes,
        fetched: Option<Bytes>,
    },
    MachineFailed,
    /// Answered with the target and with how long it may take.
    Transfer {
        to: Option<NodeId>,
        answer: oneshot::Sender<Result<(NodeId, Duration), TransferError>>,
    },
    /// Answered when it has ended.
    Change {
        expected: Configuration,
        target: Configuration,
        answer: ChangeWaiter,
    },
    ShutDown,
}

/// Who waits for the members to change.
pub(super) type ChangeWaiter = oneshot::Sender<Result<LogIndex, MembershipError>>;

/// What clients ask of a group.
pub(super) enum Request<M: StateMachine> {
    Propose { command: Bytes, waiter: ProposalWaiter<M::Reply> },
    Read(Query<M>),
    ReadLocal(Query<M>),
}
