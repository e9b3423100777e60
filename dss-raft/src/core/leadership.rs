//! How leadership begins and ends.

use std::collections::VecDeque;
use std::time::Duration;

use super::Raft;
use super::progress::{Peer, Seat};
use super::role::{Follower, Leader, Role};
use crate::entry::{Entry, Payload};
use crate::message::Round;
use crate::output::{Output, ProposalFate};
use crate::types::{LogId, LogIndex, NodeId, Term, Timestamp};

impl Raft {
    /// Begins a role, which the next outputs report.
    pub(super) fn enter(&mut self, role: Role) {
        self.role = role;
        self.leadership_changed = true;
    }

    /// Enters `term`, or stays in it, as a follower.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        let deadline = match &self.role {
            Role::Follower(follower) => Some(follower.deadline),
            // A campaign that a higher term ended is tried again as soon as one that failed: its
            // reason still stands until there is a leader.
            Role::PreCandidate(canvass) => Some(canvass.deadline),
            Role::Candidate(campaign) => Some(campaign.deadline),
            Role::Leader(_) => None,
        };
        self.step_down();
        if term > self.hard_state.term {
            self.set_hard_state(term, None);
        }
        let patience = self.draw_patience();
        self.enter(Role::Follower(Follower {
            leader,
            verified: LogIndex::ZERO,
            patience,
            deadline: deadline.unwrap_or(self.now + patience),
        }));
        if leader.is_some() {
            self.reads.leader_found(self.now);
        }
    }

    /// Ends leadership, where this node leads: what it still owed is settled.
    fn step_down(&mut self) {
        if !matches!(self.role, Role::Leader(_)) {
            return;
        }
        // Staged entries are in the log; later writes rely on storage having them too.
        self.write_pending();
        let follower = Role::Follower(Follower {
            leader: None,
            verified: LogIndex::ZERO,
            patience: Duration::ZERO,
            deadline: self.now,
        });
        if let Role::Leader(leader) = std::mem::replace(&mut self.role, follower) {
            // It counted itself among those that confirmed its reads, so it owes its own
            // leadership the same silence that its followers do.
            self.contact = self.now;
            for mut proposals in leader.proposals {
                self.outputs.push_committed(proposals.split_to(self.commit_index));
                while let Some((_, proposal)) = proposals.pop_first() {
                    self.outputs.push(Output::Proposal { proposal, fate: ProposalFate::Unknown });
                }
            }
            if let Some(change) = leader.change {
                let fate = self.fate_of(&change);
                self.outputs.push(Output::Proposal { proposal: change.proposal(), fate });
            }
            self.return_reads(leader.confirmations);
        }
    }

    /// Begins to lead the present term, elected by a majority.
    pub(super) fn become_leader(&mut self, by_transfer: bool) {
        let term = self.hard_state.term;
        let last = self.log.last().index;
        let now = self.now;
        let known_logs = std::mem::take(&mut self.known_logs);
        let mut peers: Vec<Peer> = (self.membership.current().others(self.config.node))
            .map(|peer| Peer::new(peer, last.next(), now))
            .collect();
        for peer in &mut peers {
            peer.log = known_logs.get(&peer.node).copied().unwrap_or_default();
        }
        peers.sort_unstable_by_key(|peer| peer.node);
        let inherited = self.log.weight_after(self.handed_index);
        self.enter(Role::Leader(Box::new(Leader {
            peers,
            by_transfer,
            term_start: last.next(),
            round: Round::default(),
            has_news: true,
            heartbeat_at: now + self.config.heartbeat_interval,
            notice_at: None,
            proposals: VecDeque::new(),
            uncommitted_weight: inherited,
            confirmations: VecDeque::new(),
            transfer: None,
            seat: Seat::default(),
            change: None,
            has_unlisted_logs: false,
            rounds: VecDeque::new(),
            lease_revoked: false,
        })));
        // The first entry of a term says nothing but who leads, or lists the logs that were met.
        let payload = match self.with_known_logs() {
            Some(configuration) => Payload::Configuration(Box::new(configuration)),
            None => Payload::Blank,
        };
        self.append_own(term, payload);
        self.reseat();
        self.adopt_reads();
    }

    /// Adds an entry to this leader's log; the next outputs write and send it.
    pub(super) fn append_own(&mut self, term: Term, payload: Payload) -> LogIndex {
        let index = self.log.last().index.next();
        let entry = Entry { id: LogId::new(term, index), payload };
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_weight += entry.weight();
            leader.has_news = true;
        }
        self.membership.append(std::slice::from_ref(&entry));
        self.log.stage(entry);
        index
    }

    /// Whether `from`, who speaks as the leader of the present term, is followed. There is one
    /// leader in a term, so a second one is not believed.
    pub(super) fn follows(&mut self, from: NodeId) -> bool {
        match &self.role {
            Role::Leader(_) => return false,
            Role::Follower(Follower { leader: Some(leader), .. }) if *leader != from => {
                return false;
            }
            Role::Follower(Follower { leader: Some(_), .. }) => {}
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.become_follower(self.hard_state.term, Some(from));
            }
        }
        self.contact = self.now;
        if let Role::Follower(follower) = &mut self.role {
            follower.deadline = self.now + follower.patience;
        }
        true
    }

    /// Whether a leader was heard of within the shortest election timeout, or may have been before
    /// a restart, or is this node itself. Then no other candidate is supported (dissertation
    /// 4.2.3), which also is what a leader's lease rests on.
    pub(super) fn hears_a_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
            || self.now.since(self.contact) < self.config.election_timeout
    }

    /// How long to wait for a leader before campaigning, drawn anew for each stay in a role.
    pub(super) fn draw_patience(&mut self) -> Duration {
        let quarter = self.config.election_timeout / 4;
        let (shortest, longest) = self.config.priority.patience_quarters();
        self.random.span(quarter * shortest, quarter * longest)
    }

    /// When to try again after a campaign that may fail.
    ///
    /// Shorter than the wait for a leader, which nobody waits for any more; spread as widely as
    /// its length, so that rivals do not split the votes again and again.
    pub(super) fn draw_retry(&mut self) -> Timestamp {
        let timeout = self.config.election_timeout;
        self.now + self.random.span(timeout / 3, timeout * 2 / 3)
    }
}
