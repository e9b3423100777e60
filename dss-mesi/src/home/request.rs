//! How requests for a line are queued and begun.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Home;
use super::directory::Hold;
use super::transaction::{Job, Transaction};
use crate::flaw::Flaw;
use crate::message::Want;
use crate::version::{RequestId, Version};
use crate::view::{NodeId, Timestamp};

/// A node wants a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) node: NodeId,
    pub(super) request: RequestId,
    pub(super) want: Want,
    pub(super) have: Option<Version>,
}

impl Home {
    pub(super) fn handle_get(&mut self, now: Timestamp, key: &Bytes, request: Request) {
        let careless = self.flawed(Flaw::RequestIdsIgnored);
        let entry = self.directory.entry(key.clone()).or_default();
        let granted = entry.holds.get(request.node).filter(|_| !careless);
        let served = entry.busy.as_deref().and_then(Transaction::request);
        let queued = entry.queue.iter_mut().find(|queued| queued.node == request.node);
        if granted.is_some_and(|hold| request.request < hold.request)
            || served.is_some_and(|served| {
                served.node == request.node && request.request <= served.request
            })
        {
            return;
        }
        match queued {
            Some(queued) if queued.request >= request.request => return,
            Some(queued) => *queued = request,
            None => entry.queue.push_back(request),
        }
        if entry.busy.is_none() && self.is_open() {
            self.next_in_queue(now, key);
        }
        self.bound_directory(now);
    }

    /// Begins what waits for longest, if anything waits; the line must be free.
    pub(super) fn next_in_queue(&mut self, now: Timestamp, key: &Bytes) {
        if !self.is_open() {
            return;
        }
        let careless = self.flawed(Flaw::RequestIdsIgnored);
        while let Some(entry) = self.directory.get_mut(key) {
            let Some(request) = entry.queue.pop_front() else { break };
            match entry.holds.get(request.node).copied().filter(|_| !careless) {
                Some(hold) if request.request < hold.request => {}
                Some(hold) if request.request == hold.request => {
                    self.begin_again(now, key, request, hold);
                    return;
                }
                _ => {
                    self.begin_request(now, key, request);
                    return;
                }
            }
        }
        self.tidy(key);
    }

    /// The grant may not have come through. The node cannot have written: it would not ask.
    fn begin_again(&mut self, now: Timestamp, key: &Bytes, request: Request, hold: Hold) {
        let transaction =
            Transaction::recalling(hold.seq, Job::Repeat(request), Default::default(), false);
        self.begin(now, key, transaction);
    }

    fn begin_request(&mut self, now: Timestamp, key: &Bytes, request: Request) {
        let careless = self.flawed(Flaw::ExclusiveTakenForClean);
        let seq = self.next_seq();
        let Some(entry) = self.directory.get(key) else { return };
        let others: BTreeSet<NodeId> =
            entry.holds.nodes().filter(|node| *node != request.node).collect();
        let (recalled, downgrade) = match request.want {
            Want::Exclusive => (others, false),
            Want::Shared if entry.exclusive && !careless => (others, true),
            Want::Shared => (BTreeSet::new(), true),
        };
        let job = Job::Grant(request);
        self.begin(now, key, Transaction::recalling(seq, job, recalled, downgrade));
    }
}
