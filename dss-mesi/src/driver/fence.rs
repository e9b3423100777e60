//! One fence in main memory for all parts of a node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::ports::Memory;
use crate::view::Epoch;

/// Every part waits for the fence of a view, and one call raises it.
#[derive(Debug, Default)]
pub(super) struct Fencing {
    last: Mutex<Attempt>,
    /// How many attempts have ended.
    ended: AtomicU64,
}

#[derive(Debug, Default)]
struct Attempt {
    epoch: Epoch,
    stands: bool,
}

impl Fencing {
    /// Raises the fence, unless that is done already, or is being tried and fails; whether it stands.
    pub(super) async fn raise(&self, memory: &dyn Memory, epoch: Epoch, limit: Duration) -> bool {
        let before = self.ended.load(Ordering::Relaxed);
        let mut last = self.last.lock().await;
        let tried_meanwhile = self.ended.load(Ordering::Relaxed) > before;
        if last.epoch == epoch && (last.stands || tried_meanwhile) {
            return last.stands;
        }
        let fenced = tokio::time::timeout(limit, memory.fence(epoch)).await;
        let stands = matches!(fenced, Ok(Ok(())));
        *last = Attempt { epoch, stands };
        self.ended.fetch_add(1, Ordering::Relaxed);
        stands
    }
}
