//! How a node comes to life from what it had made durable.

use std::collections::BTreeMap;

use super::Raft;
use super::durability::Writes;
use super::log::Log;
use super::membership::{Member, Membership};
use super::outputs::Outputs;
use super::random::Random;
use super::reads::Reads;
use super::role::{Follower, Role};
use super::snapshot::Compaction;
use crate::config::Config;
use crate::entry::{Configuration, Entries};
use crate::output::{Leadership, RoleKind};
use crate::ports::Restored;
use crate::types::{LogId, LogIdentity, LogIndex, Timestamp};

/// Why restored state cannot be what a node had made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Between the snapshot, or the beginning, and the first entry others are missing.
    #[error("the log begins at {first}, but the snapshot ends at {snapshot}")]
    Gap {
        /// The first entry's index.
        first: LogIndex,
        /// The last index that the snapshot replaces; zero where there is no snapshot.
        snapshot: LogIndex,
    },
    /// Indexes jump or terms fall within the log.
    #[error("the log is not consecutive")]
    NotConsecutive,
    /// The log, or the snapshot, is of a term that the node has never been in.
    #[error("the log holds term {}, but the node has only been in {seen}", last.term)]
    FutureTerm {
        /// The last entry.
        last: LogId,
        /// The stored term.
        seen: crate::types::Term,
    },
    /// The log holds another entry where the snapshot ends.
    #[error("log and snapshot differ at {}", snapshot.index)]
    SnapshotConflict {
        /// The last entry that the snapshot replaces.
        snapshot: LogId,
    },
}

impl Raft {
    /// Starts a node from what it had made durable.
    ///
    /// `bootstrap` are the members, the same on every node, unless a snapshot says otherwise. A
    /// node that is not among the voters follows and never campaigns. On start it counts as
    /// having just heard from a leader: what a leader promised by its support before a restart
    /// still holds.
    ///
    /// # Errors
    ///
    /// Where `restored` contradicts itself.
    pub fn new(
        config: Config,
        bootstrap: Configuration,
        restored: Restored,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let is_new = restored == Restored::default();
        let Restored { mut hard_state, snapshot, entries } = restored;
        let covered = snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let log = restored_log(entries.into(), covered)?;
        if log.last().term > hard_state.term {
            return Err(StartError::FutureTerm { last: log.last(), seen: hard_state.term });
        }
        let configuration = snapshot.as_ref().map_or(bootstrap, |s| s.configuration.clone());
        let mut random = Random::new(config.seed ^ config.node.get().rotate_left(32));
        if is_new {
            // Short, since every message carries it; no group has so many lives that two are alike.
            hard_state.log = LogIdentity::new((random.next() >> 32) | 1);
        }
        let own = Member { node: config.node, log: hard_state.log };
        let mut membership = Membership::new(own, covered.index, configuration);
        log.for_each_after(covered.index, |entries| {
            membership.append(entries);
        });
        let reads = Reads::new(random.next());
        let (shortest, longest) = config.priority.patience_quarters();
        let quarter = config.election_timeout / 4;
        let patience = random.span(quarter * shortest, quarter * longest);
        let role = Role::Follower(Follower {
            leader: None,
            verified: LogIndex::ZERO,
            patience,
            deadline: now + patience,
        });
        let reported = Leadership {
            role: RoleKind::Follower,
            term: hard_state.term,
            leader: None,
            by_transfer: false,
        };
        let mut raft = Self {
            writes: Writes::new(log.last().index, !is_new),
            compaction: Compaction::new(covered.index),
            commit_index: covered.index,
            handed_index: covered.index,
            applied_index: covered.index,
            contact: now,
            hard_state_changed: false,
            storage_failed: false,
            proposals_made: 0,
            outputs: Outputs::default(),
            has_input: false,
            config,
            membership,
            known_logs: BTreeMap::new(),
            now,
            random,
            hard_state,
            log,
            snapshot,
            role,
            reads,
            reported,
            leadership_changed: false,
            #[cfg(feature = "testing")]
            planted_bug: None,
        };
        raft.reported = raft.leadership();
        Ok(raft)
    }
}

/// The log of these entries behind, or around, the snapshot's last one.
fn restored_log(entries: Entries, covered: LogId) -> Result<Log, StartError> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Ok(Log::new(covered));
    };
    if !entries.is_consecutive() {
        return Err(StartError::NotConsecutive);
    }
    if first.id.index > covered.index.next() || first.id.index == LogIndex::ZERO {
        return Err(StartError::Gap { first: first.id.index, snapshot: covered.index });
    }
    if last.id.index < covered.index {
        // The snapshot replaces all of it.
        return Ok(Log::new(covered));
    }
    let at_snapshot = entries.iter().find(|entry| entry.id.index == covered.index);
    if at_snapshot.is_some_and(|entry| entry.id != covered) {
        return Err(StartError::SnapshotConflict { snapshot: covered });
    }
    if first.id.index == covered.index.next() {
        if first.id.term < covered.term {
            return Err(StartError::SnapshotConflict { snapshot: covered });
        }
        let mut log = Log::new(covered);
        log.append(entries);
        return Ok(log);
    }
    // Entries that the snapshot covers are kept for followers that are a little behind. The first
    // becomes the base: what came before it is needed to send it, and is gone.
    let mut log = Log::new(first.id);
    log.append(entries.slice(1..entries.len()));
    Ok(log)
}
