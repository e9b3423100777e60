//! A cluster whose network and disks do what the test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Entry, HardState, Leadership, LogId, LogIdentity, LogIndex, Message,
    MessageBody, NodeId, Output, Payload, Persist, PersistSeq, ProposalFate, ProposalId, Raft,
    ReadId, Restored, RoleKind, Snapshot, Term, Timestamp,
};

use crate::transcript;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(100);

pub(crate) fn node(number: u64) -> NodeId {
    NodeId::new(number)
}

pub(crate) fn index(number: u64) -> LogIndex {
    LogIndex::new(number)
}

pub(crate) fn id(term: u64, position: u64) -> LogId {
    LogId::new(Term::new(term), index(position))
}

pub(crate) fn message(term: u64, body: MessageBody) -> Message {
    Message { term: Term::new(term), log: LogIdentity::UNKNOWN, body }
}

pub(crate) fn voters(count: u64) -> Configuration {
    Configuration::of_voters((1..=count).map(node))
}

/// A log with entries of these terms, and a node that has seen `term`.
pub(crate) fn restored(term: u64, terms: &[u64]) -> Restored {
    let entry = |(position, term): (usize, &u64)| Entry {
        id: id(*term, position as u64 + 1),
        payload: Payload::Command(Bytes::from(format!("{term}/{}", position + 1))),
    };
    Restored {
        hard_state: HardState { term: Term::new(term), voted_for: None, ..HardState::default() },
        snapshot: None,
        entries: terms.iter().enumerate().map(entry).collect(),
    }
}

/// Nodes that have started before, and shown their logs to nobody.
pub(crate) fn empty(count: u64) -> impl Iterator<Item = Restored> {
    (1..=count).map(|number| {
        let hard_state = HardState { log: LogIdentity::new(number), ..HardState::default() };
        Restored { hard_state, ..Restored::default() }
    })
}

pub(crate) fn config(number: u64) -> Config {
    Config::new(node(number), 1000 + number)
}

/// A lone node of a group of `count`, long enough after its start that it hears no leader.
pub(crate) fn lone(count: u64, state: Restored) -> Raft {
    let mut raft = Raft::new(config(1), voters(count), state, Timestamp::ZERO).unwrap();
    // Any input tells the time; this one says nothing else.
    raft.handle_applied(Timestamp::since_origin(TIMEOUT), LogIndex::ZERO);
    raft
}

pub(crate) fn outputs(raft: &mut Raft) -> Vec<Output> {
    std::iter::from_fn(|| raft.poll_output()).collect()
}

/// What a test may look at on one node.
pub(crate) struct Host {
    pub(crate) raft: Raft,
    /// What is durable.
    pub(crate) disk: Restored,
    pub(crate) unsynced: VecDeque<Persist>,
    /// Whether writes are durable at once.
    pub(crate) syncs: bool,
    held: Vec<(PersistSeq, NodeId, Message)>,
    pub(crate) durable: PersistSeq,
    pub(crate) applied: Vec<Entry>,
    pub(crate) restored: Vec<Snapshot>,
    pub(crate) fates: Vec<(ProposalId, ProposalFate)>,
    pub(crate) reads: Vec<(ReadId, Option<LogIndex>)>,
    pub(crate) leadership: Vec<Leadership>,
}

impl Host {
    pub(crate) fn applied_commands(&self) -> Vec<&[u8]> {
        self.applied
            .iter()
            .filter_map(|entry| match &entry.payload {
                Payload::Blank | Payload::Configuration(_) => None,
                Payload::Command(command) => Some(&command[..]),
            })
            .collect()
    }

    pub(crate) fn log_terms(&self) -> Vec<u64> {
        self.disk.entries.iter().map(|entry| entry.id.term.get()).collect()
    }

    fn store(&mut self, persist: Persist) {
        let Persist { seq, hard_state, truncate_from, snapshot, entries, compact_to } = persist;
        self.durable = seq;
        if let Some(hard_state) = hard_state {
            self.disk.hard_state = hard_state;
        }
        if let Some(from) = truncate_from {
            self.disk.entries.retain(|entry| entry.id.index < from);
        }
        if let Some(snapshot) = snapshot {
            self.disk.snapshot = Some(*snapshot);
        }
        self.disk.entries.extend(entries.iter().cloned());
        if let Some(to) = compact_to {
            self.disk.entries.retain(|entry| entry.id.index > to);
        }
    }
}

pub(crate) struct Cluster {
    /// The members at the beginning.
    members: Configuration,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    pub(crate) now: Timestamp,
    pub(crate) wire: VecDeque<(NodeId, NodeId, Message)>,
    /// Links that carry nothing, by sender and receiver.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Which messages the network sets aside, until it is told to [`release`](Self::release) them.
    pub(crate) sets_aside: Option<fn(&MessageBody) -> bool>,
    aside: VecDeque<(NodeId, NodeId, Message)>,
    /// How many messages were delivered.
    pub(crate) delivered: usize,
    /// What has happened, where somebody wants to know.
    pub(crate) transcript: Option<Vec<String>>,
}

