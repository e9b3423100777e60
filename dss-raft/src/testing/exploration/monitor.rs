//! The properties (figure 3 of the paper), and that nothing is committed without a quorum.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::machine::Machine;
use crate::core::Raft;
use crate::entry::{Entries, Entry};
use crate::output::RoleKind;
use crate::types::{LogIndex, NodeId, Term};

/// What has happened for good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Monitor {
    leaders: BTreeMap<Term, NodeId>,
    /// From index 1 on, each with the term of who committed it first.
    committed: Vec<(Entry, Term)>,
}

impl Monitor {
    /// A node begins to lead.
    pub(super) fn leads(&mut self, node: NodeId, term: Term) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(node);
        if leader == node {
            return Ok(());
        }
        Err(format!("election safety: {leader} and {node} both lead term {term}"))
    }

    /// A node gives out entries to be applied. Says whether one of them is committed by that.
    pub(super) fn applies(&mut self, machine: &Machine, entries: &Entries) -> Result<bool, String> {
        let node = machine.node;
        let mut is_news = false;
        for entry in entries.iter() {
            let position = usize::try_from(entry.id.index.previous().get()).unwrap_or(usize::MAX);
            if let Some((committed, _)) = self.committed.get(position) {
                if committed != entry {
                    return Err(format!(
                        "state machine safety: {node} applies {:?} where {:?} was applied",
                        entry.id, committed.id
                    ));
                }
            } else {
                if position != self.committed.len() {
                    return Err(format!("{node} skips entries before {:?}", entry.id));
                }
                is_news = true;
                self.committed.push((entry.clone(), machine.raft.term()));
            }
        }
        Ok(is_news)
    }
}

impl Cluster {
    /// Checks the node that did something: the others are as they were.
    pub(super) fn check(&self, changed: usize, commits: bool) -> Result<(), String> {
        let machine = &self.machines[changed].0;
        if commits {
            self.check_quorum(machine)?;
        }
        for (other, _) in self.machines.iter().filter(|(other, _)| other.node != machine.node) {
            check_logs(machine, other)?;
        }
        self.machines.iter().try_for_each(|(machine, _)| self.check_completeness(machine))
    }

    /// A leader has what was committed in the terms before its own.
    fn check_completeness(&self, machine: &Machine) -> Result<(), String> {
        let raft = &machine.raft;
        if !raft.leads() {
            return Ok(());
        }
        let missing = (self.monitor.committed.iter())
            .find(|(entry, term)| *term < raft.term() && !raft.log().contains(entry.id));
        missing.map_or(Ok(()), |(entry, _)| {
            let (node, term) = (machine.node, raft.term());
            Err(format!("leader completeness: {node} leads {term} without {:?}", entry.id))
        })
    }

    /// What a leader commits is durable on a quorum of the members that it knows.
    fn check_quorum(&self, machine: &Machine) -> Result<(), String> {
        let Some((entry, _)) = self.monitor.committed.last() else { return Ok(()) };
        let status = machine.raft.status();
        if status.role != RoleKind::Leader {
            return Err(format!("{} commits and does not lead: {:?}", machine.node, entry.id));
        }
        let has = |node| {
            let mut machines = self.machines.iter().map(|(machine, _)| machine);
            machines.any(|machine| machine.node == node && machine.disk.has(entry.id))
        };
        if status.configuration.is_quorum(has) {
            return Ok(());
        }
        Err(format!("commit without quorum: {} commits {:?}", machine.node, entry.id))
    }
}

/// Logs that have an entry of the same index and term are the same up to there.
fn check_logs(one: &Machine, other: &Machine) -> Result<(), String> {
    let last = one.raft.log().last().index.min(other.raft.log().last().index);
    let mut differ = None;
    for index in (1..=last.get()).map(LogIndex::new) {
        let same_term = one.raft.log().term_at(index) == other.raft.log().term_at(index);
        if same_term && differ.is_some() {
            return Err(format!(
                "log matching: {} and {} agree at {index} and differ at {differ:?}",
                one.node, other.node
            ));
        }
        if !same_term || entry_at(&one.raft, index) != entry_at(&other.raft, index) {
            differ.get_or_insert(index);
        }
        if same_term && differ.is_some() {
            return Err(format!("log matching: {} and {} at {index}", one.node, other.node));
        }
    }
    Ok(())
}

fn entry_at(raft: &Raft, index: LogIndex) -> Option<Entry> {
    raft.log().shared_run(index, index).first().cloned()
}
