//! The node that a program holds.

use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::Clock;
use super::drive::Inner;
use super::fence::Fencing;
use super::load::Flights;
use super::part::Part;
use super::reply::Reply;
use super::timers;
use super::unison::Unison;
use crate::cache::{Answer, Cache, Condition, Dropped, LineView, OperationId, Read};
use crate::config::CacheConfig;
use crate::error::CacheError;
use crate::home::Home;
use crate::message::Message;
use crate::ports::{Memory, Placement, Transport};
use crate::statistics::Statistics;
use crate::version::Version;
use crate::view::{Member, NodeId, Timestamp, View};

/// One node of a coherent cache: its [`Cache`], and the [`Home`] of its share of the keys.
///
/// Clones are the same node; it ends when the last one is dropped. Every operation may be dropped
/// before it is done: a write may then have been done or not.
#[derive(Clone)]
pub struct CacheNode {
    pub(super) inner: Arc<Inner>,
}

/// A [`CacheNode`] that does not keep the node alive.
#[derive(Debug, Clone)]
pub(super) struct WeakNode {
    inner: Weak<Inner>,
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
    #[expect(clippy::needless_pass_by_value, reason = "the ports are handed over for good")]
    pub fn start(
        config: CacheConfig,
        node: Member,
        memory: Arc<dyn Memory>,
        transport: Arc<dyn Transport>,
        placement: Arc<dyn Placement>,
    ) -> Self {
        let wake = Arc::new(Notify::new());
        let (memory_timeout, operation_timeout) = (config.memory_timeout, config.operation_timeout);
        // Drawn anew by each node, so that nobody can choose keys that all hash alike.
        let hash_seed = std::hash::RandomState::new().hash_one(node.node.get());
        let parts = config.parts();
        let config = config.part(parts, hash_seed);
        let part = |_| {
            let cache = Cache::new(config.clone(), node, Arc::clone(&placement));
            let home = Home::new(config.clone(), node, Arc::clone(&placement));
            Mutex::new(Part::new(cache, home))
        };
        let inner = Arc::new(Inner {
            member: node,
            clock: Clock::start(),
            memory,
            memory_timeout,
            operation_timeout,
            transport,
            runtime: Handle::current(),
            hash_seed,
            parts: (0..parts).map(part).collect(),
            surrenders: Mutex::new(Unison::default()),
            surrender_acks: Mutex::new(Unison::default()),
            fencing: Fencing::default(),
            outbox: Mutex::new(VecDeque::new()),
            sending: Mutex::new(()),
            wake: Arc::clone(&wake),
            armed: AtomicU64::new(u64::MAX),
            listener: OnceLock::new(),
            flights: Flights::default(),
        });
        inner.runtime.spawn(timers::run(Arc::downgrade(&inner), wake));
        Self { inner }
    }

    /// Takes a message in that `from` has sent. Never blocks for long.
    pub fn deliver(&self, from: NodeId, message: Message) {
        self.inner.deliver(from, message);
    }

    /// Enters a view. One that is not newer is ignored. Every node must be given the same views,
    /// and a life that was removed from one must not come back in a later one.
    #[expect(clippy::needless_pass_by_value, reason = "a view is handed over for good")]
    pub fn set_view(&self, view: View) {
        self.inner.drive_all(|part, now| {
            part.home.handle_view(now, view.clone());
            part.cache.handle_view(now, view.clone());
        });
    }

    /// The lease of this life of the node lasts until `until`: others wait for that long before
    /// they go on without it, and past it nothing is served here. It never becomes shorter.
    ///
    /// Some clocks stand still while a machine is suspended: do not renew across such a gap.
    pub fn set_lease(&self, until: Instant) {
        let until = self.inner.clock.timestamp(until);
        self.inner.drive_all(|part, now| {
            part.home.handle_lease(until);
            part.cache.handle_lease(now, until);
        });
    }

    /// Calls `listener` with every line that this node no longer holds, whatever the cause, from
    /// then on. It is called without any lock by whoever caused it, and should return soon. Returns
    /// whether it is the first listener; there is only one.
    pub fn on_dropped(&self, listener: impl Fn(Dropped) + Send + Sync + 'static) -> bool {
        self.inner.listener.set(Box::new(listener)).is_ok()
    }

    /// Reads `key` if it is held here, and never waits: `None` where [`get`](CacheNode::get) has to
    /// ask for it, and `Some(None)` where it is known that there is no value.
    #[must_use]
    pub fn get_cached(&self, key: &[u8]) -> Option<Option<Read>> {
        self.inner.hit(key)
    }

    /// Reads `key`; `None` where there is no value.
    ///
    /// # Errors
    ///
    /// No [`CacheError::VersionMismatch`] and no [`CacheError::Indeterminate`].
    pub async fn get(&self, key: Bytes) -> Result<Option<Read>, CacheError> {
        if let Some(read) = self.inner.hit(&key) {
            return Ok(read);
        }
        read(self.begin(key, Cache::read).answer().await)
    }

