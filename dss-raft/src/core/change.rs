//! Changes of the configuration (section 6, dissertation 4).
//!
//! ```text
//!   change ──▶ CatchingUp ──▶ joint entry ──committed──▶ target entry ──committed──▶ done
//!                  │    └─── one voter more or less ────────▲
//!                  └──▶ rejected: a new voter is too slow, or leadership is lost
//! ```
//!
//! New voters receive the log before anything is written, so that the group never waits for them.
//! A joint configuration is left by whoever leads once it is committed, whoever began it.

use super::Raft;
use super::planted::PlantedBug;
use super::progress::{Peer, Seat};
use super::role::{Leader, Role};
use crate::entry::{Configuration, Payload};
use crate::output::{Output, ProposalFate};
use crate::types::{LogIdentity, LogIndex, NodeId, ProposalId, Timestamp};

/// A change that this leader was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Change {
    proposal: ProposalId,
    target: Configuration,
    /// How far the new voters are; `None` once the change is in the log.
    catching_up: Option<CatchUp>,
}

impl Change {
    pub(super) fn proposal(&self) -> ProposalId {
        self.proposal
    }
}

/// Rounds of replication to new voters (dissertation 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CatchUp {
    /// The end of the log when the round began: it is over once all of them have that.
    until: LogIndex,
    began: Timestamp,
    rounds: u32,
}

/// Rounds shrink as long as entries arrive faster than they are proposed; the dissertation suggests
/// 10 of them.
const ROUNDS_MAX: u32 = 10;

/// In election timeouts: how long a new voter may be silent. Far longer than a restart takes.
const SILENCE_MAX: u32 = 10;

/// Why a configuration is not changed. Nothing is written, and nothing will be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only the leader can.
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
    /// An earlier change is not complete.
    #[error("an earlier change is not complete")]
    InProgress,
    /// The members are not those that were expected.
    #[error("the members are not those that were expected")]
    Unexpected {
        /// Who they are.
        current: Box<Configuration>,
    },
    /// A voter that is to stay has lost its log: remove it, then add it anew.
    #[error("{node} has lost its log and must be removed first")]
    Stranger {
        /// Which.
        node: NodeId,
    },
    /// Nobody can have such members.
    #[error("a configuration has voters, no outgoing ones, and no member twice")]
    Invalid,
    /// The node's storage has failed.
    #[error("the storage has failed")]
    StorageFailed,
}

impl Raft {
    /// Makes `target` the members, if `expected` are the members now.
    ///
    /// The proposal that is returned ends as committed once the target is, and nothing but it, in
    /// force; as rejected where a new voter did not receive the log in time; as unknown where
    /// leadership was lost meanwhile: the next leader then completes what was begun, or nobody
    /// does. A leader that is not among the voters any more hands over, then steps down.
    ///
    /// # Errors
    ///
    /// Where nothing was begun.
    pub fn change(
        &mut self,
        now: Timestamp,
        expected: &Configuration,
        target: Configuration,
    ) -> Result<ProposalId, ChangeError> {
        self.advance_clock(now);
        if self.storage_failed {
            return Err(ChangeError::StorageFailed);
        }
        let Role::Leader(leader) = &self.role else {
            return Err(ChangeError::NotLeader { leader: self.leader() });
        };
        if let Some(transfer) = &leader.transfer {
            return Err(ChangeError::Transferring { to: transfer.to });
        }
        let current = self.membership.current();
        // Before the first commit of its term a leader may have a configuration in its log that a
        // majority does not know of, and that another leader's would not overlap.
        let settled = self.commit_index >= self.membership.since().max(leader.term_start);
        if !settled || current.is_joint() || leader.change.is_some() {
            return Err(ChangeError::InProgress);
        }
        if !current.has_same_members(expected) {
            return Err(ChangeError::Unexpected { current: Box::new(current.clone()) });
        }
        if !is_valid(&target) {
            return Err(ChangeError::Invalid);
        }
        let stays = |node| current.is_voter(node) && target.voters.contains(&node);
        if let Some(node) = self.strangers().into_iter().find(|node| stays(*node)) {
            return Err(ChangeError::Stranger { node });
        }
        self.proposals_made += 1;
        let proposal = ProposalId::new(self.proposals_made);
        let until = self.log.last().index;
        let catching_up = Some(CatchUp { until, began: self.now, rounds: 1 });
        let (now, next) = (self.now, self.log.last().index.next());
        if let Role::Leader(leader) = &mut self.role {
            for newcomer in target.others(self.config.node) {
                leader.admit(newcomer, next, now);
            }
            leader.change = Some(Change { proposal, target, catching_up });
            leader.broadcast();
        }
        Ok(proposal)
    }

