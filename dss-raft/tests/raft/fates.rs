//! Every proposal ends in exactly one of committed, rejected and unknown, and that is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{Configuration, NodeId, Payload, ProposalFate, ProposalId, RoleKind};
use proptest::prelude::*;

use crate::cluster::{Cluster, TIMEOUT, config, node};

const NODES: u64 = 4;

/// What happens to a cluster of four nodes, three of which are voters at first.
#[derive(Debug, Clone)]
enum Event {
    /// Somebody proposes, wherever.
    Propose(u64),
    Isolate(u64),
    Heal,
    /// A disk does nothing for a while.
    Stall(u64),
    Sync(u64),
    Transfer(u64, u64),
    /// The voters are to be these.
    Change(u64, Vec<u64>),
    FailStorage(u64),
    TimeOut(u64),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let number = || 1..=NODES;
    prop_oneof![
        8 => number().prop_map(Event::Propose),
        2 => number().prop_map(Event::Isolate),
        2 => Just(Event::Heal),
        2 => number().prop_map(Event::Stall),
        3 => number().prop_map(Event::Sync),
        2 => (number(), number()).prop_map(|(from, to)| Event::Transfer(from, to)),
        2 => (number(), prop::collection::vec(number(), 1..4))
            .prop_map(|(leader, voters)| Event::Change(leader, voters)),
        1 => number().prop_map(Event::FailStorage),
        3 => number().prop_map(Event::TimeOut),
        4 => (1u64..30).prop_map(Event::Pass),
    ]
}

/// A cluster, and what it was asked for.
struct Run {
    cluster: Cluster,
    commands: BTreeMap<(NodeId, ProposalId), Bytes>,
    changes: BTreeSet<(NodeId, ProposalId)>,
    refused: BTreeSet<Bytes>,
    made: u64,
}

impl Run {
    fn new() -> Self {
        // So little may wait that some proposals are refused for that reason.
        let configure = |number| config(number).uncommitted_bytes(200);
        let members = Configuration::of_voters((1..NODES).map(node));
        let cluster = Cluster::configured_with_members(NODES, members, configure);
        let (commands, changes, refused) = Default::default();
        Self { cluster, commands, changes, refused, made: 0 }
    }

