//! The roles, each with the data that only it has.

use std::collections::VecDeque;
use std::time::Duration;

use super::change::Change;
use super::progress::{Peer, Seat};
use super::proposal::Proposals;
use super::quorum::reached_by_quorum;
use super::reads::Confirmation;
use super::transfer::Transfer;
use crate::entry::Configuration;
use crate::message::Round;
use crate::types::{LogIndex, NodeId, PersistSeq, Timestamp};

/// What a node does (figure 4, with the pre-vote of dissertation 9.6).
///
/// ```text
///               times out              a majority would          a majority
///   Follower ───────────▶ PreCandidate ──────────▶ Candidate ──────────▶ Leader
///      ▲  │                     │ ▲                    │ │                   │
///      │  └─── TimeoutNow ──────┼─┼────────────────────▶ │                   │
///      │                        │ └── times out ─────────┘                   │
///      └──── a leader of this term, a higher term, or no majority heard ─────┘
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Follower(Follower),
    PreCandidate(PreCandidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// Follows, with or without knowing whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    pub(super) leader: Option<NodeId>,
    /// Up to here the log is known to match that leader's. Commits are believed no further.
    pub(super) verified: LogIndex,
    /// How long to wait for the leader, drawn for this stay in the role.
    pub(super) patience: Duration,
    /// When to campaign.
    pub(super) deadline: Timestamp,
}

/// Asks whether it would be elected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PreCandidate {
    /// The voters that would elect it, itself not among them.
    pub(super) granted: Vec<NodeId>,
    /// When to ask again.
    pub(super) deadline: Timestamp,
}

/// Campaigns in the present term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    /// The voters that elected it, itself not among them.
    pub(super) granted: Vec<NodeId>,
    /// The write of its own vote, which counts once that is durable.
    pub(super) own_vote: PersistSeq,
    /// Whether the leader asked for this campaign.
    pub(super) by_transfer: bool,
    /// When to try again.
    pub(super) deadline: Timestamp,
}

/// Leads in the present term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// The other members, those to be, and those that were until a while ago, ordered by node.
    pub(super) peers: Vec<Peer>,
    /// Where it counts itself.
    pub(super) seat: Seat,
    /// The change of the configuration that it was asked for.
    pub(super) change: Option<Change>,
    /// Whether members may have shown logs that the configuration does not list.
    pub(super) has_unlisted_logs: bool,
    /// Whether it leads because its predecessor asked it to.
    pub(super) by_transfer: bool,
    /// Its first entry. Once that is committed, so is all before it, and the leader knows.
    pub(super) term_start: LogIndex,
    /// The round that was begun last.
    pub(super) round: Round,
    /// Whether something may be waiting to be sent.
    pub(super) has_news: bool,
    /// When to send the next heartbeats.
    pub(super) heartbeat_at: Timestamp,
    /// When to tell followers of the commit index if no append has done so before.
    pub(super) notice_at: Option<Timestamp>,
    /// The proposals that are not committed, ordered by index, in the longest runs.
    pub(super) proposals: VecDeque<Proposals>,
    /// What the uncommitted entries weigh.
    pub(super) uncommitted_weight: usize,
    /// The reads that wait for a round to be answered, ordered by round.
    pub(super) confirmations: VecDeque<Confirmation>,
    pub(super) transfer: Option<Transfer>,
    /// When the rounds since the last confirmed one were begun; empty without lease reads.
    pub(super) rounds: VecDeque<(Round, Timestamp)>,
    /// Whether somebody was asked to campaign: members may elect it in spite of having heard of
    /// this leader, so for the rest of the term a lease means nothing.
    pub(super) lease_revoked: bool,
}

impl Leader {
    pub(super) fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        let position = self.peers.binary_search_by_key(&node, |peer| peer.node).ok()?;
        Some(&mut self.peers[position])
    }

    /// The greatest value that a quorum has reached, this leader at `own`.
    pub(super) fn reached_by_quorum<T: Ord + Copy>(
        &self,
        configuration: &Configuration,
        own: T,
        value: impl Fn(&Peer) -> T + Copy,
    ) -> Option<T> {
        let incoming = self.peers.iter().filter(|peer| peer.seat.incoming).map(value);
        let outgoing = self.peers.iter().filter(|peer| peer.seat.outgoing).map(value);
        reached_by_quorum(
            configuration,
            &incoming.chain(self.seat.incoming.then_some(own)),
            &outgoing.chain(self.seat.outgoing.then_some(own)),
        )
    }

    /// Sends something to everyone with the next outputs.
    pub(super) fn broadcast(&mut self) {
        self.has_news = true;
        for peer in &mut self.peers {
            peer.heartbeat_due = true;
        }
    }
}
