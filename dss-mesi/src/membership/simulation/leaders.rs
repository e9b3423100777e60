//! What leaders do, and those that believe to be.

use std::time::Duration;

use super::world::{Asked, Event, World};
use super::{Bug, Violation};
use crate::membership::{Refused, Renewal, ViewCommand};
use crate::view::Member;

impl World {
    /// The voters have another leader. It knows at once, its driver soon; the old one later.
    pub(super) fn change_leader(&mut self, leader: usize, by_transfer: bool) {
        let (before, term) = (self.raft.leader, self.raft.term);
        self.raft.change(leader, &mut self.random);
        let delay = self.random.delay();
        self.after(delay, Event::Deposed { node: before, term });
        let term = self.raft.term;
        self.machines[leader].leads = Some(term);
        let by_transfer = by_transfer && self.bug != Some(Bug::TransferTakenForElection);
        let delay = self.random.delay();
        self.after(delay, Event::Leads { node: leader, term, by_transfer });
    }

    pub(super) fn deposed(&mut self, node: usize, term: u64) {
        if self.machines[node].leads == Some(term) {
            self.machines[node].leads = None;
        }
        let delay = self.random.delay();
        self.after(delay, Event::LeadsNoLonger { node });
    }

    pub(super) fn leads(&mut self, node: usize, term: u64, by_transfer: bool) {
        let now = self.now(node);
        let machine = &mut self.machines[node];
        // What a restarted process had led is not news to it.
        if machine.leads.is_some() {
            machine.granter.handle_leadership(now, term, &machine.table, by_transfer);
        }
    }

    pub(super) fn leads_no_longer(&mut self, node: usize) {
        if self.machines[node].leads.is_none() {
            self.machines[node].granter.handle_leadership_lost();
        }
    }

    /// Proposes what the granter asks for. Whoever leads when a proposal gets there appends it:
    /// drivers forward, and their queues outlive a leadership.
    pub(super) fn lead(&mut self, node: usize) -> Result<(), Violation> {
        let now = self.now(node);
        let mut commands = self.machines[node].granter.handle_timeout(now);
        let term = self.raft.term;
        if self.bug == Some(Bug::RemovedAtWill) && self.random.chance(1) {
            let member = self.machines[node].member;
            commands.push(ViewCommand::Remove { member, term });
        }
        for mut command in commands {
            if let ViewCommand::Remove { member, term: of } = &mut command {
                self.check_declared(*member, *of)?;
            }
            self.statistics.removals += u64::from(matches!(command, ViewCommand::Remove { .. }));
            self.propose(command);
        }
        Ok(())
    }

    /// Who is in office and says that a lease is over must be right.
    fn check_declared(&self, member: Member, term: u64) -> Result<(), Violation> {
        let node = usize::try_from(member.node.get()).unwrap();
        let machine = &self.machines[node];
        let in_office = term == self.raft.office() && term == self.raft.term;
        if in_office && machine.member == member && machine.holder.may_act(self.now(node)) {
            return Err(Violation::DeclaredTooEarly { real: self.real, node });
        }
        Ok(())
    }

    pub(super) fn renewal_arrives(&mut self, to: usize, asked: Asked) {
        if self.is_partitioned(to) && self.random.chance(80) {
            return; // some get through: a partition need not cut all alike
        }
        let now = self.now(to);
        match self.machines[to].granter.handle_renewal(now, asked.member) {
            Err(refused) => self.reply(asked, Err(refused)),
            Ok(renewal) if self.bug == Some(Bug::GrantWithoutConfirmation) => {
                self.read_returns(to, 0, asked, renewal);
            }
            Ok(renewal) => {
                let term = self.machines[to].leads;
                let delay = self.random.delay();
                self.after(delay, Event::ReadHeard { at: to, term, asked, renewal });
            }
        }
    }

    /// A read on a node that believes to lead is confirmed in that term or not at all; another
    /// node's is forwarded to whoever leads.
    pub(super) fn read_heard(
        &mut self,
        at: usize,
        term: Option<u64>,
        asked: Asked,
        renewal: Renewal,
    ) {
        if term.is_none_or(|term| self.raft.leads(at, term))
            && let Some(index) = self.raft.confirm(self.real)
        {
            let delay = self.random.delay();
            self.after(delay, Event::ReadReturns { at, index, asked, renewal });
        }
    }

    pub(super) fn read_returns(&mut self, at: usize, index: usize, asked: Asked, renewal: Renewal) {
        self.catch_up(at, index);
        let now = self.now(at);
        let machine = &mut self.machines[at];
        let term = match self.bug {
            Some(Bug::AnyLeaderConfirms | Bug::GrantWithoutConfirmation) => Some(renewal.term()),
            _ => machine.leads,
        };
        let answer = match term {
            Some(term) => machine.granter.grant(now, renewal, term, &machine.table),
            None => Err(Refused::NotLeader),
        };
        self.statistics.grants += u64::from(answer.is_ok());
        self.reply(asked, answer);
    }

    fn reply(&mut self, asked: Asked, answer: Result<Duration, Refused>) {
        if self.random.chance(95) {
            let delay = self.random.delay();
            self.after(delay, Event::Answer { asked, answer });
        }
    }
}
