//! The outputs that wait to be polled.

use std::collections::VecDeque;

use super::proposal::Proposals;
use crate::output::{Output, ProposalFate};

/// Outputs, in the order in which they are to be performed.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    queue: VecDeque<Queued>,
}

#[derive(Debug, Clone)]
enum Queued {
    Output(Output),
    /// One output for each of them, made when it is polled: there may be thousands, and they differ
    /// by a number. Invariant: not empty.
    Committed(Proposals),
}

impl Outputs {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(Queued::Output(output));
    }

    pub(super) fn push_committed(&mut self, proposals: Proposals) {
        if !proposals.is_empty() {
            self.queue.push_back(Queued::Committed(proposals));
        }
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        if let Queued::Committed(proposals) = self.queue.front_mut()?
            && let Some((index, proposal)) = proposals.pop_first()
        {
            if proposals.is_empty() {
                self.queue.pop_front();
            }
            return Some(Output::Proposal { proposal, fate: ProposalFate::Committed(index) });
        }
        match self.queue.pop_front()? {
            Queued::Output(output) => Some(output),
            Queued::Committed(_) => None,
        }
    }
}
