//! Calling the cores when their time has come.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::drive::{Inner, nanoseconds};
use crate::view::Timestamp;

/// Runs for as long as the node is there.
pub(super) async fn run(inner: Weak<Inner>, wake: Arc<Notify>) {
    loop {
        let Some(node) = inner.upgrade() else { return };
        // Whoever arms an earlier deadline compares it with this. Until the search is over that is
        // every one: it wakes this task, which then looks again.
        node.armed.store(u64::MAX, Ordering::SeqCst);
        let mut next: Option<Timestamp> = None;
        let mut closed = true;
        for place in 0..node.parts.len() {
            let part = node.part(place);
            closed &= part.closed;
            next = next.into_iter().chain(part.next_deadline()).min();
        }
        if closed {
            return;
        }
        node.armed.store(next.map_or(u64::MAX, nanoseconds), Ordering::SeqCst);
        let next = next.map(|at| node.clock.instant(at));
        drop(node);
        match next {
            None => wake.notified().await,
            Some(at) => {
                let _ = tokio::time::timeout_at(at, wake.notified()).await;
            }
        }
        let Some(node) = inner.upgrade() else { return };
        for place in 0..node.parts.len() {
            let due = node.part(place).next_deadline().is_some_and(|at| at <= node.now());
            if due {
                node.drive(place, |part, now| {
                    part.cache.handle_timeout(now);
                    part.home.handle_timeout(now);
                });
            }
        }
    }
}