    /// Takes the steps of a change that are due. One may make the next one due at once: a change
    /// that is complete may leave a leader that is no member.
    pub(super) fn pursue_change(&mut self) {
        while self.takes_step() {}
    }

    /// Takes the next step of a change, where one is due. Says whether it did.
    fn takes_step(&mut self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        if self.commit_index < self.membership.since().max(leader.term_start) {
            return false;
        }
        let current = self.membership.current();
        if current.is_joint() {
            let left = current.left();
            self.append_configuration(left);
        } else if let Some(change) = &leader.change {
            match change.catching_up {
                Some(round) => return self.catch_up(round),
                None => self.complete_change(),
            }
        } else if leader.has_unlisted_logs {
            self.list_logs();
        } else if !leader.seat.is_voter() {
            return self.retire();
        } else {
            return false;
        }
        true
    }

    /// Judges whether the new voters are close enough behind to be counted on. Says whether
    /// anything follows from it.
    fn catch_up(&mut self, round: CatchUp) -> bool {
        let (now, last) = (self.now, self.log.last().index);
        let skips_joint = self.has(PlantedBug::ChangeWithoutJoint);
        let silence_max = self.config.election_timeout * SILENCE_MAX;
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(change) = &leader.change else { return false };
        let current = self.membership.current();
        let newcomers = || {
            let is_new = |peer: &&Peer| {
                change.target.voters.contains(&peer.node) && !current.voters.contains(&peer.node)
            };
            leader.peers.iter().filter(is_new)
        };
        if newcomers().any(|peer| now.since(peer.heard) >= silence_max) {
            self.abandon_change();
            return true;
        }
        if newcomers().any(|peer| peer.matched < round.until || !peer.has_answered()) {
            return false;
        }
        let is_close = now.since(round.began) < self.config.election_timeout;
        if !is_close && round.rounds >= ROUNDS_MAX {
            self.abandon_change();
            return true;
        }
        if !is_close {
            let next = CatchUp { until: last, began: now, rounds: round.rounds + 1 };
            if let Some(change) = &mut leader.change {
                change.catching_up = Some(next);
            }
            return true;
        }
        let target = change.target.clone();
        let next = if current.overlaps(&target) || skips_joint {
            target
        } else {
            current.joint_with(&target)
        };
        if let Some(change) = &mut leader.change {
            change.catching_up = None;
        }
        self.append_configuration(next);
        true
    }

    /// Ends a change that was never written; who was to join is forgotten.
    fn abandon_change(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(change) = leader.change.take() {
            let fate = ProposalFate::Rejected;
            self.outputs.push(Output::Proposal { proposal: change.proposal, fate });
        }
        let current = self.membership.current();
        leader.peers.retain(|peer| current.is_member(peer.node));
    }

    fn complete_change(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(change) = leader.change.take() {
            let fate = ProposalFate::Committed(self.membership.since());
            self.outputs.push(Output::Proposal { proposal: change.proposal, fate });
        }
        // Members that went are told of the commit too, so that they know that they did.
        leader.broadcast();
    }

    /// What becomes of a change when its leader steps down.
    pub(super) fn fate_of(&self, change: &Change) -> ProposalFate {
        if change.catching_up.is_some() {
            return ProposalFate::Rejected;
        }
        let current = self.membership.current();
        if !current.is_joint() && self.membership.since() <= self.commit_index {
            return ProposalFate::Committed(self.membership.since());
        }
        ProposalFate::Unknown
    }