    /// Reads many keys at once, in the time of one.
    ///
    /// # Errors
    ///
    /// For each key as [`get`](CacheNode::get).
    pub async fn get_many(
        &self,
        keys: impl IntoIterator<Item = Bytes>,
    ) -> Vec<Result<Option<Read>, CacheError>> {
        let begun: Vec<Reply> = keys.into_iter().map(|key| self.begin(key, Cache::read)).collect();
        let mut reads = Vec::with_capacity(begun.len());
        for reply in begun {
            reads.push(read(reply.answer().await));
        }
        reads
    }

    /// Reads `key`, and takes its line for writing: a write that follows soon costs no message but
    /// that to main memory. `None` where there is no value.
    ///
    /// # Errors
    ///
    /// As [`get`](CacheNode::get).
    pub async fn own(&self, key: Bytes) -> Result<Option<Read>, CacheError> {
        read(self.begin(key, Cache::own).answer().await)
    }

    pub(super) async fn own_and_hold(
        &self,
        key: Bytes,
        until: Timestamp,
    ) -> Result<Option<Read>, CacheError> {
        let begin = |cache: &mut Cache, now, id, key| cache.own_and_hold(now, id, key, until);
        read(self.begin(key, begin).answer().await)
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
        written(self.begin_put(key, value, condition).answer().await)
    }

    /// Writes many keys at once, in the time of one. Each is a write by itself: they are not one
    /// step.
    ///
    /// # Errors
    ///
    /// For each key as [`put`](CacheNode::put).
    pub async fn put_many(
        &self,
        entries: impl IntoIterator<Item = (Bytes, Bytes)>,
    ) -> Vec<Result<Version, CacheError>> {
        let begin = |(key, value)| self.begin_put(key, value, Condition::None);
        let begun: Vec<Reply> = entries.into_iter().map(begin).collect();
        let mut writes = Vec::with_capacity(begun.len());
        for reply in begun {
            writes.push(written(reply.answer().await));
        }
        writes
    }

    /// Writes `key` if its value has the version `expected`, or has none where that is `None`.
    ///
    /// # Errors
    ///
    /// As [`put`](CacheNode::put).
    pub async fn compare_and_set(
        &self,
        key: Bytes,
        expected: Option<Version>,
        value: Bytes,
    ) -> Result<Version, CacheError> {
        self.put(key, value, expected.map_or(Condition::Absent, Condition::Matches)).await
    }

    /// Removes `key`, if `condition` holds; `false` where there was no value.
    ///
    /// # Errors
    ///
    /// As [`put`](CacheNode::put).
    pub async fn remove(&self, key: Bytes, condition: Condition) -> Result<bool, CacheError> {
        let begin = |cache: &mut Cache, now, id, key| cache.remove(now, id, key, condition);
        match self.begin(key, begin).answer().await {
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
        match self.begin(key, Cache::inspect).answer().await {
            Answer::Line(view) => Ok(view),
            other => Err(failure(&other)),
        }
    }

    /// Counts of what has happened here, and what is held.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let parts = 0..self.inner.parts.len();
        parts
            .fold(Statistics::default(), |sum, place| sum.plus(self.inner.part(place).statistics()))
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
        self.inner.drive_all(|part, _| part.cache.close());
        for place in 0..self.inner.parts.len() {
            self.inner.part(place).closed = true;
        }
        self.inner.wake.notify_one();
    }

    pub(super) fn downgrade(&self) -> WeakNode {
        WeakNode { inner: Arc::downgrade(&self.inner) }
    }

    fn begin(
        &self,
        key: Bytes,
        begin: impl FnOnce(&mut Cache, Timestamp, OperationId, Bytes),
    ) -> Reply {
        let place = self.inner.place_of(&key);
        Reply::begin(&self.inner, place, |cache, now, id| begin(cache, now, id, key))
    }

    fn begin_put(&self, key: Bytes, value: Bytes, condition: Condition) -> Reply {
        self.begin(key, |cache, now, id, key| cache.put(now, id, key, value, condition))
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

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inner").field("member", &self.member).finish_non_exhaustive()
    }
}

fn read(answer: Answer) -> Result<Option<Read>, CacheError> {
    match answer {
        Answer::Read(read) => Ok(read),
        other => Err(failure(&other)),
    }
}

fn written(answer: Answer) -> Result<Version, CacheError> {
    match answer {
        Answer::Written(version) => Ok(version),
        other => Err(failure(&other)),
    }
}

/// The error in an answer that is none of what was asked for.
fn failure(answer: &Answer) -> CacheError {
    match answer {
        Answer::Failed(error) => *error,
        _ => unreachable!("a core answers an operation with what it asks for"),
    }
}
