//! What a simulation can find.

use std::time::Duration;

use super::linearizability::NotLinearizable;
use super::workload::Broken;
use crate::core::StartError;
use crate::sessions::{SessionId, SessionReply};
use crate::types::{LogId, LogIndex, NodeId, ProposalId, ReadId, Term};

/// A run that found something, and where to find it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}, step {step}, {at:?} into the run: {violation}")]
pub struct Failure {
    /// The seed; the same seed and options lead here again.
    pub seed: u64,
    /// How many steps were taken.
    pub step: u64,
    /// How much virtual time had passed.
    pub at: Duration,
    /// What was found.
    #[source]
    pub violation: Violation,
}

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Election safety: two nodes lead the same term.
    #[error("nodes {one} and {other} both lead term {term}")]
    ElectionSafety {
        /// The term.
        term: Term,
        /// One leader.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// Leader append-only: a leader's log lost or changed an entry.
    #[error("node {node} leads and has changed its log before {last:?}")]
    LeaderAppendOnly {
        /// The leader.
        node: NodeId,
        /// Its last entry before.
        last: LogId,
    },
    /// Log matching: two logs hold the same entry with different contents or predecessors.
    #[error("node {node} has another entry {entry:?} than an earlier log had")]
    LogMatching {
        /// The node whose log was compared.
        node: NodeId,
        /// The entry.
        entry: LogId,
    },
    /// Leader completeness: a leader lacks an entry committed in an earlier term.
    #[error("node {node} leads term {term} without the committed entry {missing:?}")]
    LeaderCompleteness {
        /// The leader.
        node: NodeId,
        /// The term it leads.
        term: Term,
        /// What it lacks.
        missing: LogId,
    },
    /// State machine safety: a node applies another entry than an earlier one did there.
    #[error("node {node} applies {entry:?} where {earlier:?} was applied before")]
    StateMachineSafety {
        /// The node.
        node: NodeId,
        /// What it applies.
        entry: LogId,
        /// What was applied there.
        earlier: LogId,
    },
    /// A node was given an entry to apply that does not follow the one before.
    #[error("node {node} is to apply {entry} after {applied}")]
    ApplyOrder {
        /// The node.
        node: NodeId,
        /// What it was given.
        entry: LogIndex,
        /// What it had been given before.
        applied: LogIndex,
    },
    /// State machines that applied the same entries differ.
    #[error("the state of node {node} after {index} differs from another's")]
    StatesDiffer {
        /// The node.
        node: NodeId,
        /// The last applied entry.
        index: LogIndex,
    },
    /// A snapshot that a node installs was refused by its state machine.
    #[error("node {node} cannot restore the snapshot at {index}")]
    Restore {
        /// The node.
        node: NodeId,
        /// Where the snapshot ends.
        index: LogIndex,
    },
    /// A write does not follow what is stored, or storage does not hold the log.
    #[error("node {node} asks for a write that does not fit its storage at {index}")]
    WriteOrder {
        /// The node.
        node: NodeId,
        /// Where it does not fit.
        index: LogIndex,
    },
    /// A node cannot start from what it had made durable.
    #[error("node {node} cannot start")]
    Start {
        /// The node.
        node: NodeId,
        /// Why.
        #[source]
        source: StartError,
    },
    /// A proposal that was reported committed is not what stands at its index.
    #[error("the proposal acknowledged by node {node} at {index} is not there")]
    AcknowledgedLost {
        /// Who acknowledged.
        node: NodeId,
        /// Where.
        index: LogIndex,
    },
    /// A command was committed twice, or one that was rejected is in a log.
    #[error("the command at {index} was committed before or rejected")]
    NotExactlyOnce {
        /// Where it was found.
        index: LogIndex,
    },
    /// A proposal ended twice, or was never made.
    #[error("{proposal:?} of node {node} has a second fate")]
    SecondFate {
        /// The node.
        node: NodeId,
        /// The proposal.
        proposal: ProposalId,
    },
    /// A read ended twice, or was never begun.
    #[error("{read:?} of node {node} has a second answer")]
    SecondAnswer {
        /// The node.
        node: NodeId,
        /// The read.
        read: ReadId,
    },
    /// What clients were told of the registers beside the state machine fits no order.
    #[error("what clients were told is not linearizable: {0}")]
    NotLinearizable(#[from] NotLinearizable),
    /// A client's session is gone, long before its time.
    #[error("session {} is lost: {reply:?}", session.get())]
    SessionLost {
        /// Which.
        session: SessionId,
        /// What its client was told.
        reply: SessionReply,
    },
    /// With all faults off, the cluster did not come to serve, or to agree.
    #[error("the cluster does not serve and agree {waited:?} after the last fault")]
    NotLive {
        /// How long was waited.
        waited: Duration,
    },
    /// The workload's own check.
    #[error("the state machine misbehaves")]
    Workload(#[from] Broken),
}
