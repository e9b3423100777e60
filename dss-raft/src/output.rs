//! What the core asks of its driver.

use crate::entry::{Entries, HardState, Snapshot};
use crate::message::Message;
use crate::types::{LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Term};

/// One thing to do. Outputs are performed in the order in which they are polled; whatever may
/// only happen once something is durable says so in `after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write to stable storage, then call
    /// [`handle_persisted`](crate::Raft::handle_persisted). Nothing waits for it but what names
    /// its number: later outputs are performed meanwhile.
    Persist(Persist),
    /// Send, once `after` is durable; `None` means at once. It may be lost.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
        /// The write that the message promises.
        after: Option<PersistSeq>,
    },
    /// Apply these committed entries, each exactly once and in order, then call
    /// [`handle_applied`](crate::Raft::handle_applied).
    Apply(Entries),
    /// Replace the state machine by this snapshot, once `after` is durable, then call
    /// [`handle_applied`](crate::Raft::handle_applied).
    Restore {
        /// What to restore.
        snapshot: Box<Snapshot>,
        /// The write of the snapshot itself.
        after: PersistSeq,
    },
    /// Take a snapshot of the state machine as it is after `index`, then call
    /// [`handle_snapshot_taken`](crate::Raft::handle_snapshot_taken). Comes right after the
    /// [`Apply`](Output::Apply) that reaches `index`.
    TakeSnapshot {
        /// The last applied entry.
        index: LogIndex,
    },
    /// A proposal has ended. Comes before the [`Apply`](Output::Apply) that holds its entry.
    Proposal {
        /// Which.
        proposal: ProposalId,
        /// How.
        fate: ProposalFate,
    },
    /// A read has ended.
    Read {
        /// Which.
        read: ReadId,
        /// Serve it once this index is applied; `None` where leadership could not be confirmed.
        index: Option<LogIndex>,
    },
    /// Role, term or leader have changed.
    Leadership(Leadership),
}

/// Changes to stable storage, all or nothing, in this order: hard state, truncation, snapshot,
/// entries, compaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persist {
    /// Its place in the sequence.
    pub seq: PersistSeq,
    /// The term and vote to store.
    pub hard_state: Option<HardState>,
    /// Forget the entries from this one on.
    pub truncate_from: Option<LogIndex>,
    /// Store this snapshot in place of any older one.
    pub snapshot: Option<Box<Snapshot>>,
    /// Append these. The first one follows the last entry (or snapshot) that is stored.
    pub entries: Entries,
    /// Entries up to this one, inclusive, may be forgotten: a stored snapshot covers them.
    pub compact_to: Option<LogIndex>,
}

/// How a proposal ends; each ends in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalFate {
    /// It is in the log for good and will be applied at this index.
    Committed(LogIndex),
    /// It may or may not be committed by another leader: leadership was lost meanwhile.
    Unknown,
    /// It is in no log and never will be: a new voter did not catch up in time, or leadership was
    /// lost before it did. Only happens to changes of the configuration.
    Rejected,
}

/// What a node does in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoleKind {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
    /// Follows without a vote.
    Learner,
}

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// What this node does.
    pub role: RoleKind,
    /// The term it is in.
    pub term: Term,
    /// The leader of that term.
    pub leader: Option<NodeId>,
    /// Whether this node leads because its predecessor asked it to. If not, every member that
    /// counted towards a majority of the predecessor has not heard of it for an election timeout,
    /// so whatever the predecessor promised for less than that, confirmed by a read, is over.
    pub by_transfer: bool,
}

#[cfg(test)]
mod tests {
    use super::Output;

    /// Outputs are moved several times each: up to this size by a few registers, beyond it by calls
    /// that cost more than all else that is done for a small message.
    #[test]
    fn an_output_is_small_enough_to_be_moved_cheaply() {
        assert!(size_of::<Option<Output>>() <= 128, "{}", size_of::<Option<Output>>());
    }
}
