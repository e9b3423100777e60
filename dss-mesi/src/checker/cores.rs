//! The model whose steps are those of the real cores.

use std::collections::BTreeMap;

use super::fingerprint::{Interned, fingerprint};
use super::monitor::{Call, Monitor, Operation};
use super::node::{Effect, Input, KEY, Node, Served};
use super::plan::{Fault, Plan};
use super::search::Model;
use super::world::{Budget, Letter, Life, Standing, World};
use crate::cache::Answer;
use crate::flaw::Flaw;
use crate::home::HomeOutput;
use crate::line::LineState;
use crate::memory::MemoryTable;
use crate::message::{Body, Message};
use crate::version::Version;
use crate::view::Epoch;

/// Something that may happen in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin(u8, Call),
    Evict(u8),
    Deliver(Letter),
    Lose(Letter),
    Double(Letter),
    Serve(u8, u32),
    Repeat(u8),
    Crash(u8),
    Cut(u8),
    Expire(u8),
    Decide(Option<u8>),
    Enter(u8),
    Heal(u8),
}

/// A cluster of real cores. Each part of its state is kept once; what an input makes of a node is
/// worked out once, however many clusters have that node in it.
pub(super) struct Cores {
    plan: Plan,
    nodes: Interned<Node>,
    messages: Interned<Message>,
    calls: Interned<HomeOutput>,
    memories: Interned<MemoryTable>,
    moves: BTreeMap<(u32, Input), (u32, Vec<Done>)>,
}

/// What a node did.
#[derive(Debug, Clone)]
enum Done {
    Sent { to: u8, message: u32 },
    Answered { operation: usize, answer: Answer },
    Called(u32),
}

