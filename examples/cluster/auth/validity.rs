//! For how long a token is worth something.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::control_group::ControlState;

/// How often a token that is about to expire is looked at.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Tells when a token has ended, for what takes long: waits and streams that it has begun.
#[derive(Clone)]
pub(crate) struct Validity {
    id: String,
    state: watch::Receiver<ControlState>,
}

impl Validity {
    pub(super) fn new(id: String, state: watch::Receiver<ControlState>) -> Self {
        Self { id, state }
    }

    /// Waits until the token is worth nothing any more.
    pub(crate) async fn ended(mut self) {
        loop {
            let now = now_ms();
            let left = match self.state.borrow_and_update().tokens.get(&self.id) {
                Some(token) if token.is_valid(now) => {
                    token.expires_ms.map(|at| Duration::from_millis(at.saturating_sub(now)))
                }
                _ => return,
            };
            let expired = async {
                match left {
                    Some(left) => sleep(left.max(PAUSE_MIN)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.state.changed() => {
                    // The group has stopped, and the node with it.
                    if changed.is_err() {
                        return;
                    }
                }
                () = expired => {}
            }
        }
    }
}

/// The time by which tokens expire, in milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}
