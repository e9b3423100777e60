//! Looking at a line from outside: what its home knows, and what each cache holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::operation::{Answer, LineView, OperationId};
use super::{Cache, Timer};
use crate::error::CacheError;
use crate::line::LineState;
use crate::message::Body;
use crate::timer::Retry;
use crate::version::{RequestId, Version};
use crate::view::{NodeId, Timestamp};

/// How many times the members are asked, once the home has answered, before what the home says of
/// a silent one is believed.
const ROUNDS: u32 = 3;

/// An inspection that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Inspection {
    operation: OperationId,
    key: Bytes,
    home: NodeId,
    directory: Option<Directory>,
    held: BTreeMap<NodeId, (LineState, Option<Version>)>,
    silent: BTreeSet<NodeId>,
    rounds: u32,
    retry: Retry,
}

/// What the home said.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Directory {
    version: Option<Version>,
    holders: Vec<NodeId>,
    exclusive: bool,
}

impl Cache {
    /// Asks the home of `key`, and every cache, how the line is held. The answers come from
    /// different moments; nothing is held up for them.
    pub fn inspect(&mut self, now: Timestamp, operation: OperationId, key: Bytes) {
        if !self.is_serving(now) {
            let member = self.view.contains(self.member);
            let error = if member { CacheError::LeaseExpired } else { CacheError::NoView };
            self.fail(operation, error);
            return;
        }
        let Some(home) = self.home(&key) else {
            self.fail(operation, CacheError::Unavailable);
            return;
        };
        self.register(now, operation, &key, self.config.operation_timeout);
        let request = self.next_request();
        let retry = Retry::new(now, self.config.backoff);
        self.timers.arm(retry.at(), Timer::Inspect(request));
        let inspection = Inspection {
            operation,
            key,
            home,
            directory: None,
            held: BTreeMap::new(),
            silent: self.view.nodes().collect(),
            rounds: 1,
            retry,
        };
        self.inspections.insert(request, inspection);
        self.ask_about(request);
    }

    fn ask_about(&mut self, request: RequestId) {
        let Some(inspection) = self.inspections.get(&request) else { return };
        let (key, home) = (inspection.key.clone(), inspection.home);
        let ask_home = inspection.directory.is_none();
        for node in inspection.silent.clone() {
            self.send(node, Body::Peek { key: key.clone(), request });
        }
        if ask_home {
            self.send(home, Body::Inspect { key, request });
        }
    }

    pub(super) fn repeat_inspection(&mut self, now: Timestamp, request: RequestId) {
        let backoff = self.config.backoff;
        let Some(inspection) = self.inspections.get_mut(&request) else { return };
        if !inspection.retry.is_due(now, backoff) {
            return;
        }
        inspection.rounds += 1;
        let at = inspection.retry.at();
        self.timers.arm(at, Timer::Inspect(request));
        self.ask_about(request);
        self.conclude(request);
    }

    pub(super) fn handle_inspected(
        &mut self,
        from: NodeId,
        request: RequestId,
        version: Option<Version>,
        holders: Vec<NodeId>,
        exclusive: bool,
    ) {
        let Some(inspection) = self.inspections.get_mut(&request) else { return };
        if inspection.home == from {
            inspection.directory = Some(Directory { version, holders, exclusive });
            self.conclude(request);
        }
    }

    pub(super) fn handle_peek(&mut self, from: NodeId, key: &Bytes, request: RequestId) {
        let (state, version) = self.line(key);
        self.send(from, Body::Peeked { key: key.clone(), request, state, version });
    }

    pub(super) fn handle_peeked(
        &mut self,
        from: NodeId,
        request: RequestId,
        state: LineState,
        version: Option<Version>,
    ) {
        let Some(inspection) = self.inspections.get_mut(&request) else { return };
        if inspection.silent.remove(&from) {
            inspection.held.insert(from, (state, version));
            self.conclude(request);
        }
    }

    fn conclude(&mut self, request: RequestId) {
        let Some(inspection) = self.inspections.get(&request) else { return };
        let patient = inspection.rounds <= ROUNDS && !inspection.silent.is_empty();
        if patient || inspection.directory.is_none() {
            return;
        }
        let Some(inspection) = self.inspections.remove(&request) else { return };
        let Some(directory) = inspection.directory else { return };
        let held = if directory.exclusive { LineState::Exclusive } else { LineState::Shared };
        let state = |node: NodeId| match inspection.held.get(&node) {
            Some((state, _)) => *state,
            None if directory.holders.contains(&node) => held,
            None => LineState::Invalid,
        };
        let states = self.view.nodes().map(|node| (node, state(node))).collect();
        let seen = inspection.held.values().filter_map(|(_, version)| *version);
        let version = seen.chain(directory.version).max();
        let view = LineView { home: inspection.home, version, states };
        self.answer(inspection.operation, Answer::Line(view));
    }

    /// Ends the inspection that this operation is, if it is one, for want of answers.
    pub(super) fn give_up_inspection(&mut self, operation: OperationId) -> bool {
        let before = self.inspections.len();
        self.inspections.retain(|_, inspection| inspection.operation != operation);
        let found = self.inspections.len() < before;
        if found {
            self.fail(operation, CacheError::Unavailable);
        }
        found
    }
}
