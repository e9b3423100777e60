//! Nodes, their network and their main memory, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::history::{Call, Entry, History};
use super::membership::Membership;
use super::plan::Plan;
use super::random::Random;
use crate::cache::{Answer, Cache, Condition, OperationId, Output};
use crate::error::CacheError;
use crate::home::{Home, HomeOutput, MemoryCall};
use crate::line::LineState;
use crate::memory::MemoryTable;
use crate::message::Message;
use crate::placement::RendezvousPlacement;
use crate::ports::{StoreOutcome, Stored};
use crate::version::Version;
use crate::view::{Epoch, Incarnation, Member, NodeId, Timestamp, View};

/// How long a call of main memory may take before its outcome is unknown.
const MEMORY_TIMEOUT: u64 = 60_000;

/// How many operations one key sees at most: what the checker's bit set holds, less the losses.
const OPERATIONS_MAX: usize = 90;

pub(super) struct World {
    pub(super) random: Random,
    pub(super) plan: Plan,
    pub(super) now: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) membership: Membership,
    pub(super) memory: MemoryTable,
    pub(super) history: History,
    /// Pairs of nodes between which nothing goes, in this direction.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) healed: bool,
    events: BTreeMap<(u64, u64), Event>,
    last_event: u64,
    last_value: u32,
    /// What clients of each key know: versions to make conditions of.
    known: Vec<Vec<Version>>,
    pub(super) tally: Tally,
}

/// What happened in all runs of a test, to see that it was not nothing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) views: u64,
    pub(super) recalls: u64,
    pub(super) evictions: u64,
    pub(super) write_backs: u64,
    pub(super) grants_refused: u64,
    pub(super) repeats: u64,
    pub(super) lost: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.views += other.views;
        self.recalls += other.recalls;
        self.evictions += other.evictions;
        self.write_backs += other.write_backs;
        self.grants_refused += other.grants_refused;
        self.repeats += other.repeats;
        self.lost += other.lost;
    }
}

pub(super) struct Node {
    /// How far its clock is ahead.
    offset: u64,
    pub(super) life: u64,
    pub(super) running: Option<Running>,
    pub(super) paused_until: u64,
}

pub(super) struct Running {
    pub(super) member: Member,
    pub(super) cache: Cache,
    home: Home,
    /// The end of its lease, as it knows it.
    pub(super) lease: u64,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    Deliver { to: usize, from: NodeId, message: Message },
    Effect { slot: usize, life: u64, output: HomeOutput, answer_after: Option<u64> },
    Loaded { slot: usize, life: u64, call: MemoryCall, loaded: Option<Option<Stored>> },
    Stored { slot: usize, life: u64, call: MemoryCall, outcome: Option<StoreOutcome> },
    Fenced { slot: usize, life: u64, call: MemoryCall, stands: bool },
    View { slot: usize, view: View },
    Lease { slot: usize, life: u64, until: u64 },
    Operate { slot: usize },
    Restart { slot: usize },
    Resume { slot: usize },
    Fault,
    Heal,
    Membership,
}

impl Event {
    /// The node that it happens to, if it happens to one that can be paused.
    fn slot(&self) -> Option<usize> {
        match self {
            Self::Deliver { to: slot, .. }
            | Self::Loaded { slot, .. }
            | Self::Stored { slot, .. }
            | Self::Fenced { slot, .. }
            | Self::View { slot, .. }
            | Self::Lease { slot, .. }
            | Self::Operate { slot } => Some(*slot),
            Self::Effect { .. }
            | Self::Restart { .. }
            | Self::Resume { .. }
            | Self::Fault
            | Self::Heal
            | Self::Membership => None,
        }
    }
}

