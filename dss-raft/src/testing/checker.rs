//! The properties, checked incrementally: each step costs what it changed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::violation::Violation;
use crate::core::Raft;
use crate::entry::{Entries, Entry, Payload};
use crate::output::Persist;
use crate::ports::Restored;
use crate::types::{LogId, LogIndex, NodeId, Term};

/// What all nodes have ever shown, and whether it fits together.
#[derive(Debug, Default)]
pub(super) struct Checker {
    leaders: BTreeMap<Term, NodeId>,
    /// By index, from 1: each entry that was ever in a log.
    entries: Vec<Vec<Seen>>,
    /// By index, from 1: what was committed there, and by a node of which term first.
    committed: Vec<Committed>,
    /// By serial number of the command.
    commands: Vec<CommandState>,
    /// By node.
    nodes: Vec<Observed>,
    states: BTreeMap<LogIndex, Bytes>,
    acknowledged: Vec<(NodeId, LogIndex, Serial)>,
}

/// Names a command of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Serial(pub(super) u64);

impl Serial {
    /// The command that carries this serial number before a client's bytes.
    pub(super) fn label(self, command: &Bytes) -> Bytes {
        [&self.0.to_le_bytes(), &command[..]].concat().into()
    }

    /// The serial number and the client's bytes of a labelled command.
    pub(super) fn of(command: &Bytes) -> Option<(Self, Bytes)> {
        let (label, _) = command.split_first_chunk()?;
        Some((Self(u64::from_le_bytes(*label)), command.slice(label.len()..)))
    }
}

#[derive(Debug)]
struct Seen {
    term: Term,
    /// The term of the entry before it: as by induction that one is the same wherever it is
    /// found, comparing it compares the whole log up to here.
    previous: Term,
    payload: Payload,
}

#[derive(Debug, Clone, Copy)]
struct Committed {
    term: Term,
    known_in: Term,
}

#[derive(Debug, Clone, Copy, Default)]
struct CommandState {
    rejected: bool,
    committed: Option<LogIndex>,
}

/// What one node has shown since it started.
#[derive(Debug, Default)]
struct Observed {
    /// Its log as storage will have it: the entry before the first, and the terms behind it.
    base: LogId,
    terms: Vec<Term>,
    /// The term it led at its last step, and the last entry of its log then.
    led: Option<(Term, LogId)>,
    /// The last entry that it was given to apply.
    given: LogIndex,
}

impl Observed {
    fn last(&self) -> LogId {
        let Some(term) = self.terms.last() else { return self.base };
        LogId::new(*term, LogIndex::new(self.base.index.get() + self.terms.len() as u64))
    }

    fn keep_before(&mut self, index: LogIndex) {
        let kept = index.previous().since(self.base.index);
        self.terms.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
    }

    fn drop_to(&mut self, index: LogIndex) {
        let gone = usize::try_from(index.since(self.base.index)).unwrap_or(usize::MAX);
        let Some(term) = gone.checked_sub(1).and_then(|last| self.terms.get(last)) else { return };
        self.base = LogId::new(*term, index);
        self.terms.drain(..gone);
    }
}

fn position(index: LogIndex) -> usize {
    usize::try_from(index.previous().get()).unwrap_or(usize::MAX)
}

impl Checker {
    pub(super) fn new(nodes: usize) -> Self {
        let nodes = std::iter::repeat_with(Observed::default).take(nodes).collect();
        Self { nodes, ..Self::default() }
    }

    /// A node starts from this.
    pub(super) fn started(&mut self, at: usize, restored: &Restored) {
        let covered = restored.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let (base, rest) = match restored.entries.split_first() {
            Some((first, rest)) if first.id.index <= covered.index => (first.id, rest),
            _ => (covered, &restored.entries[..]),
        };
        let terms = rest.iter().map(|entry| entry.id.term).collect();
        self.nodes[at] = Observed { base, terms, led: None, given: covered.index };
    }

    /// A node writes this: whatever enters its log shows here.
    pub(super) fn writes(
        &mut self,
        at: usize,
        node: NodeId,
        persist: &Persist,
    ) -> Result<(), Violation> {
        let image = &mut self.nodes[at];
        if let Some(index) = persist.truncate_from {
            image.keep_before(index);
        }
        if let Some(snapshot) = &persist.snapshot
            && snapshot.last.index > image.last().index
        {
            image.base = snapshot.last;
            image.terms.clear();
        }
        let mut previous = image.last();
        for entry in persist.entries.iter() {
            if entry.id.index != previous.index.next() {
                return Err(Violation::WriteOrder { node, index: entry.id.index });
            }
            image.terms.push(entry.id.term);
            see(&mut self.entries, &self.commands, node, previous.term, entry)?;
            previous = entry.id;
        }
        if let Some(index) = persist.compact_to {
            image.drop_to(index);
        }
        Ok(())
    }

    /// A node of `term` is given these to apply.
    pub(super) fn applies(
        &mut self,
        at: usize,
        node: NodeId,
        term: Term,
        entries: &Entries,
    ) -> Result<(), Violation> {
        for entry in entries.iter() {
            let given = &mut self.nodes[at].given;
            if entry.id.index != given.next() {
                return Err(Violation::ApplyOrder { node, entry: entry.id.index, applied: *given });
            }
            *given = entry.id.index;
            self.commit(node, term, entry)?;
        }
        Ok(())
    }