    fn propose(&mut self, number: u64) {
        self.made += 1;
        let command = Bytes::from(format!("command {}", self.made));
        let now = self.cluster.now;
        match self.cluster.raft(number).propose(now, command.clone()) {
            Ok(proposal) => {
                let first = self.commands.insert((node(number), proposal), command);
                assert_eq!(first, None, "two proposals of one number");
            }
            Err(_) => {
                self.refused.insert(command);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let cluster = &mut self.cluster;
        let now = cluster.now;
        match event {
            Event::Propose(number) => return self.propose(number),
            Event::Isolate(number) => cluster.isolate(number),
            Event::Heal => cluster.heal(),
            Event::Stall(number) => cluster.host_of(number).syncs = false,
            Event::Sync(number) => {
                cluster.host_of(number).syncs = true;
                cluster.sync(number);
            }
            Event::Transfer(from, to) => {
                let _ = cluster.raft(from).transfer_leadership(now, Some(node(to)));
            }
            Event::Change(leader, voters) => {
                let target = Configuration::of_voters(voters.into_iter().map(node));
                let expected = cluster.raft(leader).status().configuration;
                if let Ok(proposal) = cluster.raft(leader).change(now, &expected, target) {
                    assert!(self.changes.insert((node(leader), proposal)));
                }
            }
            Event::FailStorage(number) => {
                cluster.raft(number).handle_storage_failed(now);
                cluster.host_of(number).unsynced.clear();
            }
            Event::TimeOut(number) => cluster.time_out(number),
            Event::Pass(centiseconds) => cluster.advance(Duration::from_millis(centiseconds * 10)),
        }
        self.cluster.settle();
    }

    /// Faults end, and so does whoever leads: then everything has ended.
    fn end(&mut self) {
        self.cluster.heal();
        for number in 1..=NODES {
            self.happen(Event::Sync(number));
        }
        self.cluster.advance(TIMEOUT * 30);
        for number in 1..=NODES {
            let now = self.cluster.now;
            if self.cluster.role(number) == RoleKind::Leader {
                self.cluster.raft(number).handle_storage_failed(now);
            }
            self.cluster.perform(number);
        }
    }

    /// What was applied anywhere, by index; the same everywhere.
    fn applied(&self) -> BTreeMap<u64, Bytes> {
        let mut applied = BTreeMap::new();
        for host in self.cluster.hosts.values() {
            for entry in &host.applied {
                if let Payload::Command(command) = &entry.payload {
                    let at = entry.id.index.get();
                    let earlier = applied.insert(at, command.clone());
                    assert!(earlier.is_none_or(|earlier| earlier == command));
                }
            }
        }
        applied
    }

    fn check(&self) -> BTreeMap<&'static str, usize> {
        let applied = self.applied();
        let everywhere: Vec<&Bytes> = applied.values().collect();
        let mut counts = BTreeMap::new();
        let mut ended = BTreeSet::new();
        for (number, host) in &self.cluster.hosts {
            for (proposal, fate) in &host.fates {
                let key = (*number, *proposal);
                assert!(ended.insert(key), "{key:?} ends twice");
                let Some(command) = self.commands.get(&key) else {
                    assert!(self.changes.contains(&key), "{key:?} was never made");
                    *counts.entry("change").or_default() += 1;
                    continue;
                };
                let times = everywhere.iter().filter(|applied| **applied == command).count();
                match fate {
                    ProposalFate::Committed(index) => {
                        assert_eq!(applied.get(&index.get()), Some(command));
                        assert_eq!(times, 1);
                        *counts.entry("committed").or_default() += 1;
                    }
                    ProposalFate::Unknown => {
                        assert!(times <= 1);
                        *counts.entry("unknown").or_default() += 1;
                    }
                    ProposalFate::Rejected => panic!("a command that has a number is in a log"),
                }
            }
        }
        let made: BTreeSet<_> = self.commands.keys().chain(&self.changes).copied().collect();
        assert_eq!(ended, made, "what was made ends, and nothing else does");
        for command in &self.refused {
            assert!(!everywhere.contains(&command), "{command:?} was refused");
            for host in self.cluster.hosts.values() {
                let holds = host.disk.entries.iter().any(
                    |entry| matches!(&entry.payload, Payload::Command(stored) if stored == command),
                );
                assert!(!holds, "{command:?} was refused and is in a log");
            }
            *counts.entry("refused").or_default() += 1;
        }
        counts
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_proposal_has_one_fate_and_that_is_the_truth(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let mut run = Run::new();
        run.happen(Event::TimeOut(1));
        for event in events {
            run.happen(event);
        }
        run.end();
        run.check();
    }
}

#[test]
fn the_three_ends_of_a_proposal() {
    let mut run = Run::new();
    run.happen(Event::TimeOut(1));
    run.propose(2);
    run.propose(1);
    run.happen(Event::Pass(1));
    run.happen(Event::Isolate(1));
    run.propose(1);
    run.happen(Event::Pass(300));
    run.end();
    let expected = BTreeMap::from([("committed", 1), ("refused", 1), ("unknown", 1)]);
    assert_eq!(run.check(), expected);
}

#[test]
fn a_proposal_that_was_unknown_may_be_committed_by_another_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    // The followers have it, and their answers are lost.
    cluster.cut(2, 1);
    cluster.cut(3, 1);
    let proposal = cluster.propose(1, "x");
    cluster.advance(TIMEOUT * 4);
    assert_eq!(cluster.host_of(1).fates, [(proposal, ProposalFate::Unknown)]);
    let leaders = cluster.leaders();
    let [leader] = leaders[..] else { panic!("{leaders:?}") };
    assert_eq!(cluster.host_of(leader.get()).applied_commands(), [b"x"]);
}
