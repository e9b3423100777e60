//! The home side of the protocol.

mod answer;
mod directory;
mod gate;
mod holds;
mod request;
mod transaction;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use self::directory::Entry;
use self::gate::Gate;
use crate::config::CacheConfig;
use crate::flaw::Flaw;
use crate::message::{Body, Message};
use crate::placed::Placed;
use crate::ports::{Placement, StoreOutcome, Stored};
use crate::statistics::Statistics;
use crate::timer::Timers;
use crate::version::{RequestId, Seq, Version};
use crate::view::{Epoch, Member, NodeId, Timestamp, View};

/// The home of the lines that the placement gives to one node: a deterministic core.
///
/// For each line it knows who *holds* it, by which request and since which grant, and whether the
/// one holder holds it *exclusively*. It works on one transaction per line at a time; each takes
/// the next number of the home's one sequence:
///
/// | event | line is free | line is busy |
/// | --- | --- | --- |
/// | `Get` older than the one granted to the sender | ignore | ignore |
/// | `Get` that was granted | repeat that grant, with the value from main memory | queue |
/// | `Get` otherwise | begin: recall, store what comes back, load, grant | queue, newest of each node |
/// | – for reading | `Downgrade` to an exclusive holder | |
/// | – for writing | `Invalidate` to every other holder | |
/// | `Ack` of the recall under way | – | the sender holds nothing, or shares; data is stored, then confirmed |
/// | `Ack` of an older recall, with data | confirm, unless from the exclusive grant | ignore |
/// | `Put` from the exclusive grant | store, confirm, nobody holds | as `Ack` with data, if the sender is recalled |
/// | `Put` otherwise | confirm: it is stored already | ignore |
/// | `WriteThrough` from the exclusive grant | store, confirm | ignore |
/// | `Hint` of the present grant | the sender holds nothing | ignore |
///
/// Data is stored before anybody else is granted the line: so main memory is current unless
/// somebody owns the line, and what was ever read survives the loss of this directory.
///
/// A new view finds the home closed: it raises the fence in main memory, waits until every member
/// has surrendered, stores what they give up meanwhile, and then serves what has queued.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Home {
    config: CacheConfig,
    member: Member,
    placed: Placed,
    view: View,
    /// Nothing is granted, loaded or stored at or after it.
    lease: Option<Timestamp>,
    gate: Gate,
    /// Counts transactions, over all lines and views.
    count: u64,
    directory: BTreeMap<Bytes, Entry>,
    /// Where the search for a line to forget goes on.
    cursor: Bytes,
    calls: BTreeMap<MemoryCall, Purpose>,
    last_call: u64,
    timers: Timers<Timer>,
    outputs: VecDeque<HomeOutput>,
    statistics: Statistics,
}

/// Names one call of main memory between its output and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryCall(u64);

/// One thing to do for a [`Home`]. Calls of main memory may run side by side.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HomeOutput {
    /// Send; it may be lost. The receiver may be this node, whose cache then gets it.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Load from main memory, then call [`Home::handle_loaded`].
    Load {
        /// Which call.
        call: MemoryCall,
        /// The key.
        key: Bytes,
    },
    /// Store in main memory, then call [`Home::handle_stored`].
    Store {
        /// Which call.
        call: MemoryCall,
        /// The view in which it is stored.
        writer: Epoch,
        /// The key.
        key: Bytes,
        /// The version.
        version: Version,
        /// The value; `None` is a tombstone.
        value: Option<Bytes>,
    },
    /// Raise the fence of main memory, then call [`Home::handle_fenced`].
    Fence {
        /// Which call.
        call: MemoryCall,
        /// To which epoch.
        epoch: Epoch,
    },
}

/// What a call of main memory is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Purpose {
    /// The transaction of this line.
    Line(Bytes),
    /// The fence of the view.
    Fence,
    /// The version that an inspection shows.
    Inspect { key: Bytes, node: NodeId, request: RequestId },
}

/// What a home looks at when its time has come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    /// Repeat what the transaction of a line waits for.
    Line(Bytes),
    /// Raise the fence again.
    Fence,
}

impl Home {
    /// A home on `member` that knows of nobody holding anything.
    #[must_use]
    pub fn new(config: CacheConfig, member: Member, placement: Arc<dyn Placement>) -> Self {
        Self {
            config,
            member,
            placed: Placed(placement),
            view: View::default(),
            lease: None,
            gate: Gate::Closed,
            count: 0,
            directory: BTreeMap::new(),
            cursor: Bytes::new(),
            calls: BTreeMap::new(),
            last_call: 0,
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

    /// Whether every member has surrendered in this view and the fence stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gate == Gate::Open
    }

    /// Whether no line has a transaction under way.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.directory.values().all(|entry| entry.busy.is_none())
    }

    /// So that counts do not make states different.
    #[cfg(test)]
    pub(crate) fn forget_statistics(&mut self) {
        self.statistics = Statistics::default();
    }

