//! The node that a program holds.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::reply::Reply;
use crate::cache::{Answer, Cache, Condition, LineView, OperationId, Output, Read};
use crate::config::CacheConfig;
use crate::error::CacheError;
use crate::home::{Home, HomeOutput};
use crate::message::Message;
use crate::ports::{Memory, Placement, Transport};
use crate::statistics::Statistics;
use crate::version::Version;
use crate::view::{Member, NodeId, Timestamp, View};

/// How often it is looked at whether what was dirty is stored, where somebody waits for that.
const CLEAN_POLL: Duration = Duration::from_millis(10);

/// One node of a coherent cache: its [`Cache`], and the [`Home`] of its share of the keys.
///
/// Clones are the same node; it ends when the last one is dropped. Every operation may be dropped
/// before it is done: a write may then have been done or not.
#[derive(Clone)]
pub struct CacheNode {
    inner: Arc<Inner>,
}

/// A [`CacheNode`] that does not keep the node alive.
#[derive(Debug, Clone)]
pub(super) struct WeakNode {
    inner: Weak<Inner>,
}

pub(super) struct Inner {
    member: Member,
    origin: Instant,
    memory: Arc<dyn Memory>,
    memory_timeout: Duration,
    leave_timeout: Duration,
    transport: Arc<dyn Transport>,
    runtime: Handle,
    state: Mutex<State>,
    /// Messages in the order in which they are to be sent.
    outbox: Mutex<VecDeque<(NodeId, Message)>>,
    /// Whoever holds it empties the outbox, so that no message overtakes another here.
    sending: Mutex<()>,
    /// An earlier deadline than the one slept for, or the end.
    wake: Arc<Notify>,
}

struct State {
    cache: Cache,
    home: Home,
    closed: bool,
    last_operation: u64,
    /// The operation that is begun just now, and its answer if that comes at once.
    current: Option<OperationId>,
    immediate: Option<Answer>,
    replies: BTreeMap<OperationId, oneshot::Sender<Answer>>,
    /// What the timer task sleeps for.
    armed: Option<Timestamp>,
}