impl World {
    pub(super) fn new(mut random: Random, plan: Plan) -> Self {
        let nodes = (0..plan.nodes)
            .map(|_| Node {
                offset: random.between(0, 1_000_000),
                life: 0,
                running: None,
                paused_until: 0,
            })
            .collect();
        let mut world = Self {
            now: 1_000,
            nodes,
            membership: Membership::new(),
            memory: MemoryTable::new(),
            history: History::default(),
            cut: BTreeSet::new(),
            healed: false,
            events: BTreeMap::new(),
            last_event: 0,
            last_value: 0,
            known: vec![Vec::new(); plan.keys],
            tally: Tally::default(),
            random,
            plan,
        };
        for slot in 0..world.plan.nodes {
            world.after(0, Event::Restart { slot });
            let first = world.random.between(1, 50_000);
            world.after(first, Event::Operate { slot });
        }
        world.after(1, Event::Membership);
        world.after(world.plan.fault_every, Event::Fault);
        world.after(world.plan.trouble, Event::Heal);
        world
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.last_event += 1;
        self.events.insert((self.now + delay, self.last_event), event);
    }

    /// Lets time pass until `end`; after every step all is checked.
    pub(super) fn run_until(&mut self, end: u64) -> Result<(), String> {
        loop {
            let event = self.events.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let (timer, slot) = (0..self.nodes.len())
                .filter_map(|slot| Some((self.deadline(slot)?, slot)))
                .min()
                .unwrap_or((u64::MAX, 0));
            if event.min(timer) >= end {
                self.now = end;
                return Ok(());
            }
            self.now = self.now.max(event.min(timer));
            if event <= timer {
                let (_, event) = self.events.pop_first().unwrap();
                self.happen(event)?;
            } else {
                self.input(slot, |running, now| {
                    running.cache.handle_timeout(now);
                    running.home.handle_timeout(now);
                })?;
            }
            self.check_lines()?;
        }
    }

    fn deadline(&self, slot: usize) -> Option<u64> {
        let node = &self.nodes[slot];
        let running = node.running.as_ref()?;
        let (cache, home) = (running.cache.poll_timeout(), running.home.poll_timeout());
        let at = cache.into_iter().chain(home).min()?.since(Timestamp::ZERO);
        let at = u64::try_from(at.as_micros()).unwrap();
        Some(at.saturating_sub(node.offset).max(node.paused_until))
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        if let Some(slot) = event.slot() {
            let paused_until = self.nodes[slot].paused_until;
            if paused_until > self.now {
                self.after(paused_until - self.now, event);
                return Ok(());
            }
        }
        match event {
            Event::Deliver { to, from, message } => self.input(to, |running, now| {
                running.handle_message(now, from, message);
            }),
            Event::Effect { slot, life, output, answer_after } => {
                self.affect_memory(slot, life, output, answer_after);
                Ok(())
            }
            Event::Loaded { slot, life, call, loaded } => self.input_of(slot, life, |it, now| {
                it.home.handle_loaded(now, call, loaded);
            }),
            Event::Stored { slot, life, call, outcome } => self.input_of(slot, life, |it, now| {
                it.home.handle_stored(now, call, outcome);
            }),
            Event::Fenced { slot, life, call, stands } => self.input_of(slot, life, |it, now| {
                it.home.handle_fenced(now, call, stands);
            }),
            Event::View { slot, view } => self.input(slot, |running, now| {
                running.home.handle_view(now, view.clone());
                running.cache.handle_view(now, view);
            }),
            Event::Lease { slot, life, until } => {
                let at = self.timestamp(slot, until);
                self.input_of(slot, life, |running, now| {
                    running.lease = running.lease.max(until);
                    running.home.handle_lease(at);
                    running.cache.handle_lease(now, at);
                })
            }
            Event::Operate { slot } => {
                if !self.healed {
                    let pause = self.random.between(1, 2 * self.plan.pause_between_operations);
                    self.after(pause, Event::Operate { slot });
                }
                self.operate(slot)
            }
            Event::Restart { slot } => {
                self.restart(slot);
                Ok(())
            }
            Event::Resume { slot } => self.drain(slot),
            Event::Fault => self.fault(),
            Event::Heal => {
                self.healed = true;
                self.cut.clear();
                Ok(())
            }
            Event::Membership => {
                self.supervise();
                Ok(())
            }
        }
    }

