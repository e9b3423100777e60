//! How much may be under way at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many units, for whoever comes first. Nobody waits for one: whoever gets none is told so.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicUsize,
}

/// Units that are taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    units: usize,
}

impl Budget {
    pub(super) fn new(units: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(units) })
    }

    /// Takes so many units, where there are as many.
    pub(super) fn take(self: &Arc<Self>, units: usize) -> Option<Share> {
        // The count is all that is agreed on: nothing else is published by it.
        let take = |left: usize| left.checked_sub(units);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Share { budget: Arc::clone(self), units })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.units, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn what_is_taken_is_there_again_when_it_is_dropped() {
        let budget = Budget::new(3);
        let two = budget.take(2).unwrap();
        assert!(budget.take(2).is_none());
        let one = budget.take(1).unwrap();
        assert!(budget.take(1).is_none());
        drop(two);
        assert!(budget.take(3).is_none());
        drop(one);
        assert!(budget.take(3).is_some());
    }
}