impl Cores {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            nodes: Interned::new(),
            messages: Interned::new(),
            calls: Interned::new(),
            memories: Interned::new(),
            moves: BTreeMap::new(),
        }
    }

    /// What the input makes of these cores.
    fn move_of(&mut self, cores: u32, input: Input) -> (u32, Vec<Done>) {
        if let Some(known) = self.moves.get(&(cores, input.clone())) {
            return known.clone();
        }
        let mut node = self.nodes.get(cores).clone();
        match &input {
            Input::Deliver { from, message } => {
                node.deliver(*from, self.messages.get(*message).clone());
            }
            Input::Served { call, memory } => {
                let call = self.calls.get(*call);
                let (_, served) = self.serve(*memory, call);
                node.served(call, served);
            }
            other => node.input(other),
        }
        let effects = node.drain();
        let done = effects
            .into_iter()
            .map(|effect| match effect {
                Effect::Send { to, message } => {
                    Done::Sent { to, message: self.messages.number(message) }
                }
                Effect::Answer { operation, answer } => Done::Answered { operation, answer },
                Effect::Call(call) => Done::Called(self.calls.number(call)),
            })
            .collect();
        let result = (self.nodes.number(node), done);
        self.moves.insert((cores, input), result.clone());
        result
    }

    /// What the call makes of main memory, and what it is answered.
    fn serve(&self, memory: u32, call: &HomeOutput) -> (MemoryTable, Served) {
        let mut table = self.memories.get(memory).clone();
        let served = match call {
            HomeOutput::Load { key, .. } => Served::Loaded(table.load(key).cloned()),
            HomeOutput::Store { writer, key, version, value, .. } => {
                if self.plan.flaw == Some(Flaw::MemoryWithoutVersions) {
                    table.forget(key);
                }
                let unfenced = self.plan.flaw == Some(Flaw::MemoryWithoutFence);
                let writer = if unfenced { Epoch::new(u64::MAX) } else { *writer };
                Served::Stored(table.store(writer, key.clone(), *version, value.clone()))
            }
            HomeOutput::Fence { epoch, .. } => Served::Fenced(table.fence(*epoch) == *epoch),
            HomeOutput::Send { .. } => unreachable!("messages are letters"),
        };
        (table, served)
    }

    /// Gives a node an input, and does what it asks for.
    fn input(&mut self, world: &mut World, node: u8, input: Input) -> Result<(), String> {
        let (cores, done) = self.move_of(world.node(node).cores, input);
        world.node_mut(node).cores = cores;
        for effect in done {
            match effect {
                Done::Sent { to, message } => world.send(Letter { from: node, to, message }),
                Done::Called(call) => world.call(node, call),
                Done::Answered { operation, answer } => {
                    self.answered(world, operation, &answer)?;
                }
            }
        }
        Ok(())
    }

    fn answered(&self, world: &mut World, operation: usize, answer: &Answer) -> Result<(), String> {
        let monitor = &mut world.monitor;
        match answer {
            Answer::Read(read) => {
                let found = read.as_ref().map(|read| (usize::from(read.value[0]), read.version));
                monitor.read(operation, found)
            }
            Answer::Written(version) => monitor.written(operation, *version),
            Answer::Failed(_) => {
                monitor.failed(operation);
                Ok(())
            }
            other => Err(format!("answered {other:?}")),
        }
    }

    /// One writer, or many readers of what main memory has.
    fn check_lines(&self, world: &World) -> Result<(), String> {
        let usable = world.nodes.iter().filter(|node| matches!(node.state, Life::Up | Life::Cut));
        let held: Vec<(&Node, LineState, Option<Version>)> = usable
            .map(|node| self.nodes.get(node.cores))
            .map(|node| (node, node.line().0, node.line().1))
            .filter(|(_, state, _)| *state != LineState::Invalid)
            .collect();
        if held.len() > 1 && held.iter().any(|(_, state, _)| state.is_owned()) {
            let held: Vec<_> = held.iter().map(|(_, state, version)| (state, version)).collect();
            return Err(format!("two writers, or one beside readers: {held:?}"));
        }
        let stored = self.memories.get(world.memory).load(&KEY).map(|stored| stored.version);
        for (node, state, version) in held {
            let underway = node.cache.is_writing_back(&KEY) || node.cache.is_writing(&KEY);
            if state != LineState::Modified && version != stored && !underway {
                return Err(format!(
                    "a copy that is not what is stored: of {version:?}, stored is {stored:?}"
                ));
            }
        }
        Ok(())
    }

    /// What may befall the cluster, and what follows from that.
    fn faults(&self, world: &World, steps: &mut Vec<Step>) {
        let whole = world.nodes.iter().all(|node| node.state == Life::Up);
        for node in world.numbers() {
            let standing = world.node(node);
            match (standing.state, self.plan.fault) {
                (Life::Up, Fault::Crash) if whole && world.second.is_none() => {
                    steps.push(Step::Crash(node));
                }
                (Life::Up, Fault::Partition) if whole && world.second.is_none() => {
                    steps.push(Step::Cut(node));
                }
                (Life::Cut, _) => {
                    steps.push(Step::Expire(node));
                    if self.plan.flaw == Some(Flaw::NoLeaseWait) && world.second.is_none() {
                        steps.push(Step::Decide(Some(node)));
                    }
                }
                (Life::Expired | Life::Crashed, _) if world.second.is_none() => {
                    steps.push(Step::Decide(Some(node)));
                }
                (Life::Expired, _) => steps.push(Step::Heal(node)),
                _ => {}
            }
            if standing.state == Life::Up && world.second.is_some() && standing.epoch < 2 {
                steps.push(Step::Enter(node));
            }
        }
        if self.plan.fault == Fault::Join && world.second.is_none() {
            steps.push(Step::Decide(None));
        }
    }

    /// Whether clients ask the node: it must know by itself when it may not answer.
    fn is_open_to_clients(&self, world: &World, node: u8) -> bool {
        let joins = self.plan.fault == Fault::Join;
        let standing = world.node(node);
        standing.state != Life::Crashed
            && (standing.epoch > 1 || world.members(1, joins).contains(&node))
    }

    /// Whether everything that was asked for where it can be done is done, and nothing is on its
    /// way.
    fn is_at_rest(&self, world: &World) -> bool {
        let up = |node: u8| world.node(node).state == Life::Up;
        let answered = world.monitor.operations.iter().all(|operation| match operation {
            Operation::Begun { node, .. } => !up(*node),
            _ => true,
        });
        let joins = self.plan.fault == Fault::Join;
        let members = world.members(if world.second.is_some() { 2 } else { 1 }, joins);
        let still = members
            .into_iter()
            .filter(|node| up(*node))
            .all(|node| self.nodes.get(world.node(node).cores).is_at_rest());
        answered && still
    }
}

