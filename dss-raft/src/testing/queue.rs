//! Events in the order of virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events by the time at which they happen; those of one moment in the order they were added.
#[derive(Debug)]
pub(super) struct Queue<E> {
    order: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    // The heap moves its elements about, so the events themselves lie beside it.
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    added: u64,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Self {
        Self { order: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), added: 0 }
    }

    pub(super) fn push(&mut self, at: Duration, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.added += 1;
        self.order.push(Reverse((at, self.added, slot)));
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, E)> {
        let Reverse((at, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        let event = self.slots[slot].take().expect("a slot is freed once, by its event");
        Some((at, event))
    }
}
