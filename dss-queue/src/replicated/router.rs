//! Where topics are, as this node knows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::machine::Placed;
use crate::placement::Placement;

/// For how long a request is made again while its topic is on its way from shard to shard.
const MOVE_MAX: Duration = Duration::from_secs(5);
/// How long to wait before it is made again, where no newer placement is heard of.
const MOVE_PAUSE: Duration = Duration::from_millis(20);

/// The newest placement that a shard of this node has told of.
#[derive(Debug, Clone)]
pub(super) struct Router {
    newest: Arc<watch::Sender<Arc<Placement>>>,
}

impl Router {
    pub(super) fn new(founders: Placement) -> Self {
        Self { newest: Arc::new(watch::Sender::new(Arc::new(founders))) }
    }

    pub(super) fn newest(&self) -> Arc<Placement> {
        Arc::clone(&self.newest.borrow())
    }

    /// Learns of placements as long as the shard tells of them.
    pub(super) async fn learn(self, mut placed: watch::Receiver<Placed>) {
        loop {
            if let Some(placement) = placed.borrow_and_update().placement.clone() {
                self.newest.send_if_modified(|newest| {
                    let is_newer = placement.epoch() > newest.epoch();
                    if is_newer {
                        *newest = placement;
                    }
                    is_newer
                });
            }
            if placed.changed().await.is_err() {
                return;
            }
        }
    }

    /// A request that is to find its topic.
    pub(super) fn search(&self) -> Search {
        Search { newest: self.newest.subscribe(), until: Instant::now() + MOVE_MAX }
    }
}

/// How long a request goes on looking for its topic.
pub(super) struct Search {
    newest: watch::Receiver<Arc<Placement>>,
    until: Instant,
}

impl Search {
    pub(super) fn placement(&mut self) -> Arc<Placement> {
        Arc::clone(&self.newest.borrow_and_update())
    }

    /// Waits until it is worth another try; false where the time is over.
    pub(super) async fn again(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        // A newer placement may be known by now; or the topic has come meanwhile.
        let _ = tokio::time::timeout(MOVE_PAUSE, self.newest.changed()).await;
        true
    }
}