impl Cluster {
    pub(crate) fn new(count: u64) -> Self {
        Self::of(empty(count))
    }

    /// Nodes 1, 2, … that have made this durable.
    pub(crate) fn of(states: impl IntoIterator<Item = Restored>) -> Self {
        Self::configured(states, config)
    }

    /// Nodes 1 to `count`, of which only some need be members.
    pub(crate) fn with_members(count: u64, members: Configuration) -> Self {
        Self::build(empty(count).collect(), members, config)
    }

    pub(crate) fn configured_with_members(
        count: u64,
        members: Configuration,
        configure: impl Fn(u64) -> Config,
    ) -> Self {
        Self::build(empty(count).collect(), members, configure)
    }

    pub(crate) fn configured(
        states: impl IntoIterator<Item = Restored>,
        configure: impl Fn(u64) -> Config,
    ) -> Self {
        let states: Vec<Restored> = states.into_iter().collect();
        let members = voters(states.len() as u64);
        Self::build(states, members, configure)
    }

    fn build(
        states: Vec<Restored>,
        members: Configuration,
        configure: impl Fn(u64) -> Config,
    ) -> Self {
        let now = Timestamp::ZERO;
        let host = |(position, disk): (usize, Restored)| {
            let number = position as u64 + 1;
            let raft = Raft::new(configure(number), members.clone(), disk.clone(), now).unwrap();
            (node(number), Self::host(raft, disk))
        };
        let hosts = states.into_iter().enumerate().map(host).collect();
        Self {
            hosts,
            members,
            now,
            wire: VecDeque::new(),
            cut: BTreeSet::new(),
            sets_aside: None,
            aside: VecDeque::new(),
            delivered: 0,
            transcript: None,
        }
    }

    fn host(raft: Raft, disk: Restored) -> Host {
        Host {
            raft,
            disk,
            unsynced: VecDeque::new(),
            syncs: true,
            held: Vec::new(),
            durable: PersistSeq::ZERO,
            applied: Vec::new(),
            restored: Vec::new(),
            fates: Vec::new(),
            reads: Vec::new(),
            leadership: Vec::new(),
        }
    }

    pub(crate) fn host_of(&mut self, number: u64) -> &mut Host {
        self.hosts.get_mut(&node(number)).unwrap()
    }

    pub(crate) fn raft(&mut self, number: u64) -> &mut Raft {
        &mut self.host_of(number).raft
    }

    pub(crate) fn role(&mut self, number: u64) -> RoleKind {
        self.raft(number).status().role
    }

    /// Starts a node anew from its disk; what was not synced is lost.
    pub(crate) fn restart(&mut self, number: u64) {
        let members = self.members.clone();
        let now = self.now;
        let host = self.hosts.get_mut(&node(number)).unwrap();
        let config = Config::new(node(number), 5000 + now.since(Timestamp::ZERO).as_secs());
        let raft = Raft::new(config, members, host.disk.clone(), now).unwrap();
        *host = Self::host(raft, host.disk.clone());
    }

    /// Starts a node anew, without anything that its disk held.
    pub(crate) fn wipe(&mut self, number: u64) {
        self.host_of(number).disk = Restored::default();
        self.restart(number);
    }

    /// Mends the links between two nodes.
    pub(crate) fn heal_from(&mut self, one: u64, other: u64) {
        self.cut.remove(&(node(one), node(other)));
        self.cut.remove(&(node(other), node(one)));
    }

    /// Delivers message after message until `done`.
    pub(crate) fn step_until(&mut self, done: impl Fn(&mut Self) -> bool) {
        while !done(self) {
            for number in 1..=self.hosts.len() as u64 {
                self.perform(number);
            }
            let (from, to, message) = self.wire.pop_front().expect("it happens");
            let now = self.now;
            self.host_of(to.get()).raft.handle_message(now, from, message);
        }
    }

    /// The same for as long as there are messages.
    pub(crate) fn step_some(&mut self, done: impl Fn(&mut Self) -> bool) {
        let done = |cluster: &mut Self| {
            for number in 1..=cluster.hosts.len() as u64 {
                cluster.perform(number);
            }
            cluster.wire.is_empty() || done(cluster)
        };
        self.step_until(done);
    }