impl Model for Cores {
    type State = World;
    type Step = Step;

    fn initial(&mut self) -> World {
        let plan = self.plan;
        let nodes = (1..=plan.nodes)
            .map(|node| {
                let cores = self.nodes.number(Node::new(node, &plan));
                Standing { cores, epoch: 0, state: Life::Up }
            })
            .collect();
        let mut world = World {
            nodes,
            letters: Vec::new(),
            calls: Vec::new(),
            memory: self.memories.number(MemoryTable::new()),
            second: None,
            budget: Budget {
                evictions: plan.evictions,
                losses: plan.losses,
                duplicates: plan.duplicates,
                repeats: plan.repeats,
            },
            monitor: Monitor::new(plan.nodes, plan.writes, plan.reads),
        };
        let members = world.members(1, plan.fault == Fault::Join);
        for node in members.clone() {
            world.node_mut(node).epoch = 1;
            let input = Input::Enter { epoch: 1, nodes: members.clone() };
            self.input(&mut world, node, input).expect("a new node is right");
        }
        while let Some(next) = self.settle(&world).expect("a new cluster is right") {
            world = next;
        }
        world
    }

    fn steps(&mut self, world: &World, steps: &mut Vec<Step>) {
        for node in world.numbers() {
            if self.is_open_to_clients(world, node) {
                for call in [Call::Read, Call::Write] {
                    if world.monitor.next(call).is_some() {
                        steps.push(Step::Begin(node, call));
                    }
                }
                if world.budget.evictions > 0 {
                    steps.push(Step::Evict(node));
                }
            }
            let alive = world.node(node).state != Life::Crashed;
            if alive && world.budget.repeats > 0 {
                steps.push(Step::Repeat(node));
            }
        }
        let mut before = None;
        for letter in world.letters.iter().copied() {
            if before == Some(letter) || !world.hears(letter.from, letter.to) {
                continue;
            }
            before = Some(letter);
            steps.push(Step::Deliver(letter));
            if world.budget.losses > 0 {
                steps.push(Step::Lose(letter));
            }
            if world.budget.duplicates > 0 {
                steps.push(Step::Double(letter));
            }
        }
        steps.extend(world.calls.iter().map(|(node, call)| Step::Serve(*node, *call)));
        self.faults(world, steps);
    }

    fn take(&mut self, world: &World, step: Step) -> Result<World, String> {
        let mut world = world.clone();
        self.apply(&mut world, step)?;
        self.check_lines(&world)?;
        Ok(world)
    }

    fn describe(&self, _: &World, step: Step) -> String {
        match step {
            Step::Deliver(letter) | Step::Lose(letter) | Step::Double(letter) => {
                format!("{step:?} {:?}", self.messages.get(letter.message).body)
            }
            Step::Serve(_, call) => format!("{step:?} {:?}", self.calls.get(call)),
            other => format!("{other:?}"),
        }
    }

    fn fingerprint(&self, world: &World) -> u64 {
        fingerprint(world)
    }

    fn outline(&self, world: &World) -> u64 {
        let open: Vec<bool> = world
            .monitor
            .operations
            .iter()
            .map(|operation| matches!(operation, Operation::Begun { .. }))
            .collect();
        let World { nodes, letters, calls, memory, second, .. } = world;
        fingerprint(&(nodes, letters, calls, memory, second, open))
    }

