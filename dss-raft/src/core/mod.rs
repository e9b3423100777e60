//! The state machine of Raft: what comes in changes it, what it wants done comes out.
//!
//! Inputs only change state and take note of what is to be done; [`Raft::poll_output`] turns the
//! notes into outputs. Whatever arrives between two polls is thereby batched: proposals become one
//! write and one message per follower, reads one round.

mod campaign;
mod change;
mod commit;
mod dispatch;
mod durability;
mod election;
mod follower;
#[cfg(feature = "testing")]
mod inspect;
mod leadership;
mod log;
mod membership;
mod outputs;
mod planted;
mod progress;
mod proposal;
mod quorum;
mod random;
mod reads;
mod replication;
mod role;
mod snapshot;
mod start;
mod status;
mod timer;
mod transfer;

use std::collections::BTreeMap;
use std::time::Duration;

pub use change::ChangeError;
#[cfg(feature = "testing")]
pub use planted::PlantedBug;
pub use proposal::Rejected;
pub use start::StartError;
pub use status::Status;
pub use transfer::TransferError;

pub(crate) use random::Random;

use crate::config::Config;
use crate::entry::{HardState, Snapshot};
use crate::output::{Leadership, Output};
use crate::types::{LogIdentity, LogIndex, NodeId, Timestamp};

use durability::Writes;
use log::Log;
use membership::Membership;
use outputs::Outputs;
use reads::Reads;
use role::Role;
use snapshot::Compaction;

/// One member of one group.
///
/// A value without clock, I/O, threads or ambient randomness: the same calls lead to the same
/// outputs, on every run and platform. Its methods are of four kinds:
///
/// - inputs, `handle_…(now, …)`: what has happened. Any of them may come at any time; early, late
///   and repeated ones are harmless, and none panics, whatever a message says.
/// - commands: [`propose`](Raft::propose), [`read`](Raft::read), [`change`](Raft::change),
///   [`transfer_leadership`](Raft::transfer_leadership).
/// - outputs: [`poll_output`](Raft::poll_output), to be called until it returns `None` after
///   inputs and commands (several may be gathered first, and are then batched), and
///   [`poll_timeout`](Raft::poll_timeout), when to call
///   [`handle_timeout`](Raft::handle_timeout).
/// - getters: [`status`](Raft::status).
///
/// `now` must not run backwards; where it does, time stands still.
#[derive(Debug, Clone)]
pub struct Raft {
    config: Config,
    membership: Membership,
    /// The logs that other members have shown while this node does not lead.
    known_logs: BTreeMap<NodeId, LogIdentity>,
    now: Timestamp,
    random: Random,

    /// Term and vote, as of the last input; `hard_state_changed` where no write holds them yet.
    hard_state: HardState,
    hard_state_changed: bool,
    log: Log,
    writes: Writes,
    /// The newest snapshot; the log's base is not behind it.
    snapshot: Option<Snapshot>,
    compaction: Compaction,
    storage_failed: bool,

    role: Role,
    /// When a leader was last heard of, in whatever term (leading oneself counts): within an
    /// election timeout of it no other candidate is supported.
    contact: Timestamp,

    /// Invariant: `applied_index <= handed_index <= commit_index <= log.last().index`.
    commit_index: LogIndex,
    /// The last entry that was given out to be applied.
    handed_index: LogIndex,
    applied_index: LogIndex,

    proposals_made: u64,
    reads: Reads,
    reported: Leadership,
    /// Whether role (which is a learner's or not by the membership), term or leader may differ from
    /// what was reported.
    leadership_changed: bool,
    outputs: Outputs,
    /// Whether something came in after notes were last turned into outputs.
    has_input: bool,

    #[cfg(feature = "testing")]
    planted_bug: Option<PlantedBug>,
}

impl Raft {
    /// The next thing to do, if there is one.
    #[must_use]
    #[inline]
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && std::mem::take(&mut self.has_input) && !self.storage_failed {
            self.flush();
        }
        self.outputs.pop()
    }

    /// Turns what was noted into outputs: all of it, so that nothing is left to do until something
    /// comes in. Most of it has nothing to do most of the time, and is only asked whether it has.
    fn flush(&mut self) {
        let leads = matches!(self.role, Role::Leader(_));
        if leads {
            self.pursue_change();
        }
        if self.has_pending_write() {
            self.write_pending();
        }
        if leads {
            self.replicate();
        }
        if self.handed_index < self.commit_index {
            self.hand_over_committed();
        }
        if leads {
            self.confirm_reads();
        }
        self.ask_leader_for_reads();
        if self.leadership_changed {
            self.report_leadership();
        }
        debug_assert_eq!(self.leadership(), self.reported);
    }

    /// Begins every input and command from which outputs may follow.
    fn advance_clock(&mut self, now: Timestamp) {
        self.pass_time_to(now);
        self.has_input = true;
    }

    fn pass_time_to(&mut self, now: Timestamp) {
        /// Time ends here, so that every deadline still lies behind the present. Centuries: nobody
        /// gets here but by mistake.
        const END: Timestamp = Timestamp::since_origin(Duration::from_nanos(u64::MAX / 2));
        self.now = self.now.max(now).min(END);
    }
}
