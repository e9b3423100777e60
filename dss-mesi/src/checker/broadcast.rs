//! The broadcast protocol that caches between servers commonly use, as a model: nobody puts the
//! requests for a line in order, and what crosses on the way is not noticed.
//!
//! A read that misses asks all others; whoever has the line answers with it, stores it if it was
//! written, and shares it. A write asks all others to give the line up, and is done when all have.

use super::fingerprint::fingerprint;
use super::monitor::{Call, Monitor};
use super::search::Model;
use crate::line::LineState;
use crate::version::Version;
use crate::view::Epoch;

/// What the search is to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookFor {
    StaleRead,
    TwoWriters,
}

pub(super) struct Broadcast {
    pub(super) nodes: u8,
    pub(super) writes: u8,
    pub(super) reads: u8,
    pub(super) look_for: LookFor,
}

/// A value: which write, and its place in the order of writes; `None` before the first.
type Value = Option<(usize, Version)>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Node {
    state: LineState,
    value: Value,
    /// The operation under way, whose answers are awaited, and what they brought.
    pending: Option<Pending>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pending {
    operation: usize,
    call: Call,
    awaited: u8,
    found: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Read,
    Invalidate,
    /// Answers [`Message::Read`], with the value where the sender has the line.
    Found(Option<Value>),
    /// Answers [`Message::Invalidate`].
    GivenUp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    nodes: Vec<Node>,
    letters: Vec<(u8, u8, Message)>,
    memory: Value,
    writes: u64,
    monitor: Monitor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin(u8, Call),
    Deliver(usize),
}

impl Broadcast {
    fn check(&self, world: &World) -> Result<(), String> {
        let modified = world.nodes.iter().filter(|node| node.state == LineState::Modified);
        if self.look_for == LookFor::TwoWriters && modified.count() > 1 {
            return Err("two writers".to_owned());
        }
        Ok(())
    }

    fn begin(&self, world: &mut World, node: u8, call: Call) -> Result<(), String> {
        let Some(operation) = world.monitor.next(call) else { return Ok(()) };
        world.monitor.begin(operation, call, node + 1, false);
        let own = world.nodes[usize::from(node)].clone();
        match call {
            Call::Read if own.state != LineState::Invalid => {
                return self.answer_read(world, operation, own.value);
            }
            Call::Write if own.state.is_owned() => {
                return self.write(world, node, operation);
            }
            _ => {}
        }
        let awaited = self.nodes - 1;
        world.nodes[usize::from(node)].pending =
            Some(Pending { operation, call, awaited, found: None });
        let message = if call == Call::Read { Message::Read } else { Message::Invalidate };
        for other in (0..self.nodes).filter(|other| *other != node) {
            send(world, node, other, message);
        }
        Ok(())
    }

    fn answer_read(&self, world: &mut World, operation: usize, value: Value) -> Result<(), String> {
        let read = world.monitor.read(operation, value);
        if self.look_for == LookFor::StaleRead { read } else { Ok(()) }
    }

    fn write(&self, world: &mut World, node: u8, operation: usize) -> Result<(), String> {
        world.writes += 1;
        let version = Version { epoch: Epoch::new(1), grant: 1, write: world.writes };
        let own = &mut world.nodes[usize::from(node)];
        (own.state, own.value) = (LineState::Modified, Some((operation, version)));
        let written = world.monitor.written(operation, version);
        if self.look_for == LookFor::StaleRead { written } else { Ok(()) }
    }

    fn deliver(&self, world: &mut World, place: usize) -> Result<(), String> {
        let (from, to, message) = world.letters.remove(place);
        let (own, memory) = (&mut world.nodes[usize::from(to)], &mut world.memory);
        if matches!(message, Message::Read | Message::Invalidate)
            && own.state == LineState::Modified
        {
            *memory = own.value;
        }
        match message {
            Message::Read => {
                let found = (own.state != LineState::Invalid).then_some(own.value);
                if found.is_some() {
                    own.state = LineState::Shared;
                }
                send(world, to, from, Message::Found(found));
                Ok(())
            }
            Message::Invalidate => {
                own.state = LineState::Invalid;
                send(world, to, from, Message::GivenUp);
                Ok(())
            }
            Message::Found(value) => self.answered(world, to, value),
            Message::GivenUp => self.answered(world, to, None),
        }
    }

    fn answered(&self, world: &mut World, node: u8, found: Option<Value>) -> Result<(), String> {
        let memory = world.memory;
        let own = &mut world.nodes[usize::from(node)];
        let Some(pending) = own.pending.as_mut() else { return Ok(()) };
        pending.found = pending.found.or(found);
        pending.awaited -= 1;
        if pending.awaited > 0 {
            return Ok(());
        }
        let Some(Pending { operation, call, found, .. }) = own.pending.take() else {
            return Ok(());
        };
        if call == Call::Write {
            return self.write(world, node, operation);
        }
        (own.state, own.value) = match found {
            Some(value) => (LineState::Shared, value),
            None => (LineState::Exclusive, memory),
        };
        let value = own.value;
        self.answer_read(world, operation, value)
    }
}

fn send(world: &mut World, from: u8, to: u8, message: Message) {
    let letter = (from, to, message);
    let place = world.letters.partition_point(|other| *other < letter);
    world.letters.insert(place, letter);
}

impl Model for Broadcast {
    type State = World;
    type Step = Step;

    fn initial(&mut self) -> World {
        let node = Node { state: LineState::Invalid, value: None, pending: None };
        World {
            nodes: vec![node; usize::from(self.nodes)],
            letters: Vec::new(),
            memory: None,
            writes: 0,
            monitor: Monitor::new(self.nodes, self.writes, self.reads),
        }
    }

    fn steps(&mut self, world: &World, steps: &mut Vec<Step>) {
        for node in 0..self.nodes {
            if world.nodes[usize::from(node)].pending.is_none() {
                for call in [Call::Read, Call::Write] {
                    if world.monitor.next(call).is_some() {
                        steps.push(Step::Begin(node, call));
                    }
                }
            }
        }
        steps.extend((0..world.letters.len()).map(Step::Deliver));
    }

    fn take(&mut self, world: &World, step: Step) -> Result<World, String> {
        let mut world = world.clone();
        match step {
            Step::Begin(node, call) => self.begin(&mut world, node, call)?,
            Step::Deliver(place) => self.deliver(&mut world, place)?,
        }
        self.check(&world)?;
        Ok(world)
    }

    fn describe(&self, world: &World, step: Step) -> String {
        match step {
            Step::Begin(node, call) => format!("node {node} begins to {call:?}"),
            Step::Deliver(place) => {
                let (from, to, message) = world.letters[place];
                format!("{message:?} from node {from} arrives at node {to}")
            }
        }
    }

    fn fingerprint(&self, world: &World) -> u64 {
        fingerprint(world)
    }

    fn settle(&mut self, _: &World) -> Result<Option<World>, String> {
        Ok(None)
    }

    fn outline(&self, world: &World) -> u64 {
        fingerprint(world)
    }
}
