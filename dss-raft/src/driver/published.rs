//! What a core task lets others see: sampled once a turn, read whenever somebody asks.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::error::Stopped;
use crate::core::{Raft, Status};
use crate::output::{Leadership, RoleKind};

/// What a group has done on this node since it was started there: counters, which only rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Proposals that were taken in.
    pub proposals: u64,
    /// Proposals that were refused: by a node that does not lead, or that has too many.
    pub proposals_refused: u64,
    /// Linearizable reads that were taken in.
    pub reads: u64,
    /// Messages received from other members.
    pub messages_received: u64,
    /// Messages sent to other members.
    pub messages_sent: u64,
    /// Writes that the storage was asked for.
    pub writes: u64,
    /// Entries in those writes.
    pub entries_written: u64,
    /// Entries that were handed to the state machine.
    pub entries_applied: u64,
    /// How often the core task has looked at its queues: less than the above, where it is busy.
    pub turns: u64,
    /// Snapshots of the state machine that were stored.
    pub snapshots_taken: u64,
    /// Snapshots that could not be taken.
    pub snapshots_failed: u64,
    /// Snapshots that were installed from a leader.
    pub snapshots_installed: u64,
}

/// What the core task lets others see.
pub(super) struct Published {
    sample: Mutex<Sample>,
    /// Why the group takes nothing any more, once it does not.
    pub(super) stopped: OnceLock<Stopped>,
}

struct Sample {
    status: Status,
    metrics: Metrics,
}

impl Published {
    pub(super) fn new(status: Status) -> Self {
        let sample = Sample { status, metrics: Metrics::default() };
        Self { sample: Mutex::new(sample), stopped: OnceLock::new() }
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        // Nothing panics under this lock.
        self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update(&self, raft: &Raft, metrics: &Metrics) {
        let mut sample = self.sample();
        raft.update_status(&mut sample.status);
        sample.metrics = *metrics;
    }

    /// The task has ended: the group leads nothing here, and follows nobody.
    pub(super) fn end(&self) -> Status {
        let mut sample = self.sample();
        if sample.status.role == RoleKind::Leader {
            sample.status.role = RoleKind::Follower;
        }
        sample.status.leader = None;
        sample.status.clone()
    }

    pub(super) fn status(&self) -> Status {
        self.sample().status.clone()
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.sample().metrics
    }

    pub(super) fn stopped(&self) -> Stopped {
        // A task that ended without saying why was ended with its node.
        *self.stopped.get().unwrap_or(&Stopped::ShutDown)
    }
}

/// Shows the group's state to others; when the task ends, that it leads nothing any more.
pub(super) struct Publisher {
    pub(super) published: Arc<Published>,
    pub(super) leadership: watch::Sender<Leadership>,
}

impl Publisher {
    pub(super) fn leadership(&self, leadership: Leadership) {
        self.leadership.send_if_modified(|current| {
            let changed = *current != leadership;
            *current = leadership;
            changed
        });
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let Status { role, term, .. } = self.published.end();
        self.leadership(Leadership { role, term, leader: None, by_transfer: false });
    }
}
