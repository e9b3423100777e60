//! The cache side of the protocol.

mod dropped;
mod grant;
mod hit;
mod hold;
mod inspect;
mod lines;
mod numbers;
mod operation;
mod recall;
mod slot;
mod timeout;
mod view_change;
mod write;
mod write_back;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use self::dropped::{Cause, Dropped};
#[cfg(feature = "tokio")]
pub(crate) use self::lines::hash_of;
pub use self::operation::{Answer, Condition, LineView, OperationId, Read};

use self::grant::Pending;
use self::hold::Hold;
use self::inspect::Inspection;
use self::lines::Lines;
use self::operation::{Action, Operation};
use self::view_change::Surrendering;
use self::write_back::WriteBack;
use crate::config::CacheConfig;
use crate::error::CacheError;
use crate::flaw::Flaw;
use crate::line::LineState;
use crate::message::{Body, Message};
use crate::placed::Placed;
use crate::ports::Placement;
use crate::statistics::Statistics;
use crate::timer::Timers;
use crate::version::{RequestId, Version};
use crate::view::{Member, NodeId, Timestamp, View};

/// The cache of one node: a deterministic core.
///
/// What it holds of a key is a *line* (M, E or S; no line is I), perhaps a *pending* request to
/// the key's home, perhaps a *write-back*: data that it has given up and the home has not yet
/// confirmed to be in main memory. There are no other states:
///
/// | event | S | E | M | no line |
/// | --- | --- | --- | --- | --- |
/// | read | answer | answer | answer | join or open a pending request, after any write-back |
/// | write, write-through | request; readable meanwhile | send to the home; readable once stored | – | request |
/// | write, write-back | request; readable meanwhile | → M | write | request |
/// | `Grant` of the pending request, not below its floor | install, do what waits | – | – | install, do what waits |
/// | `Grant` of the pending request, below its floor | never install; ask anew | – | – | never install; ask anew |
/// | any other `Grant` | ignore | ignore | ignore | ignore |
/// | `Invalidate` | drop, `Ack` | drop, `Ack` | → write-back, `Ack` with data | `Ack` with the write-back, if any |
/// | `Downgrade` | `Ack` kept | → S, `Ack` kept | copy → write-back, → S, `Ack` kept with data | `Ack` with the write-back, if any |
/// | recall older than line or write-back | ignore | ignore | ignore | ignore |
/// | evict | drop, `Hint` | drop, `Hint` | → write-back, `Put` | |
///
/// Every recall raises the floor of a pending request. A line with a request or a write-through
/// under way is not evicted. A write-through under way when its line is recalled, or its home
/// moves, becomes a write-back, whose confirmation answers the client. Whatever is not answered is
/// repeated.
///
/// Operations ([`read`](Cache::read), [`put`](Cache::put), …) end in an [`Output::Answer`] each.
/// After every call outputs are polled until there are none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
// What every hit looks at comes first, so that it lies together.
#[repr(C)]
pub struct Cache {
    /// Until when what is held may be read without looking at view and lease, and at the exact time.
    open_until: Timestamp,
    /// Reads that took the short way.
    hits: u64,
    lines: Lines,
    config: CacheConfig,
    member: Member,
    placed: Placed,
    view: View,
    /// Nothing is served at or after it.
    lease: Option<Timestamp>,
    leaving: bool,
    /// Whether this life of the node is in the view.
    is_member: bool,
    /// Invariant: no key has both a request here and a write-back, or a request and an owned line.
    pending: BTreeMap<Bytes, Pending>,
    write_backs: BTreeMap<Bytes, WriteBack>,
    /// Owned lines that are not given up for the moment.
    holds: BTreeMap<Bytes, Hold>,
    surrenders: BTreeMap<NodeId, Surrendering>,
    /// Wait for a view and a lease.
    parked: Vec<(Bytes, Operation)>,
    /// Wait for fewer write-backs.
    stalled: VecDeque<(Bytes, Operation)>,
    /// Operations that were not answered at once.
    open: BTreeMap<OperationId, OpenOperation>,
    inspections: BTreeMap<RequestId, Inspection>,
    hints: write_back::Hints,
    last_request: u64,
    /// When it is next looked for lines that are held for too long.
    next_sweep: Option<Timestamp>,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
    statistics: Statistics,
}

/// One thing to do for a [`Cache`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send; it may be lost. The receiver may be this node, whose home then gets it.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// A line is no longer held: for whoever wants to know.
    Dropped(Dropped),
    /// An operation has ended.
    Answer {
        /// Which.
        operation: OperationId,
        /// How.
        answer: Answer,
    },
}

/// An operation that waits for something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct OpenOperation {
    key: Bytes,
    deadline: Timestamp,
}

