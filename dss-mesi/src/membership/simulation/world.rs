//! What happens to the machines, and what the members among them do.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine::Machine;
use super::raft::Raft;
use super::random::{Clock, Random};
use super::{Bug, Statistics, Violation};
use crate::membership::{LeaseConfig, Refused, Renewal, ViewCommand};
use crate::view::{Member, Timestamp};

pub(super) const NODES: usize = 3;
/// How long a run is, in microseconds of real time.
const END: u64 = 20_000_000;
const ELECTION_TIMEOUT: u64 = 1_000_000;
const DRIFT_PERMILLE: u64 = 100;

/// A renewal on its way, and what must come back with the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) from: usize,
    pub(super) member: Member,
    pub(super) sent_at: Timestamp,
}

pub(super) enum Event {
    /// The machine looks at its timers.
    Tick(usize),
    /// A command reaches whoever leads, not always the leader for whom it was meant.
    Propose(ViewCommand),
    /// The voters answer the leader.
    Commit,
    /// Something befalls the cluster.
    Trouble,
    /// The voters are tired of waiting for the leader of this term.
    Elect {
        term: u64,
    },
    /// A Raft node learns that it does not lead in this term any more.
    Deposed {
        node: usize,
        term: u64,
    },
    /// A driver learns that its node leads.
    Leads {
        node: usize,
        term: u64,
        by_transfer: bool,
    },
    /// A driver learns that its node does not lead.
    LeadsNoLonger {
        node: usize,
    },
    RenewalArrives {
        to: usize,
        asked: Asked,
    },
    /// The voters hear of the read for a renewal; in `term` where the reader leads, else in any.
    ReadHeard {
        at: usize,
        term: Option<u64>,
        asked: Asked,
        renewal: Renewal,
    },
    /// The read returns, once everything up to `index` is applied.
    ReadReturns {
        at: usize,
        index: usize,
        asked: Asked,
        renewal: Renewal,
    },
    Answer {
        asked: Asked,
        answer: Result<Duration, Refused>,
    },
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) bug: Option<Bug>,
    pub(super) real: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    pub(super) raft: Raft,
    pub(super) machines: Vec<Machine>,
    pub(super) statistics: Statistics,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::new(seed);
        // What a bug breaks must not be saved by luck: no margin, and no patience for half of them.
        let patience = if random.chance(50) { 0 } else { 200 + random.below(800) };
        let config = LeaseConfig::for_election_timeout(Duration::from_micros(ELECTION_TIMEOUT))
            .and_then(|config| config.with_drift_permille(DRIFT_PERMILLE.try_into().unwrap()))
            .and_then(|config| config.with_margin(Duration::ZERO))
            .unwrap()
            .with_patience(Duration::from_millis(patience));
        let drift = if bug == Some(Bug::ClocksDriftMore) { 300 } else { DRIFT_PERMILLE };
        let machines = (0..NODES as u64)
            .map(|node| Machine::new(node, Clock::new(drift, &mut random), config))
            .collect();
        let mut world = Self {
            random,
            bug,
            real: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            raft: Raft::new(bug == Some(Bug::RemovalsOutOfOffice)),
            machines,
            statistics: Statistics::default(),
        };
        world.change_leader(0, false);
        world.after(0, Event::Commit);
        world.after(500_000, Event::Trouble);
        for node in 0..NODES {
            world.after(0, Event::Tick(node));
        }
        world
    }

    pub(super) fn run(mut self) -> Result<Statistics, Violation> {
        while let Some(((real, _), event)) = self.events.pop_first() {
            if real > END {
                break;
            }
            self.real = real;
            self.perform(event)?;
            self.check()?;
        }
        Ok(self.statistics)
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.real + delay, self.scheduled), event);
    }

    /// What the machine's clock shows.
    pub(super) fn now(&self, node: usize) -> Timestamp {
        self.machines[node].clock.at(self.real)
    }

    pub(super) fn is_partitioned(&self, node: usize) -> bool {
        self.machines[node].partitioned_until > self.real
    }

    fn check(&mut self) -> Result<(), Violation> {
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.holder.may_act(self.now(node)) {
                self.statistics.acting += 1;
                if !self.raft.view().contains(machine.member) {
                    return Err(Violation::ActsOutsideView { real: self.real, node });
                }
            }
        }
        Ok(())
    }

    fn perform(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(node) => self.tick(node)?,
            Event::Propose(command) => self.raft.append(command),
            Event::Commit => {
                self.raft.commit();
                let delay = self.random.below(60_000);
                self.after(delay, Event::Commit);
            }
            Event::Trouble => self.trouble(),
            Event::Elect { term } => self.elect(term),
            Event::Deposed { node, term } => self.deposed(node, term),
            Event::Leads { node, term, by_transfer } => self.leads(node, term, by_transfer),
            Event::LeadsNoLonger { node } => self.leads_no_longer(node),
            Event::RenewalArrives { to, asked } => self.renewal_arrives(to, asked),
            Event::ReadHeard { at, term, asked, renewal } => {
                self.read_heard(at, term, asked, renewal);
            }
            Event::ReadReturns { at, index, asked, renewal } => {
                self.read_returns(at, index, asked, renewal);
            }
            Event::Answer { asked, answer } => self.answer(asked, answer),
        }
        Ok(())
    }

    fn tick(&mut self, node: usize) -> Result<(), Violation> {
        let delay = 1 + self.random.below(30_000);
        self.after(delay, Event::Tick(node));
        if !self.is_partitioned(node) && self.random.chance(50) {
            self.catch_up(node, self.raft.log().len());
        }
        self.lead(node)?;
        let now = self.now(node);
        let machine = &self.machines[node];
        if machine.joined && !machine.is_member() {
            self.rejoin(node);
        } else if !machine.joined {
            let member = machine.member;
            if !self.is_partitioned(node) && self.random.chance(30) {
                self.propose(ViewCommand::Join { member });
            }
        } else if machine.holder.poll_timeout().is_some_and(|due| due <= now) {
            self.renew(node);
        }
        Ok(())
    }

    pub(super) fn catch_up(&mut self, node: usize, index: usize) {
        let now = self.now(node);
        self.machines[node].catch_up(self.raft.log(), index, now);
    }

    fn renew(&mut self, node: usize) {
        let sent_at = self.now(node);
        self.machines[node].holder.handle_sent(sent_at);
        let asked = Asked { from: node, member: self.machines[node].member, sent_at };
        // Members do not always know who leads, and what they send may come twice.
        let copies = 1 + u64::from(self.random.chance(10));
        for _ in 0..copies {
            let knows = self.random.chance(70);
            let to = if knows { self.raft.leader } else { self.random.node(NODES) };
            let delay = self.random.delay();
            if !self.is_partitioned(node) {
                self.after(delay, Event::RenewalArrives { to, asked });
            }
        }
    }

    fn answer(&mut self, asked: Asked, answer: Result<Duration, Refused>) {
        let Asked { from, member, sent_at } = asked;
        if self.machines[from].member != member {
            return; // meant for an earlier life, with a clock that is gone
        }
        let now = self.now(from);
        let holder = &mut self.machines[from].holder;
        match answer {
            Ok(lease) if self.bug == Some(Bug::LeaseCountedFromArrival) => {
                holder.handle_sent(now);
                holder.handle_granted(now, lease);
            }
            Ok(lease) => {
                holder.handle_granted(sent_at, lease);
            }
            Err(Refused::NotLeader) => {}
            Err(_) => self.rejoin(from),
        }
    }

    pub(super) fn propose(&mut self, command: ViewCommand) {
        let delay = self.random.delay();
        self.after(delay, Event::Propose(command));
    }

    fn rejoin(&mut self, node: usize) {
        self.statistics.rejoins += 1;
        self.machines[node].rejoin(self.real);
    }

    fn restart(&mut self, node: usize) {
        self.statistics.restarts += 1;
        self.machines[node].restart(self.real, &mut self.random);
        if self.raft.leader == node {
            self.cut_leader();
        }
    }

    fn trouble(&mut self) {
        let delay = self.random.below(4_000_000);
        self.after(delay, Event::Trouble);
        let node = self.random.node(NODES);
        match self.random.below(6) {
            0 | 1 => self.cut_leader(),
            2 => {
                let to = (self.raft.leader + 1 + self.random.node(NODES - 1)) % NODES;
                self.statistics.transfers += 1;
                self.change_leader(to, true);
            }
            3 => self.machines[node].partitioned_until = self.real + self.random.below(4_000_000),
            4 => self.restart(node),
            _ => {
                let member = self.machines[node].member;
                self.machines[node].holder.surrender();
                self.propose(ViewCommand::Leave { member });
            }
        }
    }

    /// The voters hear nothing more, and elect another leader as soon as the fastest clock allows.
    fn cut_leader(&mut self) {
        if !self.raft.cut {
            self.raft.cut = true;
            let earliest = self.raft.electable_at(ELECTION_TIMEOUT, DRIFT_PERMILLE);
            let delay = earliest.saturating_sub(self.real) + self.random.below(20_000);
            self.after(delay, Event::Elect { term: self.raft.term });
        }
    }

    fn elect(&mut self, term: u64) {
        // A transfer may have come first.
        if self.raft.term == term {
            let leader = self.random.node(NODES);
            self.statistics.elections += 1;
            self.change_leader(leader, false);
        }
    }
}
