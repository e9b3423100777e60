//! Snapshots: when they are taken, what of the log they replace, and how one is installed
//! (section 7).

use bytes::Bytes;

use super::Raft;
use super::durability::Change;
use super::log::Log;
use super::planted::PlantedBug;
use super::progress::Mode;
use super::role::Role;
use crate::entry::Snapshot;
use crate::message::{MessageBody, Round};
use crate::output::Output;
use crate::types::{LogIndex, NodeId, Timestamp};

/// When the next snapshot is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Compaction {
    /// Where the last snapshot ends.
    covered: LogIndex,
    /// What the entries weigh that were given out to be applied since it was asked for.
    pub(super) weight: usize,
    /// The one that was asked for and has not come.
    awaited: Option<LogIndex>,
}

impl Compaction {
    pub(super) fn new(covered: LogIndex) -> Self {
        Self { covered, weight: 0, awaited: None }
    }
}

/// The part of the compaction limits that stays in the log behind a snapshot, so that a follower a
/// little behind is sent entries and not the whole state.
const KEPT_PART: u64 = 4;

impl Raft {
    /// Asks for a snapshot where the log has grown beyond its limits.
    pub(super) fn consider_snapshot(&mut self) {
        let grown = self.handed_index.since(self.compaction.covered);
        let due = grown >= self.config.compact_after_entries
            || self.compaction.weight >= self.config.compact_after_bytes;
        if due && self.compaction.awaited.is_none() {
            self.compaction.awaited = Some(self.handed_index);
            self.compaction.weight = 0;
            self.outputs.push(Output::TakeSnapshot { index: self.handed_index });
        }
    }

    /// Takes in the state machine's bytes as they were after `index`; the log is cut behind them.
    pub fn handle_snapshot_taken(&mut self, now: Timestamp, index: LogIndex, data: Bytes) {
        self.advance_clock(now);
        if self.storage_failed || self.compaction.awaited != Some(index) {
            return;
        }
        self.compaction.awaited = None;
        let Some(last) = self.log.id_at(index).filter(|last| last.index > self.compaction.covered)
        else {
            return;
        };
        self.write_pending();
        self.compaction.covered = index;
        let stale = self.has(PlantedBug::SnapshotWithoutConfiguration);
        let valid_at = if stale { LogIndex::ZERO } else { index };
        let configuration = self.membership.at(valid_at).clone();
        let snapshot = Snapshot { last, configuration, data };
        self.membership.compact_to(index);
        self.snapshot = Some(snapshot.clone());
        let kept_from = self.first_needed(index);
        let compact_to = (kept_from > self.log.base().index).then_some(kept_from);
        if let Some(index) = compact_to {
            self.log.compact_to(index);
        }
        self.issue(Change { snapshot: Some(snapshot.into()), compact_to, ..Change::default() });
        // It may have taken its time, and nothing more need come that would ask for the next one.
        self.consider_snapshot();
    }

    /// Asks for a snapshot now, whatever the limits: up to which entry it will reach; `None` where
    /// nothing was given out to be applied since the last one.
    pub fn take_snapshot(&mut self, now: Timestamp) -> Option<LogIndex> {
        self.advance_clock(now);
        let index = self.handed_index;
        if self.compaction.awaited.is_none() && index > self.compaction.covered {
            self.compaction.awaited = Some(index);
            self.compaction.weight = 0;
            self.outputs.push(Output::TakeSnapshot { index });
        }
        self.compaction.awaited
    }

    /// Takes note that the snapshot that was asked for will not come. The next entry that is given
    /// out asks for another one: whoever cannot take one for a while waits with this call.
    pub fn handle_snapshot_failed(&mut self, now: Timestamp, index: LogIndex) {
        self.advance_clock(now);
        if self.compaction.awaited == Some(index) {
            self.compaction.awaited = None;
        }
    }

    /// The last entry that nobody needs, given a snapshot at `index`.
    ///
    /// Some entries are always kept; a leader also keeps what members that answer still lack, and
    /// what follows the snapshot that one is being sent, but no more than a whole log's worth.
    fn first_needed(&self, index: LogIndex) -> LogIndex {
        let entries = self.config.compact_after_entries;
        let weight = self.config.compact_after_bytes;
        let part = usize::try_from(KEPT_PART).unwrap_or(1);
        let usual = self.log.tail_start(index, entries / KEPT_PART, weight / part);
        let Role::Leader(leader) = &self.role else { return usual };
        let answers = |heard| self.now.since(heard) < self.config.election_timeout;
        let needed = (leader.peers.iter().filter(|peer| answers(peer.heard)))
            .map(|peer| match &peer.mode {
                Mode::Snapshot { offered, .. } => offered.last.index,
                Mode::Probe { .. } | Mode::Replicate { .. } => peer.matched,
            })
            .min();
        match needed {
            Some(needed) if needed < usual => {
                needed.max(self.log.tail_start(index, entries, weight))
            }
            _ => usual,
        }
    }

    /// Replaces log and state machine by the leader's snapshot, where they do not contain it.
    pub(super) fn handle_install_snapshot(
        &mut self,
        from: NodeId,
        snapshot: Box<Snapshot>,
        round: Round,
    ) {
        let last = snapshot.last;
        if last.term > self.hard_state.term {
            return;
        }
        if last.index > self.commit_index && !self.log.contains(last) {
            self.install(snapshot);
        }
        // Where the log has the snapshot's last entry, figure 13 keeps the log; the snapshot then
        // says no more than that everything up to there is committed.
        self.verify(last.index, last.index);
        let after = self
            .writes
            .after_entry(last.index)
            .filter(|_| !self.has(PlantedBug::AcknowledgeBeforeDurable));
        self.send(from, MessageBody::AppendAccepted { matched: last.index, round }, after);
    }

    fn install(&mut self, snapshot: Box<Snapshot>) {
        self.write_pending();
        // Not from the log's base: entries behind a stored snapshot may lie before that snapshot's end,
        // and what is committed need not be truncated, since it agrees with the leader's.
        let first = self.commit_index.next();
        let truncate_from = (self.log.last().index >= first).then_some(first);
        let last = snapshot.last;
        self.log = Log::new(last);
        self.verified_at_most(last.index);
        self.commit_index = last.index;
        self.handed_index = last.index;
        self.membership.restart(last.index, snapshot.configuration.clone());
        self.leadership_changed = true;
        self.snapshot = Some((*snapshot).clone());
        self.compaction = Compaction::new(last.index);
        let after = self.issue(Change {
            truncate_from,
            snapshot: Some(snapshot.clone()),
            compact_to: Some(last.index),
            ..Change::default()
        });
        self.outputs.push(Output::Restore { snapshot, after });
    }
}
