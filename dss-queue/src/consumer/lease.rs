//! Keeping a delivery for as long as its handler takes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use crate::broker::BrokerError;
use crate::id::Receipt;

/// How many extensions fit into a lease: two of them may fail and the third still comes in time.
const EXTENSIONS_PER_LEASE: u32 = 3;
/// Into how many parts of a lease the pause after a failed extension fits.
const PAUSES_PER_LEASE: u32 = 20;

/// What a handler may know of its hold on the message.
///
/// The lease is extended in the background at a third of its life. It is lost where the queue says
/// so, since it ended, or the message or its group is gone, or where nobody could be reached in
/// time; somebody else may then have the message. A handler whose effects must not overlap with
/// another's looks before each of them; the receipt decides in the end.
#[derive(Debug, Clone)]
pub struct Lease {
    standing: watch::Receiver<Standing>,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    until: Instant,
    /// The queue has said so, or time has run out.
    lost: bool,
}

impl Lease {
    /// Whether the message may be somebody else's by now. Never turns back.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let standing = self.standing.borrow();
        standing.lost || Instant::now() >= standing.until
    }

    /// Waits until the lease is lost; for ever where it never is.
    pub async fn lost(&self) {
        let mut standing = self.standing.clone();
        loop {
            let Standing { until, lost } = *standing.borrow_and_update();
            if lost || Instant::now() >= until {
                return;
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() {
                    // Nobody extends it any more: the delivery is settled, or its consumer gone.
                    tokio::time::sleep_until(until).await;
                },
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}

/// Extends a lease until it is dropped.
pub(super) struct Keeper {
    standing: watch::Sender<Standing>,
    receipt: Receipt,
}

impl Keeper {
    /// For a delivery that came just now.
    pub(super) fn new(receipt: Receipt, visibility: Duration) -> (Self, Lease) {
        let until = Instant::now() + visibility;
        let (standing, receiver) = watch::channel(Standing { until, lost: false });
        (Self { standing, receipt }, Lease { standing: receiver })
    }

    /// Extends the lease for as long as it can be. Never ends.
    pub(super) async fn keep(self, shared: &Shared) {
        let mut pause = shared.visibility / EXTENSIONS_PER_LEASE;
        loop {
            tokio::time::sleep(pause).await;
            let until = self.standing.borrow().until;
            // Before it is asked: the queue's answer is valid from some time after this on.
            let asked = Instant::now();
            let extended =
                tokio::time::timeout_at(until, shared.extend(self.receipt, shared.visibility));
            pause = match extended.await {
                Ok(Ok(settled)) if settled.done == 1 => {
                    let until = asked + shared.visibility;
                    self.standing.send_modify(|standing| standing.until = until);
                    shared.visibility / EXTENSIONS_PER_LEASE
                }
                Ok(Ok(_) | Err(BrokerError::NotFound)) | Err(_) => break,
                // It is tried again until it works or time is up.
                Ok(Err(_)) if Instant::now() < until => shared.visibility / PAUSES_PER_LEASE,
                Ok(Err(_)) => break,
            };
        }
        self.standing.send_modify(|standing| standing.lost = true);
        std::future::pending::<()>().await;
    }
}
