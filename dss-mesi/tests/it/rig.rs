//! Caches and homes whose messages and calls of main memory a test delivers one by one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{
    Answer, Body, Cache, CacheConfig, Condition, Home, HomeOutput, LineState, MemoryTable, Message,
    NodeId, OperationId, Output, Placement, Statistics, Timestamp, View, WritePolicy,
};

use crate::cluster::{bytes, member, view};

/// The key of all scenarios.
pub(crate) fn key() -> Bytes {
    bytes("k")
}

/// The member with the largest number is the home of every key.
#[derive(Debug)]
struct Fixed;

impl Placement for Fixed {
    fn home(&self, _: &[u8], view: &View) -> Option<NodeId> {
        view.nodes().max()
    }
}

/// Something on its way.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) message: Message,
}

/// Nodes 1, 2, … whose last one is the home of every key.
pub(crate) struct Rig {
    pub(crate) now: Timestamp,
    pub(crate) memory: MemoryTable,
    pub(crate) letters: Vec<Letter>,
    /// Calls of main memory that have not taken effect, with the node whose home made them.
    pub(crate) calls: Vec<(u64, HomeOutput)>,
    caches: Vec<Cache>,
    homes: Vec<Home>,
    answers: Vec<Option<Answer>>,
}

pub(crate) fn write_back() -> CacheConfig {
    CacheConfig::new().policy(WritePolicy::WriteBack { flush: Duration::from_secs(60) })
}

impl Rig {
    /// `count` nodes in view 1, every home open.
    pub(crate) fn new(count: u64, config: &CacheConfig) -> Self {
        let cache = |number| Cache::new(config.clone(), member(number), Arc::new(Fixed));
        let home = |number| Home::new(config.clone(), member(number), Arc::new(Fixed));
        let mut rig = Self {
            now: Timestamp::ZERO,
            memory: MemoryTable::new(),
            letters: Vec::new(),
            calls: Vec::new(),
            caches: (1..=count).map(cache).collect(),
            homes: (1..=count).map(home).collect(),
            answers: Vec::new(),
        };
        for node in 1..=count {
            rig.lease(node, Duration::from_secs(3_600));
        }
        let nodes: Vec<u64> = (1..=count).collect();
        rig.enter(&nodes, &view(1, &nodes));
        rig.settle();
        rig
    }

    pub(crate) fn lease(&mut self, node: u64, span: Duration) {
        let until = self.now + span;
        let place = usize::try_from(node - 1).unwrap();
        self.caches[place].handle_lease(self.now, until);
        self.homes[place].handle_lease(until);
        self.collect();
    }

    /// These nodes enter the view.
    pub(crate) fn enter(&mut self, nodes: &[u64], view: &View) {
        for node in nodes {
            let place = usize::try_from(node - 1).unwrap();
            self.homes[place].handle_view(self.now, view.clone());
            self.caches[place].handle_view(self.now, view.clone());
        }
        self.collect();
    }

    fn begin(
        &mut self,
        node: u64,
        begin: impl FnOnce(&mut Cache, Timestamp, OperationId),
    ) -> usize {
        self.answers.push(None);
        let place = self.answers.len() - 1;
        let id = OperationId::new(place as u64);
        begin(&mut self.caches[usize::try_from(node - 1).unwrap()], self.now, id);
        self.collect();
        place
    }

    pub(crate) fn read(&mut self, node: u64) -> usize {
        self.begin(node, |cache, now, id| cache.read(now, id, key()))
    }

    pub(crate) fn put(&mut self, node: u64, value: &str) -> usize {
        let value = bytes(value);
        self.begin(node, |cache, now, id| cache.put(now, id, key(), value, Condition::None))
    }

    pub(crate) fn remove(&mut self, node: u64) -> usize {
        self.begin(node, |cache, now, id| cache.remove(now, id, key(), Condition::None))
    }

    /// Reads another key, which takes the place of the first in a cache of one line.
    pub(crate) fn evict(&mut self, node: u64) -> usize {
        self.read_other(node, "other")
    }

    pub(crate) fn read_other(&mut self, node: u64, key: &str) -> usize {
        self.begin(node, |cache, now, id| cache.read(now, id, bytes(key)))
    }

    /// Takes the line for as long as `span`.
    pub(crate) fn hold(&mut self, node: u64, span: Duration) -> usize {
        let until = self.now + span;
        self.begin(node, |cache, now, id| cache.own_and_hold(now, id, key(), until))
    }

    pub(crate) fn inspect(&mut self, node: u64) -> usize {
        self.begin(node, |cache, now, id| cache.inspect(now, id, key()))
    }

    pub(crate) fn answer(&self, operation: usize) -> Option<&Answer> {
        self.answers[operation].as_ref()
    }

    /// What a read was answered: its value, if there is one.
    #[track_caller]
    pub(crate) fn value(&self, operation: usize) -> Option<Bytes> {
        match self.answer(operation) {
            Some(Answer::Read(read)) => read.as_ref().map(|read| read.value.clone()),
            other => panic!("not a read: {other:?}"),
        }
    }

    pub(crate) fn state(&self, node: u64) -> char {
        let (state, _): (LineState, _) =
            self.caches[usize::try_from(node - 1).unwrap()].line(&key());
        state.letter()
    }

    /// What has happened in the cache of a node.
    pub(crate) fn statistics(&self, node: u64) -> Statistics {
        self.caches[usize::try_from(node - 1).unwrap()].statistics()
    }

    /// The same of its home.
    pub(crate) fn home_statistics(&self, node: u64) -> Statistics {
        self.homes[usize::try_from(node - 1).unwrap()].statistics()
    }

    /// Whether the home of a node has nothing under way.
    pub(crate) fn is_quiet(&self, node: u64) -> bool {
        self.homes[usize::try_from(node - 1).unwrap()].is_quiet()
    }

