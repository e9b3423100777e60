//! What every three-node cluster in one thread can do, and dss-raft's.

use std::collections::VecDeque;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Entries, LogIndex, Message, NodeId, Output, Raft, Restored, RoleKind,
    Timestamp,
};

/// What is proposed: 16 bytes, whose memory all entries share, so that not the allocator is
/// measured.
pub(crate) const COMMAND: &[u8; 16] = b"sixteen bytes ok";

/// After how many entries the log is cut, for every member.
pub(crate) const COMPACT_AFTER: u64 = 20_000;

/// Three nodes of some Raft in this thread, with a leader, logs in memory and messages that are
/// moved from one to the other.
pub(crate) trait Cluster {
    /// What it is called in the tables.
    const NAME: &'static str;

    /// Starts the nodes and elects a leader.
    fn start() -> Self;

    /// Proposes so many commands at once, and works until all three nodes have applied them.
    fn commit(&mut self, batch: u64);
}

/// Three nodes of dss-raft.
pub(crate) struct DssRaft {
    nodes: Vec<Node>,
    leader: usize,
    command: Bytes,
    now: Timestamp,
    mail: VecDeque<Mail>,
}

struct Node {
    id: NodeId,
    raft: Raft,
    /// What was written, which nobody reads: as in memory there is no restart.
    log: VecDeque<Entries>,
    applied: LogIndex,
}

struct Mail {
    from: NodeId,
    to: NodeId,
    message: Message,
}

impl Cluster for DssRaft {
    const NAME: &'static str = "dss-raft";

    fn start() -> Self {
        let members = Configuration::of_voters((1..=3).map(NodeId::new));
        let nodes = (members.voters.iter())
            .map(|id| {
                let config = Config::new(*id, id.get()).compaction(COMPACT_AFTER, usize::MAX);
                let raft = Raft::new(config, members.clone(), Restored::default(), Timestamp::ZERO)
                    .expect("there is nothing to restore");
                let (log, applied) = (VecDeque::new(), LogIndex::ZERO);
                Node { id: *id, raft, log, applied }
            })
            .collect();
        let command = Bytes::copy_from_slice(COMMAND);
        let (now, mail) = (Timestamp::ZERO, VecDeque::new());
        let mut cluster = Self { nodes, leader: 0, command, now, mail };
        cluster.elect();
        cluster
    }

    fn commit(&mut self, batch: u64) {
        let Node { raft, applied, .. } = &mut self.nodes[self.leader];
        let target = LogIndex::new(applied.get() + batch);
        for _ in 0..batch {
            raft.propose(self.now, self.command.clone()).expect("it leads and has room");
        }
        self.settle();
        // Followers hear of the commit with the next message, or in a while: time passes at once.
        while self.nodes.iter().any(|node| node.applied < target) {
            self.pass_time();
        }
    }
}

impl DssRaft {
    /// Waits until there is a leader and whatever it writes first is applied everywhere.
    fn elect(&mut self) {
        loop {
            self.pass_time();
            let leads = |node: &Node| node.raft.status().role == RoleKind::Leader;
            let Some(leader) = self.nodes.iter().position(leads) else { continue };
            self.leader = leader;
            let last = self.nodes[leader].raft.status().last_index;
            if self.nodes.iter().all(|node| node.applied == last) {
                return;
            }
            assert!(self.now.since(Timestamp::ZERO).as_secs() < 60, "somebody is elected");
        }
    }

    /// Goes on to the next deadline of any node.
    fn pass_time(&mut self) {
        let deadlines = self.nodes.iter().filter_map(|node| node.raft.poll_timeout());
        self.now = deadlines.min().expect("somebody waits for something").max(self.now);
        for node in &mut self.nodes {
            if node.raft.poll_timeout().is_some_and(|deadline| deadline <= self.now) {
                node.raft.handle_timeout(self.now);
            }
        }
        self.settle();
    }

    /// Performs outputs and delivers messages until there are none.
    fn settle(&mut self) {
        for node in &mut self.nodes {
            node.perform(self.now, &mut self.mail);
        }
        while let Some(Mail { from, to, message }) = self.mail.pop_front() {
            let at = usize::try_from(to.get() - 1).expect("one of three");
            let node = &mut self.nodes[at];
            node.raft.handle_message(self.now, from, message);
            node.perform(self.now, &mut self.mail);
        }
    }
}

impl Node {
    fn perform(&mut self, now: Timestamp, mail: &mut VecDeque<Mail>) {
        while let Some(output) = self.raft.poll_output() {
            match output {
                Output::Persist(persist) => {
                    if let Some(end) = persist.compact_to {
                        while self.log.front().is_some_and(|run| run.last_index() <= Some(end)) {
                            self.log.pop_front();
                        }
                    }
                    self.log.push_back(persist.entries);
                    self.raft.handle_persisted(now, persist.seq);
                }
                // Whatever it waits for is written: persisting ends before the next output.
                Output::Send { to, message, after: _ } => {
                    mail.push_back(Mail { from: self.id, to, message });
                }
                Output::Apply(entries) => {
                    self.applied = entries.last_index().expect("nothing is not applied");
                    self.raft.handle_applied(now, self.applied);
                }
                Output::TakeSnapshot { index } => {
                    self.raft.handle_snapshot_taken(now, index, Bytes::new());
                }
                Output::Proposal { .. } | Output::Leadership(_) => {}
                other => panic!("nobody reads, and nobody falls behind: {other:?}"),
            }
        }
    }
}