    pub(crate) fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((node(from), node(to)));
    }

    /// Cuts a node off, in both directions.
    pub(crate) fn isolate(&mut self, number: u64) {
        for other in 1..=self.hosts.len() as u64 {
            self.cut(number, other);
            self.cut(other, number);
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Delivers what was set aside, and sets nothing aside any more.
    pub(crate) fn release(&mut self) {
        self.sets_aside = None;
        self.wire.append(&mut self.aside);
        self.settle();
    }

    /// Performs a node's outputs.
    pub(crate) fn perform(&mut self, number: u64) {
        let now = self.now;
        let from = node(number);
        let mut sent = Vec::new();
        let host = self.hosts.get_mut(&from).unwrap();
        while let Some(output) = host.raft.poll_output() {
            if let Some(transcript) = &mut self.transcript {
                transcript.extend(transcript::output(from, &output));
            }
            match output {
                Output::Persist(persist) => {
                    host.unsynced.push_back(persist);
                    if host.syncs {
                        sent.extend(Self::sync_host(host, now));
                    }
                }
                Output::Send { to, message, after } => match after {
                    Some(after) if after > host.durable => host.held.push((after, to, message)),
                    _ => sent.push((to, message)),
                },
                Output::Apply(entries) => {
                    host.applied.extend(entries.iter().cloned());
                    let last = entries.last_index().unwrap();
                    host.raft.handle_applied(now, last);
                }
                Output::Restore { snapshot, .. } => {
                    host.raft.handle_applied(now, snapshot.last.index);
                    host.restored.push(*snapshot);
                }
                Output::TakeSnapshot { index } => {
                    let data = Bytes::from(format!("state after {index}"));
                    host.raft.handle_snapshot_taken(now, index, data);
                }
                Output::Proposal { proposal, fate } => host.fates.push((proposal, fate)),
                Output::Read { read, index } => host.reads.push((read, index)),
                Output::Leadership(leadership) => host.leadership.push(leadership),
            }
        }
        for (to, message) in sent {
            if !self.cut.contains(&(from, to)) {
                self.wire.push_back((from, to, message));
            }
        }
    }

    fn sync_host(host: &mut Host, now: Timestamp) -> Vec<(NodeId, Message)> {
        while let Some(persist) = host.unsynced.pop_front() {
            host.store(persist);
        }
        let durable = host.durable;
        host.raft.handle_persisted(now, durable);
        let (due, held) =
            std::mem::take(&mut host.held).into_iter().partition(|(after, ..)| *after <= durable);
        host.held = held;
        let due: Vec<(PersistSeq, NodeId, Message)> = due;
        due.into_iter().map(|(_, to, message)| (to, message)).collect()
    }

    /// Makes what a node has written durable.
    pub(crate) fn sync(&mut self, number: u64) {
        let now = self.now;
        let from = node(number);
        let sent = Self::sync_host(self.hosts.get_mut(&from).unwrap(), now);
        for (to, message) in sent {
            if !self.cut.contains(&(from, to)) {
                self.wire.push_back((from, to, message));
            }
        }
        self.settle();
    }

    /// Lets everything happen that takes no time.
    pub(crate) fn settle(&mut self) {
        loop {
            for number in 1..=self.hosts.len() as u64 {
                self.perform(number);
            }
            let Some((from, to, message)) = self.wire.pop_front() else { return };
            self.delivered += 1;
            assert!(self.delivered < 1_000_000, "messages go round in circles");
            if self.cut.contains(&(from, to)) {
                continue;
            }
            if let Some(transcript) = &mut self.transcript {
                transcript.push(transcript::message(from, to, &message));
            }
            if self.sets_aside.is_some_and(|is_set_aside| is_set_aside(&message.body)) {
                self.aside.push_back((from, to, message));
                continue;
            }
            let now = self.now;
            if let Some(host) = self.hosts.get_mut(&to) {
                host.raft.handle_message(now, from, message);
            }
        }
    }

    /// Lets time pass, and all timers fire.
    pub(crate) fn advance(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(10)).min(end);
            let now = self.now;
            for host in self.hosts.values_mut() {
                if host.raft.poll_timeout().is_some_and(|deadline| deadline <= now) {
                    host.raft.handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    /// Lets time pass until this node's patience ends, and nobody else's.
    pub(crate) fn time_out(&mut self, number: u64) {
        self.now = self.now + TIMEOUT * 2;
        let now = self.now;
        for host in self.hosts.values_mut() {
            host.raft.handle_applied(now, LogIndex::ZERO);
        }
        self.raft(number).handle_timeout(now);
        self.settle();
    }

    /// Has this node lead, where the others let it.
    pub(crate) fn elect(&mut self, number: u64) {
        self.time_out(number);
        assert_eq!(self.role(number), RoleKind::Leader, "node {number} is not elected");
    }

    /// Has this node lead by the votes of nodes that would rather lead themselves: it was asked to.
    pub(crate) fn elect_by_transfer(&mut self, number: u64) {
        let other = if number == 1 { 2 } else { 1 };
        self.elect(other);
        self.advance(HEARTBEAT);
        let now = self.now;
        self.raft(other).transfer_leadership(now, Some(node(number))).unwrap();
        self.settle();
        assert_eq!(self.role(number), RoleKind::Leader, "node {number} is not elected");
    }

    pub(crate) fn propose(&mut self, number: u64, command: &'static str) -> ProposalId {
        let now = self.now;
        let command = Bytes::from_static(command.as_bytes());
        let proposal = self.raft(number).propose(now, command).unwrap();
        self.settle();
        proposal
    }

    pub(crate) fn leaders(&self) -> Vec<NodeId> {
        let leads = |host: &Host| host.raft.status().role == RoleKind::Leader;
        self.hosts.iter().filter(|(_, host)| leads(host)).map(|(node, _)| *node).collect()
    }
}