/// What a cache looks at when its time has come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// Repeat a request.
    Get(Bytes),
    /// Repeat a write-back.
    WriteBack(Bytes),
    /// Repeat a write-through.
    Through(Bytes),
    /// A line has been modified for as long as it may be.
    Flush(Bytes),
    /// Tell homes what was dropped.
    Hints,
    /// Look for lines that were held for too long.
    Sweep,
    /// The lease is about to end.
    Lease,
    /// Repeat a surrender.
    Surrender(NodeId),
    /// Repeat the questions of an inspection.
    Inspect(RequestId),
    /// Give an operation up.
    Operation(OperationId),
}

impl Cache {
    /// An empty cache of `member`, in no view and without a lease.
    #[must_use]
    pub fn new(config: CacheConfig, member: Member, placement: Arc<dyn Placement>) -> Self {
        let lines = Lines::new(config.hash_seed);
        Self {
            open_until: Timestamp::ZERO,
            hits: 0,
            lines,
            config,
            member,
            placed: Placed(placement),
            view: View::default(),
            lease: None,
            leaving: false,
            is_member: false,
            pending: BTreeMap::new(),
            write_backs: BTreeMap::new(),
            holds: BTreeMap::new(),
            surrenders: BTreeMap::new(),
            parked: Vec::new(),
            stalled: VecDeque::new(),
            open: BTreeMap::new(),
            inspections: BTreeMap::new(),
            hints: write_back::Hints::default(),
            last_request: 0,
            next_sweep: None,
            timers: Timers::new(),
            outputs: VecDeque::new(),
            statistics: Statistics::default(),
        }
    }

    /// The view that it acts under.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// How it holds the line of `key`, and which version of it.
    #[must_use]
    pub fn line(&self, key: &Bytes) -> (LineState, Option<Version>) {
        self.lines.state(key).unwrap_or((LineState::Invalid, None))
    }

    /// Whether something of `key` was given up that may not be in main memory.
    #[must_use]
    pub fn is_writing_back(&self, key: &Bytes) -> bool {
        self.write_backs.contains_key(key)
    }

