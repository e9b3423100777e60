//! One node of a checked cluster: the real cores, and what an input makes of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::plan::Plan;
use crate::cache::{Answer, Cache, Condition, OperationId, Output};
use crate::home::{Home, HomeOutput};
use crate::line::LineState;
use crate::message::Message;
use crate::ports::{Placement, StoreOutcome, Stored};
use crate::version::Version;
use crate::view::{Epoch, Incarnation, Member, NodeId, Timestamp, View};

/// When the lease of every node ends.
const LEASE: Timestamp = Timestamp::since_origin(Duration::from_secs(1 << 40));

/// How far time goes on where something is repeated: so far that everything is due.
const LEAP: Duration = Duration::from_secs(1 << 10);

/// The one line.
pub(super) const KEY: Bytes = Bytes::from_static(b"k");

/// The member with the largest number is the home.
#[derive(Debug)]
struct Largest;

impl Placement for Largest {
    fn home(&self, _: &[u8], view: &View) -> Option<NodeId> {
        view.nodes().max()
    }
}

/// The cores of a node, with its own clock. The hash leaves out the clock, as those of the cores
/// leave out deadlines: whatever waits for an answer can be repeated at any time.
#[derive(Debug, Clone)]
pub(super) struct Node {
    member: Member,
    pub(super) cache: Cache,
    pub(super) home: Home,
    now: Timestamp,
}

impl std::hash::Hash for Node {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.cache.hash(state);
        self.home.hash(state);
        (self.now < LEASE).hash(state);
    }
}

/// What happens to a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    Deliver {
        from: u8,
        message: u32,
    },
    Read(usize),
    Write(usize),
    Evict,
    Repeat,
    Enter {
        epoch: u64,
        nodes: Vec<u8>,
    },
    Expire,
    /// This call has ended; its number, and that of what memory was before.
    Served {
        call: u32,
        memory: u32,
    },
}

/// What main memory says to a call.
#[derive(Debug, Clone)]
pub(super) enum Served {
    Loaded(Option<Stored>),
    Stored(StoreOutcome),
    Fenced(bool),
}

/// What a node does.
#[derive(Debug, Clone)]
pub(super) enum Effect {
    Send { to: u8, message: Message },
    Answer { operation: usize, answer: Answer },
    Call(HomeOutput),
}

pub(super) fn view(epoch: u64, nodes: &[u8]) -> View {
    let members = nodes.iter().map(|node| member(*node)).collect();
    View { epoch: Epoch::new(epoch), members }
}

fn member(node: u8) -> Member {
    Member { node: NodeId::new(u64::from(node)), incarnation: Incarnation::new(1) }
}

impl Node {
    pub(super) fn new(node: u8, plan: &Plan) -> Self {
        let (config, member) = (plan.config(), member(node));
        let mut cache = Cache::new(config.clone(), member, Arc::new(Largest));
        let mut home = Home::new(config, member, Arc::new(Largest));
        cache.handle_lease(Timestamp::ZERO, LEASE);
        home.handle_lease(LEASE);
        Self { member, cache, home, now: Timestamp::ZERO }
    }

    /// How it holds the line.
    pub(super) fn line(&self) -> (LineState, Option<Version>) {
        self.cache.line(&KEY)
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.home.is_open() && self.home.is_quiet() && self.cache.is_idle()
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, from: u8, message: Message) {
        self.handle(NodeId::new(u64::from(from)), message);
    }

    fn handle(&mut self, from: NodeId, message: Message) {
        if message.body.is_for_home() {
            self.home.handle_message(self.now, from, message);
        } else {
            self.cache.handle_message(self.now, from, message);
        }
    }

    /// A call of main memory has ended.
    pub(super) fn served(&mut self, call: &HomeOutput, served: Served) {
        match (call, served) {
            (HomeOutput::Load { call, .. }, Served::Loaded(stored)) => {
                self.home.handle_loaded(self.now, *call, Some(stored));
            }
            (HomeOutput::Store { call, .. }, Served::Stored(outcome)) => {
                self.home.handle_stored(self.now, *call, Some(outcome));
            }
            (HomeOutput::Fence { call, .. }, Served::Fenced(stands)) => {
                self.home.handle_fenced(self.now, *call, stands);
            }
            (call, served) => unreachable!("{call:?} is answered {served:?}"),
        }
    }

    /// Whatever else happens to it.
    pub(super) fn input(&mut self, input: &Input) {
        let now = self.now;
        match input {
            Input::Deliver { .. } | Input::Served { .. } => unreachable!("these carry more"),
            Input::Read(operation) => self.cache.read(now, id(*operation), KEY),
            Input::Write(operation) => {
                let value = Bytes::from(vec![u8::try_from(*operation).unwrap()]);
                self.cache.put(now, id(*operation), KEY, value, Condition::None);
            }
            Input::Evict => self.cache.evict_line(now, &KEY),
            Input::Repeat => {
                self.now = now + LEAP;
                self.cache.handle_timeout(self.now);
                self.home.handle_timeout(self.now);
            }
            Input::Enter { epoch, nodes } => {
                let view = view(*epoch, nodes);
                self.home.handle_view(now, view.clone());
                self.cache.handle_view(now, view);
            }
            Input::Expire => self.now = LEASE,
        }
    }

    /// Does what the cores ask for; what they say to each other stays inside.
    pub(super) fn drain(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let (to, message) = match self.cache.poll_output(self.now) {
                Some(Output::Send { to, message }) => (to, message),
                Some(Output::Dropped(_)) => continue,
                Some(Output::Answer { operation, answer }) => {
                    let operation = usize::try_from(operation.get()).unwrap();
                    effects.push(Effect::Answer { operation, answer });
                    continue;
                }
                None => match self.home.poll_output(self.now) {
                    Some(HomeOutput::Send { to, message }) => (to, message),
                    Some(call) => {
                        effects.push(Effect::Call(call));
                        continue;
                    }
                    None => break,
                },
            };
            if to == self.member.node {
                self.handle(to, message);
            } else {
                let to = u8::try_from(to.get()).unwrap();
                effects.push(Effect::Send { to, message });
            }
        }
        self.cache.forget_statistics();
        self.home.forget_statistics();
        effects
    }
}

fn id(operation: usize) -> OperationId {
    OperationId::new(operation as u64)
}