    fn settle(&mut self, world: &World) -> Result<Option<World>, String> {
        // Grants before recalls, as on links that keep order: or they might go round for ever.
        let arrives = |letter: &&Letter| world.hears(letter.from, letter.to);
        let grants = |letter: &&Letter| {
            arrives(letter) && matches!(self.messages.get(letter.message).body, Body::Grant { .. })
        };
        let letters = &world.letters;
        let letter = letters.iter().find(grants).or_else(|| letters.iter().find(arrives));
        if let Some(letter) = letter.copied() {
            return self.take(world, Step::Deliver(letter)).map(Some);
        }
        if let Some((node, call)) = world.calls.first().copied() {
            return self.take(world, Step::Serve(node, call)).map(Some);
        }
        for node in world.numbers() {
            let standing = world.node(node);
            let step = match standing.state {
                Life::Cut => Step::Expire(node),
                Life::Crashed | Life::Expired if world.second.is_none() => Step::Decide(Some(node)),
                Life::Up if world.second.is_some() && standing.epoch < 2 => Step::Enter(node),
                _ => continue,
            };
            return self.take(world, step).map(Some);
        }
        if self.is_at_rest(world) {
            return Ok(None);
        }
        let mut next = world.clone();
        for node in world.numbers().filter(|node| world.node(*node).state == Life::Up) {
            self.input(&mut next, node, Input::Repeat)?;
        }
        Ok(Some(next))
    }
}

impl Cores {
    fn apply(&mut self, world: &mut World, step: Step) -> Result<(), String> {
        match step {
            Step::Begin(node, call) => {
                let Some(operation) = world.monitor.next(call) else { return Ok(()) };
                world.monitor.begin(operation, call, node, world.second.is_some());
                let input = match call {
                    Call::Read => Input::Read(operation),
                    Call::Write => Input::Write(operation),
                };
                self.input(world, node, input)
            }
            Step::Evict(node) => {
                world.budget.evictions -= 1;
                self.input(world, node, Input::Evict)
            }
            Step::Deliver(letter) => {
                take_out(world, letter);
                self.deliver(world, letter)
            }
            Step::Lose(letter) => {
                world.budget.losses -= 1;
                take_out(world, letter);
                Ok(())
            }
            Step::Double(letter) => {
                world.budget.duplicates -= 1;
                self.deliver(world, letter)
            }
            Step::Serve(node, call) => self.serve_step(world, node, call),
            Step::Repeat(node) => {
                world.budget.repeats -= 1;
                self.input(world, node, Input::Repeat)
            }
            Step::Crash(node) => {
                world.node_mut(node).state = Life::Crashed;
                world.letters.retain(|letter| letter.to != node);
                Ok(())
            }
            Step::Cut(node) => {
                world.node_mut(node).state = Life::Cut;
                Ok(())
            }
            Step::Expire(node) => {
                world.node_mut(node).state = Life::Expired;
                self.input(world, node, Input::Expire)
            }
            Step::Decide(gone) => {
                world.second = Some(gone);
                if let Some(gone) = gone {
                    world.monitor.removed(gone, self.plan.write_back);
                }
                Ok(())
            }
            Step::Enter(node) => {
                world.node_mut(node).epoch = 2;
                let nodes = world.members(2, false);
                self.input(world, node, Input::Enter { epoch: 2, nodes })
            }
            Step::Heal(node) => {
                world.node_mut(node).state = Life::Back;
                Ok(())
            }
        }
    }

    fn deliver(&mut self, world: &mut World, letter: Letter) -> Result<(), String> {
        let Letter { from, to, message } = letter;
        self.input(world, to, Input::Deliver { from, message })
    }

    /// A call takes effect, and is answered where somebody is left to hear that.
    fn serve_step(&mut self, world: &mut World, node: u8, call: u32) -> Result<(), String> {
        let place = world.calls.iter().position(|other| *other == (node, call));
        world.calls.remove(place.expect("a call that is served is under way"));
        let before = world.memory;
        let (table, _) = self.serve(before, &self.calls.get(call).clone());
        world.memory = self.memories.number(table);
        if world.node(node).state == Life::Crashed {
            return Ok(());
        }
        self.input(world, node, Input::Served { call, memory: before })
    }
}

fn take_out(world: &mut World, letter: Letter) {
    let place = world.letters.iter().position(|other| *other == letter);
    world.letters.remove(place.expect("a letter that arrives is on its way"));
}