    /// Counts of what has happened. Those of the cache are zero.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics { directory: self.directory.len(), ..self.statistics }
    }

    /// The node's lease lasts until `until`. A lease never becomes shorter.
    pub fn handle_lease(&mut self, until: Timestamp) {
        self.lease = self.lease.max(Some(until));
    }

    /// Takes a message in. What comes from another view, or makes no sense, is ignored.
    pub fn handle_message(&mut self, now: Timestamp, from: NodeId, message: Message) {
        if message.epoch != self.view.epoch && !self.flawed(Flaw::NoEpochCheck) {
            return;
        }
        if !self.view.contains(self.member) || self.view.incarnation(from).is_none() {
            return;
        }
        match message.body {
            Body::Surrender => self.handle_surrender(now, from),
            Body::Hint { lines } => {
                for (key, seq) in lines {
                    self.handle_hint(from, &key, seq);
                }
            }
            Body::Get { key, request, want, have } if self.is_home(&key) => {
                self.handle_get(now, &key, request::Request { node: from, request, want, have });
            }
            Body::Ack { key, recall, kept, data } if self.is_home(&key) => {
                self.handle_ack(now, from, &key, answer::Ack { recall, kept, data });
            }
            Body::Put { key, data } if self.is_home(&key) => self.handle_put(now, from, &key, data),
            Body::WriteThrough { key, data } if self.is_home(&key) => {
                self.handle_write_through(now, from, &key, data);
            }
            Body::Inspect { key, request } if self.is_home(&key) => {
                let purpose = Purpose::Inspect { key: key.clone(), node: from, request };
                let call = self.next_call(purpose);
                self.outputs.push_back(HomeOutput::Load { call, key });
            }
            _ => {}
        }
    }

    /// A [`HomeOutput::Load`] has ended; `None`: without an answer.
    pub fn handle_loaded(
        &mut self,
        now: Timestamp,
        call: MemoryCall,
        loaded: Option<Option<Stored>>,
    ) {
        self.statistics.memory_failures += u64::from(loaded.is_none());
        match self.calls.remove(&call) {
            Some(Purpose::Line(key)) => self.line_loaded(now, &key, loaded),
            Some(Purpose::Inspect { key, node, request }) => {
                let Some(stored) = loaded else { return };
                let entry = self.directory.get(&key);
                let holders = entry.map_or(Vec::new(), |entry| entry.holds.nodes().collect());
                let exclusive = entry.is_some_and(|entry| entry.exclusive);
                let version = stored.map(|stored| stored.version);
                let answer = Body::Inspected { key, request, version, holders, exclusive };
                self.send(node, answer);
            }
            Some(Purpose::Fence) | None => {}
        }
    }

    /// A [`HomeOutput::Store`] has ended; `None`: with an unknown outcome.
    pub fn handle_stored(
        &mut self,
        now: Timestamp,
        call: MemoryCall,
        outcome: Option<StoreOutcome>,
    ) {
        self.statistics.memory_failures += u64::from(outcome.is_none());
        if let Some(Purpose::Line(key)) = self.calls.remove(&call) {
            self.line_stored(now, &key, outcome);
        }
    }

    /// A [`HomeOutput::Fence`] has ended; whether the fence stands.
    pub fn handle_fenced(&mut self, now: Timestamp, call: MemoryCall, stands: bool) {
        self.statistics.memory_failures += u64::from(!stands);
        if self.calls.remove(&call) == Some(Purpose::Fence) {
            self.fence_ended(now, stands);
        }
    }

    /// Does what is due. Early, late or repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Line(key) => self.repeat_line(now, &key),
                Timer::Fence => self.repeat_fence(now),
            }
        }
    }

    /// The next thing to do; `None` where nothing is left to do.
    ///
    /// Past the lease nothing is granted and main memory is not called: such outputs are dropped,
    /// and repeated should the lease be renewed.
    #[must_use]
    pub fn poll_output(&mut self, now: Timestamp) -> Option<HomeOutput> {
        loop {
            let output = self.outputs.pop_front()?;
            if self.lease.is_some_and(|lease| now < lease) {
                return Some(output);
            }
            match output {
                HomeOutput::Send { message: Message { body: Body::Grant { .. }, .. }, .. } => {}
                HomeOutput::Send { .. } => return Some(output),
                HomeOutput::Load { call, .. } => self.handle_loaded(now, call, None),
                HomeOutput::Store { call, .. } => self.handle_stored(now, call, None),
                HomeOutput::Fence { call, .. } => self.handle_fenced(now, call, false),
            }
        }
    }

    /// When to call [`handle_timeout`](Home::handle_timeout) next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    fn is_home(&self, key: &Bytes) -> bool {
        self.placed.home(key, &self.view) == Some(self.member.node)
    }

    fn next_seq(&mut self) -> Seq {
        self.count += 1;
        Seq { epoch: self.view.epoch, count: self.count }
    }

    fn next_call(&mut self, purpose: Purpose) -> MemoryCall {
        self.last_call += 1;
        let call = MemoryCall(self.last_call);
        self.calls.insert(call, purpose);
        call
    }

    fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { epoch: self.view.epoch, body };
        self.outputs.push_back(HomeOutput::Send { to, message });
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
