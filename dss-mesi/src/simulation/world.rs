//! Nodes, their network and their main memory, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::history::{Call, History};
use super::membership::Membership;
use super::plan::{LEASE, Plan};
use super::random::Random;
use crate::cache::{Answer, Cache, Output};
use crate::error::CacheError;
use crate::home::{Home, HomeOutput, MemoryCall};
use crate::memory::MemoryTable;
use crate::message::Message;
use crate::placement::RendezvousPlacement;
use crate::ports::{StoreOutcome, Stored};
use crate::version::Version;
use crate::view::{Epoch, Incarnation, Member, NodeId, Timestamp, View};

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
    pub(super) last_value: u32,
    /// What clients of each key know: versions to make conditions of.
    pub(super) known: Vec<Vec<Version>>,
    /// How often each key was asked for.
    pub(super) asked: Vec<usize>,
    /// The keys that something has happened to since lines were checked.
    pub(super) suspects: Vec<usize>,
    /// Whether something has happened that concerns all keys.
    pub(super) is_all_suspect: bool,
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
    /// Pauses of nodes for longer than leases last.
    pub(super) pauses_past_lease: u64,
    /// Nodes that went on to hear others, or to be heard by them, but not both.
    pub(super) one_way_cuts: u64,
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
        self.pauses_past_lease += other.pauses_past_lease;
        self.one_way_cuts += other.one_way_cuts;
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
    pub(super) home: Home,
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
            asked: vec![0; plan.keys],
            suspects: Vec::new(),
            is_all_suspect: false,
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
            Event::Deliver { to, from, message } => {
                self.suspects.extend(message.body.key().and_then(number_of));
                self.input(to, |running, now| running.handle_message(now, from, message))
            }
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
            Event::View { slot, view } => {
                self.is_all_suspect = true;
                self.input(slot, |running, now| {
                    running.home.handle_view(now, view.clone());
                    running.cache.handle_view(now, view);
                })
            }
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
    pub(super) fn input(
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
        self.tally.pauses_past_lease += u64::from(pause > LEASE);
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
                Some(Output::Dropped(_)) => continue,
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

/// The key with this [`name`].
fn number_of(name: &Bytes) -> Option<usize> {
    std::str::from_utf8(name.strip_prefix(b"key-")?).ok()?.parse().ok()
}