    fn commit(&mut self, node: NodeId, term: Term, entry: &Entry) -> Result<(), Violation> {
        let index = entry.id.index;
        if let Some(earlier) = self.committed.get(position(index)) {
            if earlier.term != entry.id.term {
                let earlier = LogId::new(earlier.term, index);
                return Err(Violation::StateMachineSafety { node, entry: entry.id, earlier });
            }
            return Ok(());
        }
        self.committed.push(Committed { term: entry.id.term, known_in: term });
        if let Payload::Command(command) = &entry.payload
            && let Some((serial, _)) = Serial::of(command)
        {
            let state = self.command(serial);
            if state.committed.is_some() {
                return Err(Violation::NotExactlyOnce { index });
            }
            state.committed = Some(index);
        }
        Ok(())
    }

    /// A node replaces its state by that after `last`.
    pub(super) fn restores(
        &mut self,
        at: usize,
        node: NodeId,
        last: LogId,
    ) -> Result<(), Violation> {
        self.nodes[at].given = last.index;
        match self.committed.get(position(last.index)) {
            Some(committed) if committed.term == last.term => Ok(()),
            Some(committed) => Err(Violation::StateMachineSafety {
                node,
                entry: last,
                earlier: LogId::new(committed.term, last.index),
            }),
            None => Err(Violation::StatesDiffer { node, index: last.index }),
        }
    }

    /// A node's state after `index` is this; every other one's must be too.
    pub(super) fn has_state(
        &mut self,
        node: NodeId,
        index: LogIndex,
        state: &Bytes,
    ) -> Result<(), Violation> {
        let earlier = self.states.entry(index).or_insert_with(|| state.clone());
        if earlier == state { Ok(()) } else { Err(Violation::StatesDiffer { node, index }) }
    }

    /// Looks at a node whose outputs are all polled.
    pub(super) fn observe(
        &mut self,
        at: usize,
        node: NodeId,
        raft: &Raft,
    ) -> Result<(), Violation> {
        let last = raft.log().last();
        if self.nodes[at].last() != last {
            return Err(Violation::WriteOrder { node, index: last.index });
        }
        let term = raft.term();
        let led = std::mem::replace(&mut self.nodes[at].led, raft.leads().then_some((term, last)));
        if raft.leads() {
            match led {
                Some((led_term, last)) if led_term == term => {
                    if !has(raft, last) {
                        return Err(Violation::LeaderAppendOnly { node, last });
                    }
                }
                _ => self.elected(node, raft)?,
            }
        }
        for (node, index, serial) in std::mem::take(&mut self.acknowledged) {
            if self.command(serial).committed != Some(index) {
                return Err(Violation::AcknowledgedLost { node, index });
            }
        }
        Ok(())
    }

    fn elected(&mut self, node: NodeId, raft: &Raft) -> Result<(), Violation> {
        let term = raft.term();
        let one = *self.leaders.entry(term).or_insert(node);
        if one != node {
            return Err(Violation::ElectionSafety { term, one, other: node });
        }
        self.leads_completely(node, raft)
    }

    /// Whether a leader has the last entry that is known to be committed in an earlier term, and
    /// so, by log matching, all of them.
    pub(super) fn leads_completely(&self, node: NodeId, raft: &Raft) -> Result<(), Violation> {
        let earlier = self.committed.iter().rposition(|entry| entry.known_in < raft.term());
        let Some(earlier) = earlier else { return Ok(()) };
        let index = LogIndex::new(earlier as u64 + 1);
        let missing = LogId::new(self.committed[earlier].term, index);
        if has(raft, missing) {
            return Ok(());
        }
        Err(Violation::LeaderCompleteness { node, term: raft.term(), missing })
    }

    /// The number of entries known to be committed.
    pub(super) fn committed(&self) -> usize {
        self.committed.len()
    }

    pub(super) fn next_serial(&mut self) -> Serial {
        self.commands.push(CommandState::default());
        Serial(self.commands.len() as u64 - 1)
    }

    /// A command was refused, so it must never turn up.
    pub(super) fn rejects(&mut self, serial: Serial) {
        self.command(serial).rejected = true;
    }

    /// A client is told that its command is committed at `index`.
    pub(super) fn acknowledges(&mut self, node: NodeId, index: LogIndex, serial: Serial) {
        // What stands there is known once the node gives it out, later in the same step.
        self.acknowledged.push((node, index, serial));
    }

    fn command(&mut self, serial: Serial) -> &mut CommandState {
        let at = usize::try_from(serial.0).unwrap_or(usize::MAX);
        &mut self.commands[at]
    }
}

/// Whether a log has an entry, or is past it.
fn has(raft: &Raft, id: LogId) -> bool {
    id.index < raft.log().base().index || raft.log().contains(id)
}

/// Compares an entry that enters a log with what other logs had there.
fn see(
    entries: &mut Vec<Vec<Seen>>,
    commands: &[CommandState],
    node: NodeId,
    previous: Term,
    entry: &Entry,
) -> Result<(), Violation> {
    let at = position(entry.id.index);
    if entries.len() <= at {
        entries.resize_with(at + 1, Vec::new);
    }
    if let Some(seen) = entries[at].iter().find(|seen| seen.term == entry.id.term) {
        if seen.previous != previous || seen.payload != entry.payload {
            return Err(Violation::LogMatching { node, entry: entry.id });
        }
        return Ok(());
    }
    if let Payload::Command(command) = &entry.payload
        && let Some((serial, _)) = Serial::of(command)
        && commands.get(usize::try_from(serial.0).unwrap_or(usize::MAX)).is_none_or(|c| c.rejected)
    {
        return Err(Violation::NotExactlyOnce { index: entry.id.index });
    }
    let payload = entry.payload.clone();
    entries[at].push(Seen { term: entry.id.term, previous, payload });
    Ok(())
}
