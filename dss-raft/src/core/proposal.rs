//! Commands for the log.

use bytes::Bytes;

use super::Raft;
use super::role::Role;
use crate::entry::{Entry, Payload};
use crate::types::{LogId, LogIndex, NodeId, ProposalId, Timestamp};

/// Why a command was not proposed. It is surely in no log and never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// Only the leader takes proposals.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, where this node knows.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being handed over to {to}")]
    Transferring {
        /// Who will lead.
        to: NodeId,
    },
    /// Too much is proposed and not committed.
    #[error("too much is waiting to be committed")]
    Overloaded,
    /// The node's storage has failed.
    #[error("the storage has failed")]
    StorageFailed,
}

/// Proposals that were made one after the other, and whose entries stand one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Proposals {
    /// Where the first one stands.
    index: LogIndex,
    /// The first one.
    proposal: ProposalId,
    count: u64,
}

impl Proposals {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn is_followed_by(&self, index: LogIndex, proposal: ProposalId) -> bool {
        index.get() == self.index.get() + self.count
            && proposal.get() == self.proposal.get() + self.count
    }

    /// Takes the first one off.
    pub(super) fn pop_first(&mut self) -> Option<(LogIndex, ProposalId)> {
        self.count = self.count.checked_sub(1)?;
        let first = (self.index, self.proposal);
        self.index = self.index.next();
        self.proposal = ProposalId::new(self.proposal.get() + 1);
        Some(first)
    }

    /// Takes off those whose entries stand at `index` or before.
    pub(super) fn split_to(&mut self, index: LogIndex) -> Self {
        let count = index.next().since(self.index).min(self.count);
        let taken = Self { count, ..*self };
        self.index = LogIndex::new(self.index.get() + count);
        self.proposal = ProposalId::new(self.proposal.get() + count);
        self.count -= count;
        taken
    }
}

impl Raft {
    /// Adds `command` to the log, where this node leads. It ends in exactly one
    /// [`Output::Proposal`](crate::Output::Proposal).
    ///
    /// What is proposed between two polls is written and sent together.
    ///
    /// # Errors
    ///
    /// Where the command was not added, and never will be.
    pub fn propose(&mut self, now: Timestamp, command: Bytes) -> Result<ProposalId, Rejected> {
        self.advance_clock(now);
        if self.storage_failed {
            return Err(Rejected::StorageFailed);
        }
        let Role::Leader(leader) = &mut self.role else {
            return Err(Rejected::NotLeader { leader: self.leader() });
        };
        if let Some(transfer) = &leader.transfer {
            return Err(Rejected::Transferring { to: transfer.to });
        }
        let id = LogId::new(self.hard_state.term, self.log.last().index.next());
        let entry = Entry { id, payload: Payload::Command(command) };
        // A single command may exceed the limit, or it could never be proposed.
        let weight = leader.uncommitted_weight + entry.weight();
        if leader.uncommitted_weight > 0 && weight > self.config.uncommitted_bytes_max {
            return Err(Rejected::Overloaded);
        }
        self.proposals_made += 1;
        let proposal = ProposalId::new(self.proposals_made);
        leader.uncommitted_weight = weight;
        leader.has_news = true;
        match leader.proposals.back_mut() {
            Some(last) if last.is_followed_by(id.index, proposal) => last.count += 1,
            _ => leader.proposals.push_back(Proposals { index: id.index, proposal, count: 1 }),
        }
        self.log.stage(entry);
        Ok(proposal)
    }
}
