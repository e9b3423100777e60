//! One simulated machine: its disk, its clock, and what a driver does around a
//! [`Raft`](crate::Raft).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::callers::Question;
use super::checker::Serial;
use super::disk::Disk;
use super::download::Download;
use super::registers::Beside;
use crate::core::Raft;
use crate::entry::{Entries, Snapshot};
use crate::message::Message;
use crate::types::{LogIndex, NodeId, PersistSeq, ProposalId, ReadId, Timestamp};

/// A machine, running or not.
#[derive(Debug)]
pub(super) struct Host<M> {
    pub(super) node: NodeId,
    /// How often it was started. What is meant for an earlier life is dropped.
    pub(super) life: u64,
    pub(super) disk: Disk,
    /// Until when its disk is slow.
    pub(super) slow_until: Duration,
    /// Until when it does nothing, as a stopped process.
    pub(super) paused_until: Duration,
    pub(super) running: Option<Running<M>>,
}

/// What is lost in a crash.
#[derive(Debug)]
pub(super) struct Running<M> {
    pub(super) raft: Raft,
    pub(super) machine: Beside<M>,
    pub(super) clock: Clock,
    pub(super) durable: PersistSeq,
    /// The snapshot that it is fetching.
    pub(super) download: Option<Download>,
    /// Messages that wait for a write.
    pub(super) held: VecDeque<(PersistSeq, NodeId, Message)>,
    /// What the state machine has still to do, in order.
    pub(super) tasks: VecDeque<Task>,
    pub(super) is_applying: bool,
    pub(super) applied: LogIndex,
    /// Proposals without a fate.
    pub(super) proposals: BTreeMap<ProposalId, Serial>,
    /// Changes of the members without a fate.
    pub(super) changes: BTreeSet<ProposalId>,
    /// Committed here for a client, and not yet applied.
    pub(super) replies: BTreeSet<LogIndex>,
    /// Reads without an answer.
    pub(super) reads: BTreeMap<ReadId, Question>,
    /// Reads that wait for an entry to be applied.
    pub(super) ready: Vec<(LogIndex, Question)>,
    pub(super) poll_scheduled: bool,
    pub(super) wake_at: Option<Duration>,
    pub(super) storage_failed: bool,
    /// Whether a bug is planted by which the next command is applied twice.
    pub(super) applies_twice: bool,
}

#[derive(Debug)]
pub(super) enum Task {
    Apply(Entries),
    Restore { snapshot: Box<Snapshot>, after: PersistSeq },
    TakeSnapshot(LogIndex),
}

/// A clock that starts with its node and runs a little fast or slow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) started: Duration,
    /// Millionths of a second that pass here while a millionth of a second does.
    pub(super) rate: u64,
}

/// The rate of a clock that is right.
pub(super) const RATE_ONE: u64 = 1_000_000;

impl Clock {
    pub(super) fn read(self, now: Duration) -> Timestamp {
        let elapsed = now.saturating_sub(self.started);
        Timestamp::since_origin(scaled(elapsed, self.rate, RATE_ONE))
    }

    /// When the clock will show `timestamp`, or a moment later.
    pub(super) fn when(self, timestamp: Timestamp) -> Duration {
        let shown = timestamp.since(Timestamp::ZERO);
        self.started + scaled(shown, RATE_ONE, self.rate) + Duration::from_nanos(1)
    }
}

fn scaled(span: Duration, numerator: u64, denominator: u64) -> Duration {
    let nanos = span.as_nanos() * u128::from(numerator) / u128::from(denominator);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