    pub(super) fn timestamp(&self, slot: usize, at: u64) -> Timestamp {
        Timestamp::since_origin(Duration::from_micros(at + self.nodes[slot].offset))
    }

    /// Gives the node an input, if it is still this life.
    fn input_of(
        &mut self,
        slot: usize,
        life: u64,
        input: impl FnOnce(&mut Running, Timestamp),
    ) -> Result<(), String> {
        if self.nodes[slot].life == life { self.input(slot, input) } else { Ok(()) }
    }

    /// Gives the node an input, and does what it asks for: perhaps after a pause.
    fn input(
        &mut self,
        slot: usize,
        input: impl FnOnce(&mut Running, Timestamp),
    ) -> Result<(), String> {
        let now = self.timestamp(slot, self.now);
        let Some(running) = self.nodes[slot].running.as_mut() else { return Ok(()) };
        input(running, now);
        if !self.healed && self.random.chance(self.plan.pause_mid_step) {
            self.pause(slot);
            return Ok(());
        }
        self.drain(slot)
    }

    pub(super) fn pause(&mut self, slot: usize) {
        let pause = self.random.between(1_000, 700_000);
        self.nodes[slot].paused_until = self.now + pause;
        self.after(pause, Event::Resume { slot });
    }

    fn drain(&mut self, slot: usize) -> Result<(), String> {
        let now = self.timestamp(slot, self.now);
        if self.nodes[slot].paused_until > self.now {
            return Ok(());
        }
        loop {
            let life = self.nodes[slot].life;
            let Some(running) = self.nodes[slot].running.as_mut() else { return Ok(()) };
            let node = running.member.node;
            let (to, message) = match running.cache.poll_output(now) {
                Some(Output::Send { to, message }) => (to, message),
                Some(Output::Answer { operation, answer }) => {
                    self.answered(operation, answer)?;
                    continue;
                }
                None => match running.home.poll_output(now) {
                    Some(HomeOutput::Send { to, message }) => (to, message),
                    Some(output) => {
                        self.call_memory(slot, life, output);
                        continue;
                    }
                    None => return Ok(()),
                },
            };
            let message = Message::decode(&message.encode()).map_err(|error| error.to_string())?;
            if to == node {
                running.handle_message(now, node, message);
            } else {
                self.transmit(slot, to, &message);
            }
        }
    }

    fn transmit(&mut self, from: usize, to: NodeId, message: &Message) {
        let slot = usize::try_from(to.get()).unwrap();
        let lost = !self.healed && self.random.chance(self.plan.loss);
        if lost || self.cut.contains(&(from, slot)) {
            return;
        }
        let twice = !self.healed && self.random.chance(self.plan.duplication);
        for _ in 0..=usize::from(twice) {
            let mut delay = self.random.between(1, 2 * self.plan.delay);
            if self.random.chance(50) {
                delay += self.random.between(0, 30 * self.plan.delay);
            }
            let from = NodeId::new(from as u64);
            self.after(delay, Event::Deliver { to: slot, from, message: message.clone() });
        }
    }

    /// A call of main memory takes effect some time later, and is answered after that; or its
    /// answer is lost, and it takes effect later still, or never.
    fn call_memory(&mut self, slot: usize, life: u64, output: HomeOutput) {
        let effect = self.random.between(1, 2 * self.plan.memory_delay);
        let answer = self.random.between(1, 2 * self.plan.memory_delay);
        if self.healed || !self.random.chance(self.plan.memory_failure) {
            self.after(effect, Event::Effect { slot, life, output, answer_after: Some(answer) });
            return;
        }
        let unknown = match &output {
            HomeOutput::Load { call, .. } => {
                Event::Loaded { slot, life, call: *call, loaded: None }
            }
            HomeOutput::Store { call, .. } => {
                Event::Stored { slot, life, call: *call, outcome: None }
            }
            HomeOutput::Fence { call, .. } => {
                Event::Fenced { slot, life, call: *call, stands: false }
            }
            HomeOutput::Send { .. } => return,
        };
        self.after(MEMORY_TIMEOUT, unknown);
        if self.random.chance(700) {
            let late = self.random.between(1, 5 * MEMORY_TIMEOUT);
            self.after(late, Event::Effect { slot, life, output, answer_after: None });
        }
    }

