//! The group as a whole: what may happen next, and what comes of it.

use std::hash::Hasher;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::fingerprint::{Fingerprint, fingerprint};
use super::machine::{Disk, Machine, without_round};
use super::monitor::Monitor;
use super::plan::{Budget, Plan};
use super::search::Model;
use crate::message::{Message, MessageBody};
use crate::output::{Output, RoleKind};
use crate::types::{LogIdentity, NodeId, Term, Timestamp};

/// Longer than a node of the default configuration waits for a leader.
const LONG: Duration = Duration::from_secs(10);

/// A state. Nodes and messages are shared by the states that do not differ in them, each with its
/// fingerprint.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// Node `n` is at `n - 1`.
    pub(super) machines: Vec<(Rc<Machine>, u64)>,
    /// Each once, by fingerprint: any of them may be the next to arrive.
    letters: Vec<(Rc<Letter>, u64)>,
    pub(super) monitor: Monitor,
    budget: Budget,
}

#[derive(Debug, Clone)]
struct Letter {
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// What may happen next; nodes and messages by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Deliver {
        letter: u8,
        again: bool,
    },
    Sync {
        at: u8,
    },
    Campaign {
        at: u8,
    },
    /// A leader hears of nobody for long, and steps down.
    Depose {
        at: u8,
    },
    Tick {
        at: u8,
    },
    Propose {
        at: u8,
    },
    Change {
        at: u8,
    },
    /// A node stops, and starts with as many of the writes that were under way.
    Crash {
        at: u8,
        survivors: u8,
    },
}

/// A [`Plan`] as something to be searched.
pub(super) struct Group(pub(super) Plan);

impl Model for Group {
    type State = Cluster;
    type Step = Step;

    fn initial(&self) -> Cluster {
        let start = |node| {
            let machine = Machine::start(NodeId::new(node), Disk::default(), &self.0);
            let machine = machine.expect("an empty disk is one to start from");
            let fingerprint = machine.fingerprint();
            (Rc::new(machine), fingerprint)
        };
        Cluster {
            machines: (1..=self.0.nodes).map(start).collect(),
            letters: Vec::new(),
            monitor: Monitor::default(),
            budget: self.0.budget,
        }
    }

    fn steps(&self, cluster: &Cluster, steps: &mut Vec<Step>) {
        for letter in 0..cluster.letters.len() {
            let letter = u8::try_from(letter).expect("few messages are on their way");
            steps.push(Step::Deliver { letter, again: false });
            if cluster.budget.duplicates > 0 {
                steps.push(Step::Deliver { letter, again: true });
            }
        }
        for at in 0..cluster.machines.len() {
            let at = u8::try_from(at).expect("few nodes");
            self.steps_of_node(cluster, at, steps);
        }
    }

    fn take(&self, cluster: &Cluster, step: Step) -> Result<Cluster, String> {
        let mut next = cluster.clone();
        let budget = &mut next.budget;
        match step {
            Step::Deliver { again, .. } => budget.duplicates -= u8::from(again),
            Step::Propose { .. } => budget.commands -= 1,
            Step::Crash { .. } => budget.crashes -= 1,
            Step::Tick { .. } => budget.ticks -= 1,
            Step::Change { .. } => budget.changes -= 1,
            Step::Sync { .. } | Step::Campaign { .. } | Step::Depose { .. } => {}
        }
        let (changed, commits) = match step {
            Step::Deliver { letter, again } => next.deliver(usize::from(letter), again)?,
            Step::Sync { at } => next.change_node(at, |machine| {
                let count = machine.disk.writing.len();
                machine.disk.sync(count);
                machine.raft.handle_persisted(machine.raft.now(), machine.disk.durable);
            })?,
            Step::Crash { at, survivors } => next.crash(at, survivors, &self.0)?,
            Step::Campaign { at } => next.change_node(at, campaign)?,
            Step::Depose { at } => next.change_node(at, |machine| {
                machine.raft.handle_timeout(machine.raft.now() + LONG);
            })?,
            Step::Tick { at } => next.change_node(at, |machine| {
                let due = machine.raft.poll_timeout().unwrap_or(Timestamp::ZERO);
                machine.raft.handle_timeout(due);
            })?,
            Step::Propose { at } => {
                let command = Bytes::copy_from_slice(&[next.budget.commands]);
                next.change_node(at, |machine| {
                    let _ = machine.raft.propose(machine.raft.now(), command);
                })?
            }
            Step::Change { at } => next.change_node(at, |machine| {
                let (expected, target) = (self.0.members(), self.0.target.clone());
                let _ = machine.raft.change(machine.raft.now(), &expected, target);
            })?,
        };
        next.check(changed, commits)?;
        Ok(next)
    }

    fn describe(&self, cluster: &Cluster, step: Step) -> String {
        match step {
            Step::Deliver { letter, again } => {
                let Letter { from, to, message } = &*cluster.letters[usize::from(letter)].0;
                format!("{from} -> {to}{}: {message:?}", if again { ", again" } else { "" })
            }
            Step::Sync { at } => format!("{}: sync", at + 1),
            Step::Campaign { at } => format!("{}: campaign", at + 1),
            Step::Depose { at } => format!("{}: hears of nobody", at + 1),
            Step::Tick { at } => format!("{}: time passes", at + 1),
            Step::Propose { at } => format!("{}: propose", at + 1),
            Step::Change { at } => format!("{}: change the members", at + 1),
            Step::Crash { at, survivors } => {
                format!("{}: crash, keeping {survivors} writes", at + 1)
            }
        }
    }

