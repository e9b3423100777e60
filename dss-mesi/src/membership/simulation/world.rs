//! The machines and what happens to them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::raft::Raft;
use super::random::{Clock, Random};
use crate::membership::{
    LeaseConfig, LeaseGranter, LeaseHolder, Refused, Renewal, ViewCommand, ViewTable,
};
use crate::view::{Incarnation, Member, NodeId, Timestamp};

const NODES: usize = 3;
/// How long a run is, in microseconds of real time.
const END: u64 = 30_000_000;
const ELECTION_TIMEOUT: u64 = 1_000_000;
const DRIFT_PERMILLE: u32 = 100;

/// What is deliberately wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    TransferTakenForElection,
    GrantWithoutConfirmation,
    StaleView,
    LeaseCountedFromArrival,
    ClocksDriftMore,
    RemovedAtWill,
}

/// What must never happen.
#[derive(Debug)]
#[expect(dead_code, reason = "printed where a run fails")]
pub(super) enum Violation {
    /// The leader has declared the lease over, and the member believes in it.
    DeclaredTooEarly { real: u64, member: Member },
    /// The member acts, and is not in the view.
    ActsOutsideView { real: u64, member: Member },
}

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    /// How often, after an event, a member could act.
    pub(super) acting: u64,
    pub(super) grants: u64,
    pub(super) removals: u64,
    pub(super) elections: u64,
    pub(super) transfers: u64,
    pub(super) restarts: u64,
}

impl Statistics {
    pub(super) fn add(&mut self, other: &Self) {
        self.acting += other.acting;
        self.grants += other.grants;
        self.removals += other.removals;
        self.elections += other.elections;
        self.transfers += other.transfers;
        self.restarts += other.restarts;
    }
}

/// One machine: a member of the view and a possible leader of the group.
struct Machine {
    clock: Clock,
    member: Member,
    /// Whether this life was in a view that this machine has seen.
    joined: bool,
    holder: LeaseHolder,
    granter: LeaseGranter,
    table: ViewTable,
    applied: usize,
    /// Nothing reaches it or leaves it before this real time.
    partitioned_until: u64,
}

enum Event {
    /// The machine looks at its timers.
    Tick(usize),
    /// The voters answer the leader.
    Commit,
    /// Something befalls the cluster.
    Trouble,
    Elect,
    /// A machine learns that it leads.
    Leads {
        node: usize,
        term: u64,
        by_transfer: bool,
    },
    RenewalArrives {
        to: usize,
        from: usize,
        member: Member,
        sent_at: Timestamp,
    },
    /// The voters hear of the read for a renewal.
    ReadHeard {
        at: usize,
        from: usize,
        term: u64,
        index: usize,
        renewal: Renewal,
        sent_at: Timestamp,
    },
    /// The read returns the view as of `index`, or a later one.
    ReadReturns {
        at: usize,
        from: usize,
        index: usize,
        renewal: Renewal,
        sent_at: Timestamp,
    },
    Answer {
        to: usize,
        member: Member,
        sent_at: Timestamp,
        answer: Result<Duration, Refused>,
    },
}

pub(super) struct World {
    random: Random,
    bug: Option<Bug>,
    config: LeaseConfig,
    real: u64,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    raft: Raft,
    machines: Vec<Machine>,
    statistics: Statistics,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::new(seed);
        let config = LeaseConfig::for_election_timeout(Duration::from_micros(ELECTION_TIMEOUT))
            .and_then(|config| config.with_drift_permille(DRIFT_PERMILLE))
            .and_then(|config| config.with_margin(Duration::ZERO))
            .unwrap()
            .with_patience(Duration::from_millis(random.below(500)));
        // Nothing that the bugs break may be saved by patience.
        let config = if bug.is_some() { config.with_patience(Duration::ZERO) } else { config };
        let drift = if bug == Some(Bug::ClocksDriftMore) { 300 } else { DRIFT_PERMILLE.into() };
        let machines = (0..NODES as u64).map(|node| {
            let clock = Clock::new(drift, &mut random);
            let holder = LeaseHolder::new(config.clone(), clock.at(0));
            Machine {
                clock,
                member: Member { node: NodeId::new(node), incarnation: Incarnation::new(1) },
                joined: false,
                holder,
                granter: LeaseGranter::new(config.clone()),
                table: ViewTable::new(),
                applied: 0,
                partitioned_until: 0,
            }
        });
        let machines = machines.collect();
        let mut world = Self {
            random,
            bug,
            config,
            real: 0,
            events: BTreeMap::new(),
            scheduled: 0,
            raft: Raft::new(),
            machines,
            statistics: Statistics::default(),
        };
        world.after(0, Event::Leads { node: 0, term: 1, by_transfer: false });
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