    fn affect_memory(
        &mut self,
        slot: usize,
        life: u64,
        output: HomeOutput,
        answer_after: Option<u64>,
    ) {
        let event = match output {
            HomeOutput::Load { call, key } => {
                let loaded = Some(self.memory.load(&key).cloned());
                Event::Loaded { slot, life, call, loaded }
            }
            HomeOutput::Store { call, writer, key, version, value } => {
                let outcome = Some(self.memory.store(writer, key, version, value));
                Event::Stored { slot, life, call, outcome }
            }
            HomeOutput::Fence { call, epoch } => {
                Event::Fenced { slot, life, call, stands: self.memory.fence(epoch) == epoch }
            }
            HomeOutput::Send { .. } => return,
        };
        if let Some(delay) = answer_after {
            self.after(delay, event);
        }
    }

    pub(super) fn crash(&mut self, slot: usize) {
        let Some(running) = self.nodes[slot].running.take() else { return };
        let statistics = running.cache.statistics();
        self.tally.recalls += statistics.recalls;
        self.tally.evictions += statistics.evictions;
        self.tally.write_backs += statistics.write_backs;
        self.tally.grants_refused += statistics.grants_refused;
        self.tally.repeats += statistics.repeats;
        self.tally.lost += statistics.lost;
        self.nodes[slot].paused_until = 0;
        for entry in &mut self.history.entries {
            if entry.member == running.member && entry.ended.is_none() {
                let answer = match entry.call {
                    Call::Read => Answer::Failed(CacheError::Unavailable),
                    _ => Answer::Failed(CacheError::Indeterminate),
                };
                entry.ended = Some((self.now, answer));
            }
        }
    }

    fn restart(&mut self, slot: usize) {
        self.crash(slot);
        self.nodes[slot].life += 1;
        let member = Member {
            node: NodeId::new(slot as u64),
            incarnation: Incarnation::new(self.nodes[slot].life),
        };
        let placement = Arc::new(RendezvousPlacement);
        let config = self.plan.config.clone();
        let cache = Cache::new(config.clone(), member, placement.clone());
        let home = Home::new(config, member, placement);
        self.nodes[slot].running = Some(Running { member, cache, home, lease: 0 });
    }

    fn operate(&mut self, slot: usize) -> Result<(), String> {
        let key = self.random.below(self.plan.keys);
        let asked = self.history.entries.iter().filter(|entry| entry.key == key).count();
        if asked >= OPERATIONS_MAX {
            return Ok(());
        }
        let known = &self.known[key];
        let condition = match self.random.between(0, 6) {
            0 => Condition::Absent,
            1 | 2 if !known.is_empty() => {
                // Mostly a recent one, so that some hold.
                let back = self.random.below(known.len().min(3)) + 1;
                Condition::Matches(known[known.len() - back])
            }
            _ => Condition::None,
        };
        let call = match self.random.between(0, 10) {
            0..5 => Call::Read,
            5 => Call::Remove { condition },
            _ => {
                self.last_value += 1;
                Call::Put { value: self.last_value, condition }
            }
        };
        self.begin(slot, key, call)
    }

