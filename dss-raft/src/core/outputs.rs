//! The outputs that wait to be polled.

use std::collections::VecDeque;

use super::proposal::Proposals;
use crate::output::{Output, ProposalFate};

/// Outputs, in the order in which they are to be performed.
#[derive(Debug, Clone, Default)]
pub(super) struct Outputs {
    queue: VecDeque<Output>,
    /// How many places of the queue have gone by.
    popped: u64,
    /// One output for each of these proposals, made when it is polled: there may be thousands, and
    /// they differ by a number. They come before the output at the place they are listed with.
    ///
    /// Invariants: none is empty; places rise, from `popped` to the queue's end.
    committed: VecDeque<(u64, Proposals)>,
}

impl Outputs {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.committed.is_empty()
    }

    pub(super) fn push(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    pub(super) fn push_committed(&mut self, proposals: Proposals) {
        if !proposals.is_empty() {
            self.committed.push_back((self.popped + self.queue.len() as u64, proposals));
        }
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Output> {
        if !self.committed.is_empty()
            && let Some(committed) = self.pop_committed()
        {
            return Some(committed);
        }
        if self.queue.is_empty() {
            return None;
        }
        self.popped += 1;
        self.queue.pop_front()
    }

    /// The next one, where that is a committed proposal.
    fn pop_committed(&mut self) -> Option<Output> {
        let (place, proposals) = self.committed.front_mut()?;
        if *place > self.popped {
            return None;
        }
        let (index, proposal) = proposals.pop_first()?;
        if proposals.is_empty() {
            self.committed.pop_front();
        }
        Some(Output::Proposal { proposal, fate: ProposalFate::Committed(index) })
    }
}