    fn fingerprint(&self, cluster: &Cluster) -> u64 {
        let mut hasher = Fingerprint::default();
        for (_, fingerprint) in &cluster.machines {
            hasher.write_u64(*fingerprint);
        }
        for (_, fingerprint) in &cluster.letters {
            hasher.write_u64(*fingerprint);
        }
        hasher.write_u64(fingerprint(&(&cluster.monitor, cluster.budget)));
        hasher.finish()
    }
}

impl Group {
    fn steps_of_node(&self, cluster: &Cluster, at: u8, steps: &mut Vec<Step>) {
        let machine = &cluster.machines[usize::from(at)].0;
        let budget = &cluster.budget;
        let may_campaign = machine.raft.term() < self.0.last_term;
        if !machine.disk.writing.is_empty() {
            steps.push(Step::Sync { at });
        }
        if budget.crashes > 0 {
            for survivors in 0..=machine.disk.writing.len() {
                let survivors = u8::try_from(survivors).expect("few writes are under way");
                steps.push(Step::Crash { at, survivors });
            }
        }
        if machine.raft.leads() {
            let of_leader = [
                (may_campaign, Step::Depose { at }),
                (budget.ticks > 0, Step::Tick { at }),
                (budget.commands > 0, Step::Propose { at }),
                (budget.changes > 0, Step::Change { at }),
            ];
            steps.extend(of_leader.into_iter().filter_map(|(may, step)| may.then_some(step)));
        } else if may_campaign
            && machine.raft.status().configuration.is_voter(machine.node)
            // All are alike before the first election.
            && (at == 0 || machine.raft.term() > Term::ZERO)
        {
            steps.push(Step::Campaign { at });
        }
    }
}

/// Has a node campaign, promised all votes.
fn campaign(machine: &mut Machine) {
    let Some(due) = machine.raft.poll_timeout() else { return };
    machine.raft.handle_timeout(due);
    while machine.raft.poll_output().is_some() {
        // Questions before the vote, whose answers follow.
    }
    let (term, members) = (machine.raft.term().next(), machine.raft.status().configuration);
    for other in members.others(machine.node) {
        let body = MessageBody::PreVoteResponse { granted: true };
        let message = Message { term, log: LogIdentity::UNKNOWN, body };
        machine.raft.handle_message(due, other, message);
    }
}

impl Cluster {
    fn deliver(&mut self, letter: usize, again: bool) -> Result<(usize, bool), String> {
        let Letter { from, to, message } = (*self.letters[letter].0).clone();
        if !again {
            self.letters.remove(letter);
        }
        let at = u8::try_from(to.get() - 1).expect("few nodes");
        self.change_node(at, |machine| {
            let asks = matches!(message.body, MessageBody::VoteRequest { .. });
            let now = machine.raft.now();
            let late = if asks && !machine.raft.leads() { now + LONG } else { now };
            machine.raft.handle_message(late, from, message);
        })
    }

    fn crash(&mut self, at: u8, survivors: u8, plan: &Plan) -> Result<(usize, bool), String> {
        let machine = &self.machines[usize::from(at)].0;
        let mut disk = machine.disk.clone();
        disk.sync(usize::from(survivors));
        let started = Machine::start(machine.node, disk, plan);
        let started = started.map_err(|problem| format!("cannot start: {problem}"))?;
        self.change_node(at, |machine| *machine = started)
    }

    /// Gives a node an input, and does what it then wants done. Says which node that was, and
    /// whether it has committed something.
    fn change_node(
        &mut self,
        at: u8,
        input: impl FnOnce(&mut Machine),
    ) -> Result<(usize, bool), String> {
        let at = usize::from(at);
        let mut machine = (*self.machines[at].0).clone();
        input(&mut machine);
        let mut commits = false;
        while let Some(output) = machine.raft.poll_output() {
            commits |= self.perform(&mut machine, output)?;
        }
        let durable = machine.disk.durable;
        let (due, held) = std::mem::take(&mut machine.held)
            .into_iter()
            .partition(|(after, ..)| *after <= durable);
        machine.held = held;
        for (_, to, message) in due {
            self.send(machine.node, to, message);
        }
        let fingerprint = machine.fingerprint();
        self.machines[at] = (Rc::new(machine), fingerprint);
        Ok((at, commits))
    }

    fn perform(&mut self, machine: &mut Machine, output: Output) -> Result<bool, String> {
        match output {
            Output::Persist(persist) => machine.disk.write(&persist),
            Output::Send { to, message, after } => {
                machine.held.push((after.unwrap_or_default(), to, message));
            }
            Output::Apply(entries) => {
                let is_news = self.monitor.applies(machine, &entries)?;
                let last = entries.last_index().unwrap_or_default();
                machine.raft.handle_applied(machine.raft.now(), last);
                return Ok(is_news);
            }
            Output::Leadership(now) if now.role == RoleKind::Leader => {
                self.monitor.leads(machine.node, now.term)?;
            }
            _ => {}
        }
        Ok(false)
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        // A refused vote changes nothing, or is a term that other messages tell of.
        if matches!(message.body, MessageBody::VoteResponse { granted: false }) {
            return;
        }
        let name = fingerprint(&(from, to, without_round(&message)));
        if let Err(place) = self.letters.binary_search_by_key(&name, |(_, name)| *name) {
            self.letters.insert(place, (Rc::new(Letter { from, to, message }), name));
        }
    }
}