    /// Whether main memory has everything that was written here.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.write_backs.is_empty() && self.lines.modified() == 0 && self.lines.written() == 0
    }

    /// Whether nothing is under way.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.write_backs.is_empty() && self.lines.written() == 0
    }

    /// Whether something of the line is on its way to main memory while it stays.
    #[cfg(test)]
    pub(crate) fn is_writing(&self, key: &Bytes) -> bool {
        self.lines.peek(key).is_some_and(|line| line.through.is_some())
    }

    /// Drops the line as if to make room.
    #[cfg(test)]
    pub(crate) fn evict_line(&mut self, now: Timestamp, key: &Bytes) {
        let pinned = self.pending.contains_key(key) || self.lines.is_being_written(key);
        if !pinned {
            self.drop_line(now, key, Cause::Capacity);
        }
    }

    /// So that counts do not make states different.
    #[cfg(test)]
    pub(crate) fn forget_statistics(&mut self) {
        self.statistics = Statistics::default();
        self.hits = 0;
    }

    /// Counts of what has happened and what is held. Those of the home are zero.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let (modified, exclusive) = (self.lines.modified(), self.lines.exclusive());
        Statistics {
            hits: self.hits + self.statistics.hits,
            modified,
            exclusive,
            shared: self.lines.len() - modified - exclusive,
            bytes: self.lines.bytes(),
            writing_back: self.write_backs.len(),
            ..self.statistics
        }
    }

    /// Takes a message in. What comes from another view, or makes no sense, is ignored.
    pub fn handle_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        if message.epoch != self.view.epoch && !self.flawed(Flaw::NoEpochCheck) {
            return;
        }
        if !self.is_member || self.view.incarnation(from).is_none() {
            return;
        }
        match message.body {
            Body::Grant { key, request, seq, exclusive, version, payload } => {
                let grant = grant::Grant { request, seq, exclusive, version, payload };
                self.handle_grant(now, from, &key, grant);
            }
            Body::Invalidate { key, recall } => self.handle_invalidate(now, from, &key, recall),
            Body::Downgrade { key, recall } => self.handle_downgrade(now, from, &key, recall),
            Body::PutAck { key, grant } => self.handle_put_ack(now, &key, grant),
            Body::WriteThroughAck { key, version } => {
                self.handle_write_through_ack(now, &key, version);
            }
            Body::SurrenderAck => {
                self.surrenders.remove(&from);
            }
            Body::Inspected { request, version, holders, exclusive, .. } => {
                self.handle_inspected(from, request, version, holders, exclusive);
            }
            Body::Peek { key, request } => self.handle_peek(from, &key, request),
            Body::Peeked { request, state, version, .. } => {
                self.handle_peeked(from, request, state, version);
            }
            Body::Get { .. }
            | Body::Ack { .. }
            | Body::Put { .. }
            | Body::WriteThrough { .. }
            | Body::Surrender
            | Body::Hint { .. }
            | Body::Inspect { .. } => {}
        }
    }

    /// Reads `key`.
    pub fn read(&mut self, now: Timestamp, id: OperationId, key: Bytes) {
        self.begin(now, key, Operation { id, action: Action::Read });
    }

    /// Reads `key` and takes it for writing: a write that follows soon costs no further request.
    pub fn own(&mut self, now: Timestamp, id: OperationId, key: Bytes) {
        self.begin(now, key, Operation { id, action: Action::Own { hold: None } });
    }

    /// The same and, where there is no value, keeps the line until it is [let go](Cache::let_go), or
    /// `until`: the home's recalls stay unanswered, as if they had been lost on the way, and others
    /// wait. A view change takes the line all the same.
    pub fn own_and_hold(&mut self, now: Timestamp, id: OperationId, key: Bytes, until: Timestamp) {
        self.begin(now, key, Operation { id, action: Action::Own { hold: Some(until) } });
    }

    /// Writes `key`, if `condition` holds.
    pub fn put(
        &mut self,
        now: Timestamp,
        id: OperationId,
        key: Bytes,
        value: Bytes,
        condition: Condition,
    ) {
        let (bytes, limit) = (value.len(), self.config.value_bytes_max);
        if bytes > limit {
            self.fail(id, CacheError::TooLarge { bytes, limit });
            return;
        }
        self.begin(now, key, Operation { id, action: Action::Put { value, condition } });
    }

    /// Removes `key`, if `condition` holds.
    pub fn remove(&mut self, now: Timestamp, id: OperationId, key: Bytes, condition: Condition) {
        self.begin(now, key, Operation { id, action: Action::Remove { condition } });
    }

    /// The next thing to do; `None` where nothing is left to do.
    ///
    /// An answer is checked against the lease here: pass the time as it is *after* whatever was
    /// done before.
    #[must_use]
    pub fn poll_output(&mut self, now: Timestamp) -> Option<Output> {
        match self.outputs.pop_front()? {
            Output::Answer { operation, answer } if !self.is_leased(now) => {
                Some(Output::Answer { operation, answer: answer.past_lease() })
            }
            output => Some(output),
        }
    }

    /// When to call [`handle_timeout`](Cache::handle_timeout) next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    fn begin(&mut self, now: Timestamp, key: Bytes, operation: Operation) {
        if self.leaving {
            self.fail(operation.id, CacheError::ShutDown);
        } else if self.is_serving(now) {
            self.start(now, key, operation, true);
        } else {
            self.register(now, operation.id, &key, self.config.patience);
            self.parked.push((key, operation));
        }
    }

    fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| now < lease) || self.flawed(Flaw::NoLeaseCheck)
    }

    fn is_serving(&self, now: Timestamp) -> bool {
        self.is_leased(now) && self.is_member
    }

    fn home(&self, key: &Bytes) -> Option<NodeId> {
        self.placed.home(key, &self.view)
    }

    fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { epoch: self.view.epoch, body };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Notes that the operation is not answered at once, and for how long it may stay so; whether
    /// that was not noted yet.
    fn register(&mut self, now: Timestamp, id: OperationId, key: &Bytes, span: Duration) -> bool {
        if self.open.contains_key(&id) {
            return false;
        }
        let deadline = now + span;
        self.open.insert(id, OpenOperation { key: key.clone(), deadline });
        self.timers.arm(deadline, Timer::Operation(id));
        true
    }

    /// Undoes [`register`](Cache::register); whether there was anything to undo.
    fn unregister(&mut self, id: OperationId) -> bool {
        let Some(open) = self.open.remove(&id) else { return false };
        self.timers.disarm(open.deadline, Timer::Operation(id));
        true
    }

    fn answer(&mut self, operation: OperationId, answer: Answer) {
        self.unregister(operation);
        self.outputs.push_back(Output::Answer { operation, answer });
    }

    fn fail(&mut self, operation: OperationId, error: CacheError) {
        self.answer(operation, Answer::Failed(error));
    }

    /// Gives the answers that waited for main memory to those who still wait.
    fn answer_stored(&mut self, answers: Vec<(OperationId, Answer)>) {
        for (operation, answer) in answers {
            if self.open.contains_key(&operation) {
                self.answer(operation, answer);
            }
        }
    }

    #[cfg(test)]
    fn flawed(&self, flaw: Flaw) -> bool {
        self.config.flaw == Some(flaw)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "built for tests it looks into the configuration")]
    const fn flawed(&self, _: Flaw) -> bool {
        false
    }
}