    fn after(&mut self, delay: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.real + delay, self.scheduled), event);
    }

    /// What the machine's clock shows.
    fn now(&self, node: usize) -> Timestamp {
        self.machines[node].clock.at(self.real)
    }

    fn is_partitioned(&self, node: usize) -> bool {
        self.machines[node].partitioned_until > self.real
    }

    fn check(&mut self) -> Result<(), Violation> {
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.holder.may_act(self.now(node)) {
                self.statistics.acting += 1;
                if !self.raft.view().contains(machine.member) {
                    let member = machine.member;
                    return Err(Violation::ActsOutsideView { real: self.real, member });
                }
            }
        }
        Ok(())
    }

    fn perform(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(node) => self.tick(node)?,
            Event::Commit => {
                self.raft.commit();
                let delay = self.random.below(60_000);
                self.after(delay, Event::Commit);
            }
            Event::Trouble => self.trouble(),
            Event::Elect => self.elect(),
            Event::Leads { node, term, by_transfer } => self.leads(node, term, by_transfer),
            Event::RenewalArrives { to, from, member, sent_at } => {
                self.renewal_arrives(to, from, member, sent_at);
            }
            Event::ReadHeard { at, from, term, index, renewal, sent_at } => {
                if self.raft.confirms(at, term) {
                    self.raft.confirmed_at = self.real;
                    let delay = self.random.delay();
                    self.after(delay, Event::ReadReturns { at, from, index, renewal, sent_at });
                }
            }
            Event::ReadReturns { at, from, index, renewal, sent_at } => {
                self.read_returns(at, from, index, renewal, sent_at);
            }
            Event::Answer { to, member, sent_at, answer } => {
                self.answer(to, member, sent_at, answer);
            }
        }
        Ok(())
    }

    fn tick(&mut self, node: usize) -> Result<(), Violation> {
        let delay = 1 + self.random.below(30_000);
        self.after(delay, Event::Tick(node));
        // A deposed leader is told at some time, and goes on until then.
        if self.raft.leader != node && self.random.chance(2) {
            self.machines[node].granter.handle_leadership_lost();
        }
        if !self.is_partitioned(node) && self.random.chance(50) {
            self.catch_up(node, self.raft.log().len());
        }
        self.remove_expired(node)?;
        let machine = &self.machines[node];
        let member = machine.member;
        if machine.joined && !machine.table.view().contains(member) {
            self.restart(node);
        } else if !machine.joined {
            if !self.is_partitioned(node) && self.random.chance(30) {
                let (leader, term) = (self.raft.leader, self.raft.term);
                self.raft.propose(leader, term, ViewCommand::Join { member });
            }
        } else if machine.holder.poll_timeout().is_some_and(|due| due <= self.now(node)) {
            self.renew(node);
        }
        Ok(())
    }

    /// Applies the log up to `index` on this machine, if it has not gone further.
    fn catch_up(&mut self, node: usize, index: usize) {
        let now = self.now(node);
        let machine = &mut self.machines[node];
        while machine.applied < index {
            machine.table.apply(self.raft.log()[machine.applied]);
            machine.applied += 1;
        }
        machine.joined |= machine.table.view().contains(machine.member);
        machine.granter.handle_view(now, machine.table.view());
    }

    fn remove_expired(&mut self, node: usize) -> Result<(), Violation> {
        let now = self.now(node);
        let mut expired = self.machines[node].granter.expired(now);
        let term = self.raft.term;
        let leads = self.raft.leads(node, term);
        if self.bug == Some(Bug::RemovedAtWill) && leads && self.random.chance(1) {
            expired.extend(self.machines[node].table.view().members.first());
        }
        for member in expired {
            if leads {
                let (real, holder_node) = (self.real, usize::try_from(member.node.get()).unwrap());
                let machine = &self.machines[holder_node];
                if machine.member == member && machine.holder.may_act(self.now(holder_node)) {
                    return Err(Violation::DeclaredTooEarly { real, member });
                }
                self.statistics.removals += 1;
                self.raft.propose(node, term, ViewCommand::Remove { member });
            }
        }
        Ok(())
    }

    fn renew(&mut self, node: usize) {
        let sent_at = self.now(node);
        self.machines[node].holder.handle_sent(sent_at);
        let member = self.machines[node].member;
        // Members do not always know who leads, and what they send may come twice.
        let copies = 1 + u64::from(self.random.chance(10));
        for _ in 0..copies {
            let knows = self.random.chance(70);
            let to = if knows { self.raft.leader } else { self.random.node(NODES) };
            let delay = self.random.delay();
            if !self.is_partitioned(node) {
                self.after(delay, Event::RenewalArrives { to, from: node, member, sent_at });
            }
        }
    }

    fn renewal_arrives(&mut self, to: usize, from: usize, member: Member, sent_at: Timestamp) {
        let now = self.now(to);
        if self.is_partitioned(to) && self.random.chance(80) {
            return; // some get through: a partition need not cut all alike
        }
        match self.machines[to].granter.handle_renewal(now, member) {
            Err(refused) => self.reply(from, member, sent_at, Err(refused)),
            Ok(renewal) => {
                let machine = &self.machines[to];
                let (index, term) = (self.raft.log().len(), self.raft.term);
                if self.bug == Some(Bug::GrantWithoutConfirmation) {
                    let index = machine.applied;
                    self.read_returns(to, from, index, renewal, sent_at);
                } else if self.bug == Some(Bug::StaleView) {
                    // Leadership is confirmed, and the view is that of some time before.
                    let index = machine.applied;
                    if self.raft.leads(to, term) && !self.raft.cut {
                        self.raft.confirmed_at = self.real;
                        self.read_returns(to, from, index, renewal, sent_at);
                    }
                } else if self.raft.confirms(to, term) {
                    let delay = self.random.delay();
                    let read = Event::ReadHeard { at: to, from, term, index, renewal, sent_at };
                    self.after(delay, read);
                }
            }
        }
    }

    fn read_returns(
        &mut self,
        at: usize,
        from: usize,
        index: usize,
        renewal: Renewal,
        sent_at: Timestamp,
    ) {
        if self.bug != Some(Bug::StaleView) {
            self.catch_up(at, index);
        }
        let now = self.now(at);
        let machine = &mut self.machines[at];
        let member = self.machines[from].member;
        let view = self.machines[at].table.view().clone();
        let answer = self.machines[at].granter.grant(now, renewal, &view);
        self.statistics.grants += u64::from(answer.is_ok());
        self.reply(from, member, sent_at, answer);
    }

    fn reply(
        &mut self,
        to: usize,
        member: Member,
        sent_at: Timestamp,
        answer: Result<Duration, Refused>,
    ) {
        if self.random.chance(95) {
            let delay = self.random.delay();
            self.after(delay, Event::Answer { to, member, sent_at, answer });
        }
    }

    fn answer(
        &mut self,
        to: usize,
        member: Member,
        sent_at: Timestamp,
        answer: Result<Duration, Refused>,
    ) {
        if self.machines[to].member != member {
            return; // meant for an earlier life, with a clock that is gone
        }
        let now = self.now(to);
        match answer {
            Ok(lease) if self.bug == Some(Bug::LeaseCountedFromArrival) => {
                self.machines[to].holder.handle_sent(now);
                self.machines[to].holder.handle_granted(now, lease);
            }
            Ok(lease) => {
                self.machines[to].holder.handle_granted(sent_at, lease);
            }
            Err(Refused::NotLeader) => {}
            Err(_) => self.restart(to),
        }
    }

    /// The process begins a new life: it knows nothing, and its clock starts anywhere.
    fn restart(&mut self, node: usize) {
        self.statistics.restarts += 1;
        let machine = &mut self.machines[node];
        machine.clock.restart(&mut self.random);
        machine.member.incarnation = Incarnation::new(machine.member.incarnation.get() + 1);
        machine.joined = false;
        machine.holder = LeaseHolder::new(self.config.clone(), machine.clock.at(self.real));
        machine.granter = LeaseGranter::new(self.config.clone());
        machine.table = ViewTable::new();
        machine.applied = 0;
        if self.raft.leader == node {
            self.cut_leader();
        }
    }

    fn trouble(&mut self) {
        let delay = self.random.below(2_000_000);
        self.after(delay, Event::Trouble);
        let node = self.random.node(NODES);
        match self.random.below(5) {
            0 => self.cut_leader(),
            1 => {
                let to = (self.raft.leader + 1 + self.random.node(NODES - 1)) % NODES;
                self.statistics.transfers += 1;
                self.change_leader(to, true);
            }
            2 => self.machines[node].partitioned_until = self.real + self.random.below(4_000_000),
            3 => self.restart(node),
            _ => {
                let member = self.machines[node].member;
                self.machines[node].holder.surrender();
                let (leader, term) = (self.raft.leader, self.raft.term);
                self.raft.propose(leader, term, ViewCommand::Remove { member });
            }
        }
    }

    /// The voters hear nothing more, and elect another leader as soon as the fastest clock allows.
    fn cut_leader(&mut self) {
        if !self.raft.cut {
            self.raft.cut = true;
            let patience = ELECTION_TIMEOUT * 1_000 / u64::from(1_000 + DRIFT_PERMILLE) + 1;
            let earliest = self.raft.confirmed_at + patience;
            let delay = earliest.saturating_sub(self.real) + self.random.below(20_000);
            self.after(delay, Event::Elect);
        }
    }

    fn elect(&mut self) {
        // A transfer may have come first.
        if self.raft.cut {
            let leader = self.random.node(NODES);
            self.statistics.elections += 1;
            self.change_leader(leader, false);
        }
    }

    fn change_leader(&mut self, leader: usize, by_transfer: bool) {
        self.raft.change(leader, &mut self.random);
        let by_transfer = by_transfer && self.bug != Some(Bug::TransferTakenForElection);
        let delay = self.random.below(20_000);
        self.after(delay, Event::Leads { node: leader, term: self.raft.term, by_transfer });
    }

    fn leads(&mut self, node: usize, term: u64, by_transfer: bool) {
        let now = self.now(node);
        let machine = &mut self.machines[node];
        machine.granter.handle_leadership(now, term, machine.table.view(), by_transfer);
    }
}