impl CacheNode {
    /// Starts the node, in no view and without a lease. To be called inside a tokio runtime.
    ///
    /// `node` is one life of the node: the incarnation of a later start must be larger.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(
        config: CacheConfig,
        node: Member,
        memory: Arc<dyn Memory>,
        transport: Arc<dyn Transport>,
        placement: Arc<dyn Placement>,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let inner = Arc::new(Inner {
            member: node,
            origin: Instant::now(),
            memory,
            memory_timeout: config.memory_timeout,
            leave_timeout: config.operation_timeout,
            transport,
            runtime: Handle::current(),
            state: Mutex::new(State {
                cache: Cache::new(config.clone(), node, Arc::clone(&placement)),
                home: Home::new(config, node, placement),
                closed: false,
                last_operation: 0,
                current: None,
                immediate: None,
                replies: BTreeMap::new(),
                armed: None,
            }),
            outbox: Mutex::new(VecDeque::new()),
            sending: Mutex::new(()),
            wake: Arc::clone(&wake),
        });
        inner.runtime.spawn(run_timers(Arc::downgrade(&inner), wake));
        Self { inner }
    }

    /// Takes a message in that `from` has sent. Never blocks for long.
    pub fn deliver(&self, from: NodeId, message: Message) {
        self.inner.drive(|state, now| state.handle_message(now, from, message));
    }

    /// Enters a view. One that is not newer is ignored. Every node must be given the same views,
    /// and a life that was removed from one must not come back in a later one.
    pub fn set_view(&self, view: View) {
        self.inner.drive(|state, now| {
            state.home.handle_view(now, view.clone());
            state.cache.handle_view(now, view);
        });
    }

    /// The lease of this life of the node lasts until `until`: others wait for that long before
    /// they go on without it, and past it nothing is served here. It never becomes shorter.
    ///
    /// Some clocks stand still while a machine is suspended: do not renew across such a gap.
    pub fn set_lease(&self, until: Instant) {
        let until = self.inner.timestamp(until);
        self.inner.drive(|state, now| {
            state.home.handle_lease(until);
            state.cache.handle_lease(now, until);
        });
    }

    /// Reads `key`; `None` where there is no value.
    ///
    /// # Errors
    ///
    /// No [`CacheError::VersionMismatch`] and no [`CacheError::Indeterminate`].
    pub async fn get(&self, key: Bytes) -> Result<Option<Read>, CacheError> {
        match self.perform(|cache, now, id| cache.read(now, id, key)).await {
            Answer::Read(read) => Ok(read),
            other => Err(failure(&other)),
        }
    }

    /// Writes `key`, if `condition` holds; the version that the value has from here on.
    ///
    /// # Errors
    ///
    /// [`CacheError::VersionMismatch`] where the condition does not hold;
    /// [`CacheError::Indeterminate`] where the value may or may not have been written.
    pub async fn put(
        &self,
        key: Bytes,
        value: Bytes,
        condition: Condition,
    ) -> Result<Version, CacheError> {
        match self.perform(|cache, now, id| cache.put(now, id, key, value, condition)).await {
            Answer::Written(version) => Ok(version),
            other => Err(failure(&other)),
        }
    }

    /// Removes `key`, if `condition` holds; `false` where there was no value.
    ///
    /// # Errors
    ///
    /// As [`put`](CacheNode::put).
    pub async fn remove(&self, key: Bytes, condition: Condition) -> Result<bool, CacheError> {
        match self.perform(|cache, now, id| cache.remove(now, id, key, condition)).await {
            Answer::Removed(version) => Ok(version.is_some()),
            other => Err(failure(&other)),
        }
    }

    /// Who holds the line of `key`: asked of its home and of all caches, at no one moment.
    ///
    /// # Errors
    ///
    /// [`CacheError::Unavailable`] where the home does not answer.
    pub async fn line(&self, key: Bytes) -> Result<LineView, CacheError> {
        match self.perform(|cache, now, id| cache.inspect(now, id, key)).await {
            Answer::Line(view) => Ok(view),
            other => Err(failure(&other)),
        }
    }

    /// Counts of what has happened here, and what is held.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let state = self.inner.lock();
        let (cache, home) = (state.cache.statistics(), state.home.statistics());
        Statistics {
            repeats: cache.repeats + home.repeats,
            grants: home.grants,
            memory_failures: home.memory_failures,
            directory: home.directory,
            ..cache
        }
    }

    /// Stores everything that is dirty, without giving it up. Returns whether main memory has it;
    /// `false` once the operation time-out is over.
    pub async fn flush(&self) -> bool {
        self.inner.clean(Cache::flush).await
    }

    /// Writes back what is dirty, gives up every line, and ends. Operations that come later, and
    /// those that wait for a view or a lease, fail with [`CacheError::ShutDown`] at once; others
    /// have until the end. Takes no longer than the operation time-out.
    ///
    /// Lines whose home this node is stay blocked until a view goes on without it.
    pub async fn shutdown(&self) {
        self.inner.clean(Cache::leave).await;
        self.inner.drive(|state, _| state.cache.close());
        self.inner.lock().closed = true;
        self.inner.wake.notify_one();
    }

    pub(super) fn downgrade(&self) -> WeakNode {
        WeakNode { inner: Arc::downgrade(&self.inner) }
    }

    async fn perform(&self, begin: impl FnOnce(&mut Cache, Timestamp, OperationId)) -> Answer {
        let reply = match self.inner.begin(begin) {
            Ok(answer) => return answer,
            Err((operation, receiver)) => Reply::new(Arc::clone(&self.inner), operation, receiver),
        };
        reply.answer().await
    }
}

impl fmt::Debug for CacheNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CacheNode").field("member", &self.inner.member).finish()
    }
}

impl WeakNode {
    pub(super) fn upgrade(&self) -> Option<CacheNode> {
        Some(CacheNode { inner: self.inner.upgrade()? })
    }
}

