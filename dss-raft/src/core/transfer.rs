//! Leadership handed over on purpose (dissertation 3.10).

use std::time::Duration;

use super::Raft;
use super::role::{Leader, Role};
use crate::message::MessageBody;
use crate::types::{NodeId, Timestamp};

/// A transfer under way. It ends with this leader's term, or at its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    pub(super) deadline: Timestamp,
}

/// Why leadership is not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Only the leader can.
    #[error("this node does not lead")]
    NotLeader {
        /// Who does, where this node knows.
        leader: Option<NodeId>,
    },
    /// Only voters can lead.
    #[error("{node} is not a voter of this group")]
    NotAVoter {
        /// Who was named.
        node: NodeId,
    },
    /// No other voter answers.
    #[error("no other voter answers")]
    NoCandidate,
    /// Leadership is being handed over already.
    #[error("leadership is already being handed over to {to}")]
    Transferring {
        /// Who will lead.
        to: NodeId,
    },
    /// It was begun and did not happen in time. The core gives up silently; this is what
    /// `Group::transfer_leadership` makes of that.
    #[error("leadership was not taken over in time")]
    TimedOut,
}

impl Raft {
    /// Hands leadership over to `to`, or to the most up-to-date of the voters that answer, and
    /// returns to whom.
    ///
    /// Proposals are rejected meanwhile. The receiver campaigns as soon as its log is complete; if
    /// it does not lead after an election timeout, this node leads on. To hand over to the leader
    /// itself is no change.
    ///
    /// # Errors
    ///
    /// Where there is nothing to hand over, or nobody to hand it to.
    pub fn transfer_leadership(
        &mut self,
        now: Timestamp,
        to: Option<NodeId>,
    ) -> Result<NodeId, TransferError> {
        self.advance_clock(now);
        let now = self.now;
        let patience = self.config.election_timeout;
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferError::NotLeader { leader: self.leader() });
        };
        if let Some(transfer) = &leader.transfer {
            return Err(TransferError::Transferring { to: transfer.to });
        }
        if to == Some(self.config.node) {
            return Ok(self.config.node);
        }
        let to = match to {
            Some(node) if self.membership.current().voters.contains(&node) => node,
            Some(node) => return Err(TransferError::NotAVoter { node }),
            None => leader.most_up_to_date(now, patience).ok_or(TransferError::NoCandidate)?,
        };
        leader.transfer = Some(Transfer { to, deadline: now + patience });
        self.pursue_transfer();
        Ok(to)
    }

    /// Tells the receiver to campaign, once it has everything; or gives the transfer up.
    pub(super) fn pursue_transfer(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = leader.transfer else { return };
        if transfer.deadline <= self.now {
            leader.transfer = None;
            if !self.membership.current().is_voter(self.config.node) || self.disk_stalls() {
                // It was to be handed over because this node must not lead on: somebody else's
                // election timeout will do what the transfer did not.
                self.become_follower(self.hard_state.term, None);
            }
            return;
        }
        let last = self.log.last().index;
        if leader.peer(transfer.to).is_some_and(|peer| peer.matched == last) {
            leader.lease_revoked = true;
            self.send(transfer.to, MessageBody::TimeoutNow, None);
        }
    }

    /// Hands over, then steps down: this node leads a group that it does not belong to any more
    /// (dissertation 4.2.2), or with a disk that it waits for in vain. Says whether that has begun
    /// only now.
    pub(super) fn retire(&mut self) -> bool {
        let (now, patience) = (self.now, self.config.election_timeout);
        let Role::Leader(leader) = &mut self.role else { return false };
        if leader.transfer.is_some() {
            return false;
        }
        match leader.most_up_to_date(now, patience) {
            Some(to) => {
                leader.transfer = Some(Transfer { to, deadline: now + patience });
                self.pursue_transfer();
            }
            None => self.become_follower(self.hard_state.term, None),
        }
        true
    }

    /// The leader asks this node to campaign.
    pub(super) fn handle_timeout_now(&mut self, from: NodeId) {
        if self.leader() == Some(from) && self.is_voter() {
            self.campaign(true);
        }
    }
}

impl Leader {
    /// The voter that answers and has the longest log.
    fn most_up_to_date(&self, now: Timestamp, patience: Duration) -> Option<NodeId> {
        (self.peers.iter())
            .filter(|peer| peer.seat.incoming && now.since(peer.heard) < patience)
            .max_by_key(|peer| (peer.matched, peer.heard))
            .map(|peer| peer.node)
    }
}