    pub(super) fn begin(&mut self, slot: usize, key: usize, call: Call) -> Result<(), String> {
        let Some(running) = self.nodes[slot].running.as_ref() else { return Ok(()) };
        let id = OperationId::new(self.history.entries.len() as u64);
        let entry = Entry { member: running.member, key, call, begun: self.now, ended: None };
        self.history.entries.push(entry);
        let key = name(key);
        self.input(slot, |running, now| match call {
            Call::Read => running.cache.read(now, id, key),
            Call::Put { value, condition } => {
                let value = Bytes::from(value.to_be_bytes().to_vec());
                running.cache.put(now, id, key, value, condition);
            }
            Call::Remove { condition } => running.cache.remove(now, id, key, condition),
        })
    }

    fn answered(&mut self, operation: OperationId, answer: Answer) -> Result<(), String> {
        let place = usize::try_from(operation.get()).unwrap();
        let (key, call) = {
            let entry = &self.history.entries[place];
            if entry.ended.is_some() {
                return Err(format!("operation {place} was answered twice: {answer:?}"));
            }
            (entry.key, entry.call)
        };
        self.tally.answered += 1;
        let seen = match (&answer, call) {
            (Answer::Read(Some(read)), _) => {
                let value = <[u8; 4]>::try_from(&read.value[..]).map_err(|_| "torn value")?;
                Some((read.version, u32::from_be_bytes(value)))
            }
            (Answer::Written(version), Call::Put { value, .. }) => Some((*version, value)),
            _ => None,
        };
        if let Some((version, value)) = seen {
            self.history.saw(key, version, value)?;
            self.known[key].push(version);
        }
        let refused = matches!(answer, Answer::Failed(CacheError::VersionMismatch { .. }));
        self.tally.failed += u64::from(!refused && matches!(answer, Answer::Failed(_)));
        if std::env::var("DSS_TRACE").is_ok() {
            eprintln!("{} answered {:?} {answer:?}", self.now, self.history.entries[place]);
        }
        self.history.entries[place].ended = Some((self.now, answer));
        Ok(())
    }

    /// Of every key: one node may write, or many may read what main memory has.
    fn check_lines(&self) -> Result<(), String> {
        for key in 0..self.plan.keys {
            let key = name(key);
            let usable = self.nodes.iter().filter_map(|node| node.running.as_ref());
            let usable = usable.filter(|running| {
                self.now < running.lease && running.cache.view().contains(running.member)
            });
            let held: Vec<_> = usable
                .map(|running| (running, running.cache.line(&key)))
                .filter(|(_, (state, _))| *state != LineState::Invalid)
                .collect();
            if held.len() > 1 && held.iter().any(|(_, (state, _))| state.is_owned()) {
                let held: Vec<_> = held.iter().map(|(it, line)| (it.member, line)).collect();
                return Err(format!("at {}: {key:?} is owned and shared: {held:?}", self.now));
            }
            let stored = self.memory.load(&key).map(|stored| stored.version);
            for (running, (state, version)) in held {
                // What was downgraded is on its way to main memory, and nobody else has it yet.
                let stored_later = running.cache.is_writing_back(&key);
                if state == LineState::Shared && version != stored && !stored_later {
                    let member = running.member;
                    return Err(format!(
                        "at {}: {member:?} shares {version:?} of {key:?}, stored is {stored:?}",
                        self.now
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is under way any more.
    pub(super) fn check_quiet(&self) -> Result<(), String> {
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            let home = &running.home;
            if !home.is_open() || !home.is_quiet() {
                return Err(format!("the home of {:?} is not quiet: {home:?}", running.member));
            }
            if !running.cache.is_clean() {
                let (member, cache) = (running.member, &running.cache);
                return Err(format!("the cache of {member:?} is not clean: {cache:?}"));
            }
        }
        match self.history.entries.iter().find(|entry| entry.ended.is_none()) {
            Some(entry) => Err(format!("never answered: {entry:?}")),
            None => Ok(()),
        }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.membership.view.epoch
    }
}

impl Running {
    fn handle_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        if message.body.is_for_home() {
            self.home.handle_message(now, from, message);
        } else {
            self.cache.handle_message(now, from, message);
        }
    }
}

pub(super) fn name(key: usize) -> Bytes {
    Bytes::from(format!("key-{key}"))
}