    /// Has the configuration list the logs that members have shown and it does not list.
    fn list_logs(&mut self) {
        if let Some(configuration) = self.with_known_logs() {
            self.append_configuration(configuration);
        } else if let Role::Leader(leader) = &mut self.role {
            leader.has_unlisted_logs = false;
        }
    }

    /// The configuration in force with the logs that are known and not listed, if there are any.
    pub(super) fn with_known_logs(&self) -> Option<Configuration> {
        let current = self.membership.current();
        let mut listed = current.clone();
        self.list_known(&mut listed);
        (listed.logs.len() > current.logs.len()).then_some(listed)
    }

    fn list_known(&self, configuration: &mut Configuration) {
        let own = (self.config.node, self.own_log());
        let Role::Leader(leader) = &self.role else { return };
        let others = leader.peers.iter().map(|peer| (peer.node, peer.log));
        for (node, log) in others.chain([own]) {
            if log != LogIdentity::UNKNOWN && configuration.is_member(node) {
                configuration.logs.entry(node).or_insert(log);
            }
        }
    }

    /// Adds a configuration to this leader's log, from where on it is in force.
    fn append_configuration(&mut self, mut configuration: Configuration) {
        let current = self.membership.current();
        configuration.logs.clear();
        for (node, log) in &current.logs {
            if configuration.is_member(*node) {
                configuration.logs.insert(*node, *log);
            }
        }
        self.list_known(&mut configuration);
        let term = self.hard_state.term;
        self.append_own(term, Payload::Configuration(Box::new(configuration)));
        self.reseat();
    }

    /// Arranges what this leader knows of others by the configuration in force.
    pub(super) fn reseat(&mut self) {
        let (now, next) = (self.now, self.log.last().index.next());
        let patience = self.config.election_timeout * 2;
        let configuration = self.membership.current();
        let Role::Leader(leader) = &mut self.role else { return };
        for member in configuration.others(self.config.node) {
            leader.admit(member, next, now);
        }
        leader.has_unlisted_logs = false;
        for peer in &mut leader.peers {
            peer.sit(configuration);
            if configuration.is_member(peer.node) {
                peer.departs_at = None;
                leader.has_unlisted_logs |= peer.log != LogIdentity::UNKNOWN
                    && !configuration.logs.contains_key(&peer.node);
            } else {
                peer.departs_at.get_or_insert(now + patience);
            }
        }
        leader.seat = Seat::in_configuration(configuration, self.config.node);
    }

    /// Forgets members that left a while ago: they have been told, or cannot be.
    pub(super) fn dismiss_departed(&mut self) {
        let now = self.now;
        if let Role::Leader(leader) = &mut self.role
            && leader.change.is_none()
        {
            leader.peers.retain(|peer| peer.departs_at.is_none_or(|at| at > now));
        }
    }

    /// Takes note of whose log a message shows.
    pub(super) fn meet(&mut self, from: NodeId, log: LogIdentity) {
        let configuration = self.membership.current();
        if log == LogIdentity::UNKNOWN {
            return;
        }
        if let Role::Leader(leader) = &mut self.role {
            let last = self.log.last().index;
            if let Some(peer) = leader.peer(from).filter(|peer| peer.log != log) {
                if peer.log != LogIdentity::UNKNOWN {
                    // What it had acknowledged is gone.
                    peer.forget(last.next());
                }
                peer.log = log;
                peer.sit(configuration);
                leader.has_unlisted_logs |=
                    configuration.is_member(from) && !configuration.logs.contains_key(&from);
            }
        } else if self.known_logs.get(&from) != Some(&log) && configuration.is_member(from) {
            self.known_logs.insert(from, log);
        }
    }
}

fn is_valid(target: &Configuration) -> bool {
    !target.voters.is_empty() && !target.is_joint() && target.voters.is_disjoint(&target.learners)
}

impl Leader {
    /// Begins to send the log to `node`, where it is not sent already.
    fn admit(&mut self, node: NodeId, next: LogIndex, now: Timestamp) {
        if let Err(position) = self.peers.binary_search_by_key(&node, |peer| peer.node) {
            self.peers.insert(position, Peer::new(node, next, now));
        }
    }
}