    /// Whether main memory has all that was written at a node.
    pub(crate) fn is_clean(&self, node: u64) -> bool {
        self.caches[usize::try_from(node - 1).unwrap()].is_clean()
    }

    pub(crate) fn states(&self) -> String {
        (1..=self.caches.len() as u64).map(|node| self.state(node)).collect()
    }

    pub(crate) fn stored(&self) -> Option<Bytes> {
        self.memory.load(&key()).and_then(|stored| stored.value.clone())
    }

    /// Takes the first message out that is like this, without delivering it.
    #[track_caller]
    pub(crate) fn take(&mut self, like: impl Fn(&Letter) -> bool) -> Letter {
        let place = self.letters.iter().position(like);
        let place = place.unwrap_or_else(|| panic!("no such message in {:#?}", self.letters));
        self.letters.remove(place)
    }

    /// Delivers and serves in order until there is a message that says this, and takes it out.
    #[track_caller]
    pub(crate) fn run_to(&mut self, like: impl Fn(&Body) -> bool) -> Letter {
        while !self.letters.iter().any(|letter| like(&letter.message.body)) {
            self.advance();
        }
        self.take_body(like)
    }

    /// Delivers the next message or, where there is none, serves the next call.
    pub(crate) fn advance(&mut self) {
        if self.letters.is_empty() {
            self.serve();
        } else {
            let letter = self.letters.remove(0);
            self.deliver(letter);
        }
    }

    /// Takes the first message out that says this.
    #[track_caller]
    pub(crate) fn take_body(&mut self, like: impl Fn(&Body) -> bool) -> Letter {
        self.take(|letter| like(&letter.message.body))
    }

    pub(crate) fn deliver(&mut self, letter: Letter) {
        let place = usize::try_from(letter.to - 1).unwrap();
        let from = NodeId::new(letter.from);
        // Each core ignores what is for the other.
        self.homes[place].handle_message(self.now, from, letter.message.clone());
        self.caches[place].handle_message(self.now, from, letter.message);
        self.collect();
    }

    /// The first call of main memory takes effect and is answered.
    pub(crate) fn serve(&mut self) {
        let (node, call) = self.calls.remove(0);
        let home = &mut self.homes[usize::try_from(node - 1).unwrap()];
        match call {
            HomeOutput::Load { call, key } => {
                let stored = self.memory.load(&key).cloned();
                home.handle_loaded(self.now, call, Some(stored));
            }
            HomeOutput::Store { call, writer, key, version, value } => {
                let outcome = self.memory.store(writer, key, version, value);
                home.handle_stored(self.now, call, Some(outcome));
            }
            HomeOutput::Fence { call, epoch } => {
                let stands = self.memory.fence(epoch) == epoch;
                home.handle_fenced(self.now, call, stands);
            }
            HomeOutput::Send { .. } => unreachable!("messages are letters"),
        }
        self.collect();
    }

    /// The first call of main memory takes effect, but nobody learns of it.
    pub(crate) fn serve_unheard(&mut self) {
        let (node, call) = self.calls[0].clone();
        if let HomeOutput::Store { writer, key, version, value, .. } = call.clone() {
            self.memory.store(writer, key, version, value);
        }
        self.fail(node, &call);
        self.calls.remove(0);
        self.collect();
    }

    fn fail(&mut self, node: u64, call: &HomeOutput) {
        let home = &mut self.homes[usize::try_from(node - 1).unwrap()];
        match call {
            HomeOutput::Load { call, .. } => home.handle_loaded(self.now, *call, None),
            HomeOutput::Store { call, .. } => home.handle_stored(self.now, *call, None),
            HomeOutput::Fence { call, .. } => home.handle_fenced(self.now, *call, false),
            HomeOutput::Send { .. } => {}
        }
    }

    /// Delivers and serves everything, in order, until nothing is left.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000 {
            if self.letters.is_empty() && self.calls.is_empty() {
                return;
            }
            self.advance();
        }
        panic!("this never ends: {:#?}", self.letters);
    }

    /// The same, but messages that say this are lost.
    pub(crate) fn settle_but_for(&mut self, like: impl Fn(&Body) -> bool) {
        loop {
            self.letters.retain(|letter| !like(&letter.message.body));
            if self.letters.is_empty() && self.calls.is_empty() {
                return;
            }
            self.advance();
        }
    }

    /// Lets time pass, long enough for everything unanswered to be repeated.
    pub(crate) fn wait(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        for (cache, home) in self.caches.iter_mut().zip(&mut self.homes) {
            cache.handle_timeout(self.now);
            home.handle_timeout(self.now);
        }
        self.collect();
    }

    /// What is repeated is delivered too.
    pub(crate) fn settle_repeated(&mut self) {
        for _ in 0..5 {
            self.settle();
            self.wait();
        }
        self.settle();
    }

    fn collect(&mut self) {
        for (place, (cache, home)) in self.caches.iter_mut().zip(&mut self.homes).enumerate() {
            let from = place as u64 + 1;
            while let Some(output) = cache.poll_output(self.now) {
                match output {
                    Output::Send { to, message } => {
                        self.letters.push(Letter { from, to: to.get(), message });
                    }
                    Output::Dropped(_) => {}
                    Output::Answer { operation, answer } => {
                        let slot = &mut self.answers[usize::try_from(operation.get()).unwrap()];
                        assert_eq!(*slot, None, "answered twice");
                        *slot = Some(answer);
                    }
                }
            }
            while let Some(output) = home.poll_output(self.now) {
                match output {
                    HomeOutput::Send { to, message } => {
                        self.letters.push(Letter { from, to: to.get(), message });
                    }
                    call => self.calls.push((from, call)),
                }
            }
        }
    }
}