/// The error in an answer that is none of what was asked for.
fn failure(answer: &Answer) -> CacheError {
    match answer {
        Answer::Failed(error) => *error,
        _ => unreachable!("a core answers an operation with what it asks for"),
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn timestamp(&self, at: Instant) -> Timestamp {
        Timestamp::since_origin(at.saturating_duration_since(self.origin))
    }

    fn now(&self) -> Timestamp {
        self.timestamp(Instant::now())
    }

    /// Gives the cores an input, and does what they ask for.
    fn drive<R>(self: &Arc<Self>, input: impl FnOnce(&mut State, Timestamp) -> R) -> R {
        let mut state = self.lock();
        let result = input(&mut state, self.now());
        let calls = self.pump(&mut state);
        drop(state);
        for call in calls {
            self.runtime.spawn(Arc::clone(self).call_memory(call));
        }
        self.send_outbox();
        result
    }

    /// Takes everything from the cores. Returns the calls of main memory.
    fn pump(&self, state: &mut State) -> Vec<HomeOutput> {
        let mut calls = Vec::new();
        let node = self.member.node;
        loop {
            // Anew each time: a write is acknowledged only if the lease lasts *after* it.
            let now = self.now();
            let (to, message) = if let Some(output) = state.cache.poll_output(now) {
                match output {
                    Output::Send { to, message } => (to, message),
                    Output::Answer { operation, answer } => {
                        state.answer(operation, answer);
                        continue;
                    }
                }
            } else {
                match state.home.poll_output(now) {
                    None => break,
                    Some(HomeOutput::Send { to, message }) => (to, message),
                    Some(call) => {
                        calls.push(call);
                        continue;
                    }
                }
            };
            if to == node {
                state.handle_message(now, node, message);
            } else if !state.closed {
                self.outbox.lock().unwrap_or_else(PoisonError::into_inner).push_back((to, message));
            }
        }
        let next = state.next_deadline();
        if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
            state.armed = next;
            self.wake.notify_one();
        }
        calls
    }

    /// Sends what is in the outbox, unless somebody is at it.
    fn send_outbox(&self) {
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

    async fn call_memory(self: Arc<Self>, call: HomeOutput) {
        let limit = self.memory_timeout;
        match call {
            HomeOutput::Load { call, key } => {
                let loaded = tokio::time::timeout(limit, self.memory.load(&key)).await;
                let loaded = loaded.ok().and_then(Result::ok);
                self.drive(|state, now| state.home.handle_loaded(now, call, loaded));
            }
            HomeOutput::Store { call, writer, key, version, value } => {
                let store = self.memory.store(writer, &key, version, value);
                let outcome = tokio::time::timeout(limit, store).await;
                let outcome = outcome.ok().and_then(Result::ok);
                self.drive(|state, now| state.home.handle_stored(now, call, outcome));
            }
            HomeOutput::Fence { call, epoch } => {
                let fenced = tokio::time::timeout(limit, self.memory.fence(epoch)).await;
                let stands = matches!(fenced, Ok(Ok(())));
                self.drive(|state, now| state.home.handle_fenced(now, call, stands));
            }
            HomeOutput::Send { .. } => unreachable!("messages are sent where they are polled"),
        }
    }

    /// Begins an operation: its answer, or where that will come.
    fn begin(
        self: &Arc<Self>,
        begin: impl FnOnce(&mut Cache, Timestamp, OperationId),
    ) -> Result<Answer, (OperationId, oneshot::Receiver<Answer>)> {
        let mut state = self.lock();
        if state.closed {
            return Ok(Answer::Failed(CacheError::ShutDown));
        }
        state.last_operation += 1;
        let operation = OperationId::new(state.last_operation);
        state.current = Some(operation);
        begin(&mut state.cache, self.now(), operation);
        let calls = self.pump(&mut state);
        state.current = None;
        let result = match state.immediate.take() {
            Some(answer) => Ok(answer),
            None => {
                let (sender, receiver) = oneshot::channel();
                state.replies.insert(operation, sender);
                Err((operation, receiver))
            }
        };
        drop(state);
        for call in calls {
            self.runtime.spawn(Arc::clone(self).call_memory(call));
        }
        self.send_outbox();
        result
    }

    pub(super) fn cancel(self: &Arc<Self>, operation: OperationId) {
        self.drive(|state, _| {
            state.replies.remove(&operation);
            state.cache.cancel(operation);
        });
    }

    /// Does `step` until the cache is clean, but no longer than the time-out.
    async fn clean(self: &Arc<Self>, step: impl Fn(&mut Cache, Timestamp)) -> bool {
        let deadline = Instant::now() + self.leave_timeout;
        loop {
            let clean = self.drive(|state, now| {
                step(&mut state.cache, now);
                state.cache.is_clean()
            });
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

impl State {
    fn handle_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        if self.closed {
            return;
        }
        if message.body.is_for_home() {
            self.home.handle_message(now, from, message);
        } else {
            self.cache.handle_message(now, from, message);
        }
    }

    fn answer(&mut self, operation: OperationId, answer: Answer) {
        if self.current == Some(operation) {
            self.immediate = Some(answer);
        } else if let Some(reply) = self.replies.remove(&operation) {
            // Nobody listens any more: then nobody wants to know.
            let _ = reply.send(answer);
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let (cache, home) = (self.cache.poll_timeout(), self.home.poll_timeout());
        cache.into_iter().chain(home).min()
    }
}

/// Calls the cores when their time has come, for as long as the node is there.
async fn run_timers(inner: Weak<Inner>, wake: Arc<Notify>) {
    loop {
        let Some(node) = inner.upgrade() else { return };
        let deadline = {
            let mut state = node.lock();
            if state.closed {
                return;
            }
            state.armed = state.next_deadline();
            state.armed
        };
        let origin = node.origin;
        drop(node);
        match deadline {
            None => wake.notified().await,
            Some(at) => {
                let at = origin + at.since(Timestamp::ZERO);
                let _ = tokio::time::timeout_at(at, wake.notified()).await;
            }
        }
        let Some(node) = inner.upgrade() else { return };
        node.drive(|state, now| {
            state.cache.handle_timeout(now);
            state.home.handle_timeout(now);
        });
    }
}
