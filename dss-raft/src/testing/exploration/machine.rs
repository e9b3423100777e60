//! One node: its core, its disk, and what waits for that.

use std::hash::{Hash, Hasher};

use super::fingerprint::Fingerprint;
use super::plan::Plan;
use crate::config::Config;
use crate::core::{Raft, StartError};
use crate::entry::{Entry, HardState};
use crate::message::{Message, MessageBody, Round};
use crate::output::Persist;
use crate::ports::Restored;
use crate::types::{LogId, LogIndex, NodeId, PersistSeq, Timestamp};

/// A node that runs.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) node: NodeId,
    pub(super) raft: Raft,
    pub(super) disk: Disk,
    /// Messages that wait for a write.
    pub(super) held: Vec<(PersistSeq, NodeId, Message)>,
}

/// What is durable, and what is about to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    hard_state: HardState,
    /// From index 1 on.
    entries: Vec<Entry>,
    pub(super) writing: Vec<Write>,
    /// Where in the sequence of writes it is.
    pub(super) durable: PersistSeq,
}

/// A write, as far as it says anything here: without snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Write {
    hard_state: Option<HardState>,
    truncate_from: Option<LogIndex>,
    entries: Vec<Entry>,
}

impl Disk {
    pub(super) fn write(&mut self, persist: &Persist) {
        self.writing.push(Write {
            hard_state: persist.hard_state,
            truncate_from: persist.truncate_from,
            entries: persist.entries.to_vec(),
        });
    }

    /// Makes the first `count` writes durable.
    pub(super) fn sync(&mut self, count: usize) {
        for write in self.writing.drain(..count) {
            self.durable = self.durable.next();
            self.hard_state = write.hard_state.unwrap_or(self.hard_state);
            if let Some(index) = write.truncate_from {
                self.entries.retain(|entry| entry.id.index < index);
            }
            self.entries.extend(write.entries);
        }
    }

    pub(super) fn has(&self, id: LogId) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    fn restore(&self) -> Restored {
        Restored { hard_state: self.hard_state, snapshot: None, entries: self.entries.clone() }
    }
}

impl Machine {
    /// Starts from what is on a disk.
    pub(super) fn start(node: NodeId, mut disk: Disk, plan: &Plan) -> Result<Self, StartError> {
        disk.writing.clear();
        disk.durable = PersistSeq::ZERO;
        let config = Config::new(node, node.get());
        let mut raft = Raft::new(config, plan.members(), disk.restore(), Timestamp::ZERO)?;
        raft.plant(plan.planted_bug);
        Ok(Self { node, raft, disk, held: Vec::new() })
    }

    /// Hashes what decides on what it does next.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = Fingerprint::default();
        self.raft.outline(&mut hasher);
        let Disk { hard_state, entries, writing, durable } = &self.disk;
        (hard_state, entries, writing).hash(&mut hasher);
        for (after, to, message) in &self.held {
            // Which of the writes it waits for, whatever their numbers.
            (after.get() - durable.get(), to).hash(&mut hasher);
            without_round(message).hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A message without what only reads depend on.
pub(super) fn without_round(message: &Message) -> Message {
    let mut message = message.clone();
    match &mut message.body {
        MessageBody::Append { round, .. }
        | MessageBody::AppendAccepted { round, .. }
        | MessageBody::AppendRejected { round, .. }
        | MessageBody::InstallSnapshot { round, .. } => *round = Round::default(),
        _ => {}
    }
    message
}
