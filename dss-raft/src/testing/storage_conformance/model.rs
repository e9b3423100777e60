//! A naive storage to compare with, and random writes as a core might ask for them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::core::Random;
use crate::entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
use crate::output::Persist;
use crate::ports::Restored;
use crate::types::{GroupId, LogId, LogIndex, NodeId, PersistSeq, Term};

/// What all groups have stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    groups: BTreeMap<GroupId, Restored>,
}

impl Model {
    pub(crate) fn restored(&self, group: GroupId) -> Restored {
        self.groups.get(&group).cloned().unwrap_or_default()
    }

    fn write(&mut self, group: GroupId, persist: &Persist) {
        let state = self.groups.entry(group).or_default();
        state.hard_state = persist.hard_state.unwrap_or(state.hard_state);
        if let Some(from) = persist.truncate_from {
            state.entries.retain(|entry| entry.id.index < from);
        }
        if let Some(snapshot) = &persist.snapshot {
            let last = snapshot.last;
            let agrees = match state.entries.iter().find(|entry| entry.id.index == last.index) {
                Some(entry) => entry.id == last,
                None => state.snapshot.as_ref().is_some_and(|old| old.last == last),
            };
            if !agrees {
                state.entries.clear();
            }
            state.snapshot = Some((**snapshot).clone());
        }
        state.entries.extend_from_slice(&persist.entries);
        if let Some(to) = persist.compact_to {
            state.entries.retain(|entry| entry.id.index > to);
        }
    }
}

/// Batches of writes, each following what came before; the same for the same seed.
#[derive(Debug)]
pub(crate) struct Writes {
    random: Random,
    model: Model,
    seq: u64,
}

impl Writes {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), model: Model::default(), seq: 0 }
    }

    pub(crate) fn groups() -> impl Iterator<Item = GroupId> {
        (0..3).map(GroupId::new)
    }

    /// What is stored once every batch so far is.
    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    pub(crate) fn next_batch(&mut self) -> Vec<(GroupId, Persist)> {
        let count = 1 + self.random.below(3);
        (0..count)
            .map(|_| {
                // The last group writes rarely, and so holds on to old segments.
                let group = GroupId::new([0, 0, 0, 0, 1, 1, 1, 1, 1, 2][self.pick(10)]);
                let persist = self.next_write(group);
                self.model.write(group, &persist);
                (group, persist)
            })
            .collect()
    }

    fn pick(&mut self, below: u64) -> usize {
        usize::try_from(self.random.below(below)).expect("small")
    }

    fn next_write(&mut self, group: GroupId) -> Persist {
        self.seq += 1;
        let Restored { hard_state, snapshot, entries } = self.model.restored(group);
        let covered = snapshot.as_ref().map(|snapshot| snapshot.last).unwrap_or_default();
        let last = entries.last().map_or(covered, |entry| entry.id);
        let mut persist = Persist {
            seq: PersistSeq::new(self.seq),
            hard_state: None,
            truncate_from: None,
            snapshot: None,
            entries: Entries::EMPTY,
            compact_to: None,
        };
        let term = Term::new(last.term.get().max(hard_state.term.get()));
        match self.pick(20) {
            0 | 1 => {
                let voted_for = (self.pick(2) == 0).then_some(NodeId::new(self.seq % 3));
                persist.hard_state =
                    Some(HardState { term: term.next(), voted_for, ..HardState::default() });
            }
            2 | 3 if last.index > covered.index => {
                let behind = self.random.below(last.index.since(covered.index));
                let from = LogIndex::new(last.index.get() - behind);
                persist.truncate_from = Some(from);
                persist.entries = self.entries(term, from);
            }
            4 if !entries.is_empty() && last.index > covered.index => {
                let newer: Vec<&Entry> =
                    entries.iter().filter(|entry| entry.id.index > covered.index).collect();
                let at = newer[self.pick(newer.len() as u64)].id;
                persist.snapshot = Some(self.snapshot(at).into());
                persist.compact_to = (self.pick(2) == 0).then_some(at.index);
            }
            5 => {
                let ahead = 1 + self.random.below(20);
                let at = LogId::new(term.next(), LogIndex::new(last.index.get() + ahead));
                persist.snapshot = Some(self.snapshot(at).into());
                persist.hard_state =
                    Some(HardState { term: term.next(), voted_for: None, ..HardState::default() });
            }
            6 | 7 => persist.compact_to = Some(covered.index),
            _ => persist.entries = self.entries(term, last.index.next()),
        }
        persist
    }

    /// Some entries from `first` on.
    fn entries(&mut self, term: Term, first: LogIndex) -> Entries {
        let count = 1 + self.random.below(4);
        let entries: Vec<Entry> = (0..count)
            .map(|step| {
                let index = LogIndex::new(first.get() + step);
                let payload = match self.pick(8) {
                    0 => Payload::Blank,
                    1 => Payload::Command(self.bytes(900)),
                    // Zeros as well: a log must not take them for what was not written.
                    2 => Payload::Command(vec![0; self.pick(1800)].into()),
                    _ => Payload::Command(self.bytes(60)),
                };
                Entry { id: LogId::new(term, index), payload }
            })
            .collect();
        entries.into()
    }

    fn snapshot(&mut self, last: LogId) -> Snapshot {
        let configuration = Configuration::of_voters([1, 2, 3].map(NodeId::new));
        Snapshot { last, configuration, data: self.bytes(2000) }
    }

    fn bytes(&mut self, below: u64) -> Bytes {
        let length = self.pick(below);
        // Not zeros: what is lost must not look like what was written.
        let byte = u8::try_from(1 + self.random.below(255)).expect("below 256");
        vec![byte; length].into()
    }
}
