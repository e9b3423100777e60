//! Giving cores their inputs, and doing what they ask for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::Clock;
use super::fence::Fencing;
use super::load::Flights;
use super::part::{Part, Todo};
use super::unison::Unison;
use crate::cache::{Cache, Dropped, OperationId, Output, Read, hash_of};
use crate::home::HomeOutput;
use crate::message::{Body, Message};
use crate::ports::{Memory, Transport};
use crate::view::{Member, NodeId, Timestamp};

/// How often it is looked at whether what was dirty is stored, where somebody waits for that.
const CLEAN_POLL: Duration = Duration::from_millis(10);

/// Whoever wants to know what is dropped.
pub(super) type Listener = Box<dyn Fn(Dropped) + Send + Sync>;

/// All that the clones of a node share.
pub(super) struct Inner {
    pub(super) member: Member,
    pub(super) clock: Clock,
    pub(super) memory: Arc<dyn Memory>,
    pub(super) memory_timeout: Duration,
    pub(super) operation_timeout: Duration,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) runtime: Handle,
    pub(super) hash_seed: u64,
    pub(super) parts: Vec<Mutex<Part>>,
    pub(super) surrenders: Mutex<Unison>,
    pub(super) surrender_acks: Mutex<Unison>,
    pub(super) fencing: Fencing,
    /// Messages in the order in which they are to be sent.
    pub(super) outbox: Mutex<VecDeque<(NodeId, Message)>>,
    /// Whoever holds it empties the outbox, so that no message overtakes another here.
    pub(super) sending: Mutex<()>,
    /// An earlier deadline than the one slept for, or the end.
    pub(super) wake: Arc<Notify>,
    /// What the timer task sleeps for, in nanoseconds; while it is awake, more than any deadline.
    pub(super) armed: AtomicU64,
    pub(super) listener: OnceLock<Listener>,
    pub(super) flights: Flights,
}

impl Inner {
    pub(super) fn part(&self, place: usize) -> MutexGuard<'_, Part> {
        // A core that panicked is broken, and says so again.
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of a key, by two bytes of its hash that the tables of lines make little use of.
    pub(super) fn place(&self, hash: u64) -> usize {
        let bytes = hash.to_le_bytes();
        let slice = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
        (slice * self.parts.len()) >> 16
    }

