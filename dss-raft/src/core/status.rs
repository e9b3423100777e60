//! What a node says of itself.

use super::Raft;
use super::progress::Peer;
use super::role::Role;
use crate::entry::Configuration;
use crate::output::{Leadership, Output, RoleKind};
use crate::types::{LogIdentity, LogIndex, NodeId, Term};

/// A node's view of its group, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// What it does.
    pub role: RoleKind,
    /// The term it is in.
    pub term: Term,
    /// The leader of that term, where it knows one.
    pub leader: Option<NodeId>,
    /// The last entry that it knows to be committed.
    pub commit_index: LogIndex,
    /// The last entry that its state machine has applied.
    pub applied_index: LogIndex,
    /// The last entry of its log.
    pub last_index: LogIndex,
    /// The members.
    pub configuration: Configuration,
    /// On a leader: the members that came back without their log, and so without what they had
    /// promised. They have no vote until they are removed from the configuration and added again.
    pub strangers: Vec<NodeId>,
}

impl Raft {
    /// The node's view of its group.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_with(self.membership.current().clone())
    }

    /// Makes an older view this one. Copies the members only where they have changed.
    #[cfg(feature = "tokio")]
    pub(crate) fn update_status(&self, status: &mut Status) {
        let mut configuration = std::mem::take(&mut status.configuration);
        if configuration != *self.membership.current() {
            configuration.clone_from(self.membership.current());
        }
        *status = self.status_with(configuration);
    }

    fn status_with(&self, configuration: Configuration) -> Status {
        Status {
            node: self.config.node,
            role: self.role_kind(),
            term: self.hard_state.term,
            leader: self.leader(),
            commit_index: self.commit_index,
            applied_index: self.applied_index,
            last_index: self.log.last().index,
            configuration,
            strangers: self.strangers(),
        }
    }

    pub(crate) fn role_kind(&self) -> RoleKind {
        match &self.role {
            Role::Follower(_) if !self.is_voter() => RoleKind::Learner,
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The leader of the present term, where it is known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.node),
        }
    }

    pub(super) fn is_voter(&self) -> bool {
        self.membership.is_voter()
    }

    /// Whether this node may be needed as a leader: as a voter, or as one that was a voter in a
    /// configuration behind which others may not be committed. That entry may be nowhere but here, and
    /// those who lack it cannot win against it (dissertation 4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        self.is_voter()
            || (self.membership.was_voter_since(self.commit_index, self.config.node)
                && self.has_its_log())
    }

    /// The log that this node may name: once it is durable, since it must not come back with another.
    pub(super) fn own_log(&self) -> LogIdentity {
        if self.writes.has_durable_hard_state() {
            self.hard_state.log
        } else {
            LogIdentity::UNKNOWN
        }
    }

    pub(super) fn strangers(&self) -> Vec<NodeId> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let configuration = self.membership.current();
        let is_stranger = |peer: &&Peer| !configuration.recognises(peer.node, peer.log);
        leader.peers.iter().filter(is_stranger).map(|peer| peer.node).collect()
    }

    pub(super) fn leadership(&self) -> Leadership {
        Leadership {
            role: self.role_kind(),
            term: self.hard_state.term,
            leader: self.leader(),
            by_transfer: matches!(&self.role, Role::Leader(leader) if leader.by_transfer),
        }
    }

    /// Says what has changed since it was last said.
    pub(super) fn report_leadership(&mut self) {
        self.leadership_changed = false;
        let leadership = self.leadership();
        if leadership != self.reported {
            self.reported = leadership;
            self.outputs.push(Output::Leadership(leadership));
        }
    }
}
