//! How a home enters a view: fence, surrender of all, then open.

use std::collections::BTreeSet;

use super::directory::Entry;
use super::{Home, HomeOutput, MemoryCall, Purpose, Timer};
use crate::flaw::Flaw;
use crate::message::Body;
use crate::timer::Retry;
use crate::view::{NodeId, Timestamp, View};

/// Whether requests are served.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Gate {
    /// This node is in no view.
    Closed,
    /// Others may still act under the old view.
    Opening {
        /// Who may not have given up what moved here.
        awaited: BTreeSet<NodeId>,
        fence: Fence,
    },
    /// Nobody acts under an older view in a way that matters here.
    Open,
}

/// Whether main memory refuses what was sent to it under older views.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Fence {
    Raising(MemoryCall),
    Failed(Retry),
    Stands,
}

impl Home {
    /// Enters a view. One that is not newer is ignored.
    ///
    /// Transactions end, since the messages of the old view are void; whoever waits asks again.
    /// Of the lines that stay here it is known who holds them, the lost members excepted.
    pub fn handle_view(&mut self, now: Timestamp, view: View) {
        if view.epoch <= self.view.epoch {
            return;
        }
        let old = std::mem::replace(&mut self.view, view);
        self.calls.clear();
        self.timers.clear();
        if !self.view.contains(self.member) {
            self.directory.clear();
            self.gate = Gate::Closed;
            return;
        }
        let (placed, view, node) = (&self.placed, &self.view, self.member.node);
        self.directory.retain(|key, entry| {
            let Entry { holds, exclusive, busy, queue } = entry;
            *busy = None;
            queue.clear();
            holds.retain(|node| {
                let life = view.incarnation(node);
                life.is_some() && life == old.incarnation(node)
            });
            *exclusive = *exclusive && !holds.is_empty();
            !holds.is_empty() && placed.home(key, view) == Some(node)
        });
        let awaited = self.view.nodes().collect();
        let fence = self.raise_fence();
        self.gate = Gate::Opening { awaited, fence };
        if self.flawed(Flaw::NoSurrenderWait) {
            self.gate = Gate::Open;
        }
        self.open_if_ready(now);
    }

    fn raise_fence(&mut self) -> Fence {
        let call = self.next_call(Purpose::Fence);
        self.outputs.push_back(HomeOutput::Fence { call, epoch: self.view.epoch });
        Fence::Raising(call)
    }

    pub(super) fn fence_ended(&mut self, now: Timestamp, stands: bool) {
        let retry = Retry::new(now, self.config.backoff);
        let Gate::Opening { fence, .. } = &mut self.gate else { return };
        if stands {
            *fence = Fence::Stands;
            self.open_if_ready(now);
        } else {
            *fence = Fence::Failed(retry);
            self.timers.arm(retry.at(), Timer::Fence);
        }
    }

    pub(super) fn repeat_fence(&mut self, now: Timestamp) {
        let Gate::Opening { fence: Fence::Failed(retry), .. } = &mut self.gate else { return };
        if !retry.is_due(now, self.config.backoff) {
            return;
        }
        let raising = self.raise_fence();
        if let Gate::Opening { fence, .. } = &mut self.gate {
            *fence = raising;
        }
    }

    pub(super) fn handle_surrender(&mut self, now: Timestamp, from: NodeId) {
        if let Gate::Opening { awaited, .. } = &mut self.gate {
            awaited.remove(&from);
        }
        self.send(from, Body::SurrenderAck);
        self.open_if_ready(now);
    }

    /// Whether main memory may be written: it takes nothing from older views any more.
    pub(super) fn is_fenced(&self) -> bool {
        matches!(self.gate, Gate::Open | Gate::Opening { fence: Fence::Stands, .. })
    }

    fn open_if_ready(&mut self, now: Timestamp) {
        let Gate::Opening { awaited, fence: Fence::Stands } = &self.gate else { return };
        if !awaited.is_empty() {
            return;
        }
        self.gate = Gate::Open;
        let waiting: Vec<_> = self
            .directory
            .iter()
            .filter(|(_, entry)| entry.busy.is_none() && !entry.queue.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in waiting {
            self.next_in_queue(now, &key);
        }
    }
}