    pub(super) fn place_of(&self, key: &[u8]) -> usize {
        self.place(hash_of(key, self.hash_seed))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads what is held. The clock is read under the lock: then the line was valid when it was.
    #[inline]
    pub(super) fn hit(&self, key: &[u8]) -> Option<Option<Read>> {
        let hash = hash_of(key, self.hash_seed);
        let mut part = self.part(self.place(hash));
        part.cache.hit(self.clock.now_at_latest(), hash, key)
    }

    /// Gives the cores of a part an input, and does what they ask for.
    pub(super) fn drive<R>(
        self: &Arc<Self>,
        place: usize,
        input: impl FnOnce(&mut Part, Timestamp) -> R,
    ) -> R {
        let mut part = self.part(place);
        let result = input(&mut part, self.now());
        let todo = self.pump(place, &mut part);
        drop(part);
        self.perform(place, todo);
        result
    }

    pub(super) fn drive_all(self: &Arc<Self>, input: impl Fn(&mut Part, Timestamp)) {
        for place in 0..self.parts.len() {
            self.drive(place, &input);
        }
    }

    /// Takes a message in, for whichever parts it concerns.
    pub(super) fn deliver(self: &Arc<Self>, from: NodeId, message: Message) {
        if let Some(key) = message.body.key() {
            let place = self.place_of(key);
            self.drive(place, |part, now| part.handle_message(now, from, message));
            return;
        }
        let Message { epoch, body } = message;
        match body {
            Body::Hint { lines } => {
                let mut by_part: BTreeMap<usize, Vec<_>> = BTreeMap::new();
                for line in lines {
                    by_part.entry(self.place_of(&line.0)).or_default().push(line);
                }
                for (place, lines) in by_part {
                    let message = Message { epoch, body: Body::Hint { lines } };
                    self.drive(place, |part, now| part.handle_message(now, from, message));
                }
            }
            body => self.drive_all(|part, now| {
                part.handle_message(now, from, Message { epoch, body: body.clone() });
            }),
        }
    }

    /// Takes everything from the cores; what is to be done without the lock is returned.
    pub(super) fn pump(&self, place: usize, part: &mut Part) -> Todo {
        let mut todo = Todo::default();
        let node = self.member.node;
        loop {
            // Anew each time: a write is acknowledged only if the lease lasts *after* it.
            let now = self.now();
            let (to, message) = if let Some(output) = part.cache.poll_output(now) {
                match output {
                    Output::Send { to, message } => (to, message),
                    Output::Dropped(dropped) => {
                        if self.listener.get().is_some() {
                            todo.dropped.push(dropped);
                        }
                        continue;
                    }
                    Output::Answer { operation, answer } => {
                        part.answer(operation, answer);
                        continue;
                    }
                }
            } else {
                match part.home.poll_output(now) {
                    None => break,
                    Some(HomeOutput::Send { to, message }) => (to, message),
                    Some(call) => {
                        todo.calls.push(call);
                        continue;
                    }
                }
            };
            if to == node {
                // What concerns a key concerns this part, and each part surrenders to itself.
                part.handle_message(now, node, message);
            } else if !part.closed && self.is_said(place, to, &message) {
                self.outbox.lock().unwrap_or_else(PoisonError::into_inner).push_back((to, message));
            }
        }
        if part.next_deadline().is_some_and(|next| nanoseconds(next) < self.armed()) {
            self.wake.notify_one();
        }
        todo
    }

    fn armed(&self) -> u64 {
        self.armed.load(Ordering::SeqCst)
    }

    /// Whether the node says what one of its parts says.
    fn is_said(&self, place: usize, to: NodeId, message: &Message) -> bool {
        let unison = match message.body {
            Body::Surrender => &self.surrenders,
            Body::SurrenderAck => &self.surrender_acks,
            _ => return true,
        };
        let mut unison = unison.lock().unwrap_or_else(PoisonError::into_inner);
        unison.say(message.epoch, to, place, self.parts.len())
    }

    pub(super) fn perform(self: &Arc<Self>, place: usize, todo: Todo) {
        for call in todo.calls {
            self.runtime.spawn(Arc::clone(self).call_memory(place, call));
        }
        self.send_outbox();
        if let Some(listener) = self.listener.get() {
            todo.dropped.into_iter().for_each(listener);
        }
    }

    /// Sends what is in the outbox, unless somebody is at it.
    pub(super) fn send_outbox(&self) {
        let next = || self.outbox.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        loop {
            let Ok(_sending) = self.sending.try_lock() else { return };
            let Some((to, message)) = next() else { return };
            self.transport.send(to, message);
            while let Some((to, message)) = next() {
                self.transport.send(to, message);
            }
            // Something may have been put there while nobody could send: look again.
        }
    }

    async fn call_memory(self: Arc<Self>, place: usize, call: HomeOutput) {
        let limit = self.memory_timeout;
        match call {
            HomeOutput::Load { call, key } => {
                let loaded = tokio::time::timeout(limit, self.memory.load(&key)).await;
                let loaded = loaded.ok().and_then(Result::ok);
                self.drive(place, |part, now| part.home.handle_loaded(now, call, loaded));
            }
            HomeOutput::Store { call, writer, key, version, value } => {
                let store = self.memory.store(writer, &key, version, value);
                let outcome = tokio::time::timeout(limit, store).await;
                let outcome = outcome.ok().and_then(Result::ok);
                self.drive(place, |part, now| part.home.handle_stored(now, call, outcome));
            }
            HomeOutput::Fence { call, epoch } => {
                let stands = self.fencing.raise(&*self.memory, epoch, limit).await;
                self.drive(place, |part, now| part.home.handle_fenced(now, call, stands));
            }
            HomeOutput::Send { .. } => unreachable!("messages are sent where they are polled"),
        }
    }

    pub(super) fn cancel(self: &Arc<Self>, place: usize, operation: OperationId) {
        self.drive(place, |part, _| part.cancel(operation));
    }

    /// Does `step` until the caches are clean, but no longer than the time-out.
    pub(super) async fn clean(self: &Arc<Self>, step: impl Fn(&mut Cache, Timestamp)) -> bool {
        let deadline = Instant::now() + self.operation_timeout;
        loop {
            let mut clean = true;
            for place in 0..self.parts.len() {
                clean &= self.drive(place, |part, now| {
                    step(&mut part.cache, now);
                    part.cache.is_clean()
                });
            }
            if clean || Instant::now() >= deadline {
                return clean;
            }
            tokio::time::sleep(CLEAN_POLL).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.wake.notify_one();
    }
}

pub(super) fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.since(Timestamp::ZERO).as_nanos()).unwrap_or(u64::MAX)
}
