//! What waits for a write before it may be done.

use std::collections::{BTreeMap, VecDeque};

use super::applier::Job;
use crate::message::Message;
use crate::ports::StateMachine;
use crate::types::{NodeId, PersistSeq};

/// Messages that promise a write, and jobs in their order. What is released may be done.
pub(super) struct Outbox<M: StateMachine> {
    persisted: PersistSeq,
    messages: BTreeMap<PersistSeq, Vec<(NodeId, Message)>>,
    /// Jobs behind one that waits wait too: the state machine sees one order.
    jobs: VecDeque<(PersistSeq, Job<M>)>,
}

impl<M: StateMachine> Outbox<M> {
    pub(super) fn new() -> Self {
        Self { persisted: PersistSeq::ZERO, messages: BTreeMap::new(), jobs: VecDeque::new() }
    }

    /// Everything up to `seq` is durable.
    pub(super) fn persisted(&mut self, seq: PersistSeq) {
        self.persisted = self.persisted.max(seq);
    }

    /// Keeps the message where it has to wait, or gives it back where it may be sent.
    pub(super) fn hold_message(
        &mut self,
        to: NodeId,
        message: Message,
        after: Option<PersistSeq>,
    ) -> Option<(NodeId, Message)> {
        match after {
            Some(after) if after > self.persisted => {
                self.messages.entry(after).or_default().push((to, message));
                None
            }
            _ => Some((to, message)),
        }
    }

    /// The messages of the next write that has become durable.
    pub(super) fn next_messages(&mut self) -> Option<Vec<(NodeId, Message)>> {
        let waiting = self.messages.first_entry()?;
        (*waiting.key() <= self.persisted).then(|| waiting.remove())
    }

    pub(super) fn push_job(&mut self, job: Job<M>, after: Option<PersistSeq>) {
        self.jobs.push_back((after.unwrap_or_default(), job));
    }

    /// The next job that may be done.
    pub(super) fn next_job(&mut self) -> Option<Job<M>> {
        let (after, _) = self.jobs.front()?;
        if *after > self.persisted {
            return None;
        }
        self.jobs.pop_front().map(|(_, job)| job)
    }
}
