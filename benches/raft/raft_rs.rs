//! raft-rs in one thread, as fast as its interface allows: proposals of a batch in one message,
//! commits told at once, messages of any size.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

use crate::cluster::{COMMAND, COMPACT_AFTER, Cluster};

/// Three nodes of raft-rs.
pub(crate) struct RaftRs {
    nodes: Vec<Node>,
    leader: usize,
    command: Bytes,
    mail: VecDeque<Message>,
}

struct Node {
    raw: RawNode<MemStorage>,
    applied: u64,
    compacted: u64,
}

impl Cluster for RaftRs {
    const NAME: &'static str = "raft-rs";

    fn start() -> Self {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let nodes = (1..=3)
            .map(|id| {
                let config = Config {
                    id,
                    election_tick: 10,
                    heartbeat_tick: 1,
                    max_size_per_msg: 1 << 20,
                    pre_vote: true,
                    check_quorum: true,
                    batch_append: true,
                    ..Config::default()
                };
                let members = ConfState::from((vec![1, 2, 3], vec![]));
                let storage = MemStorage::new_with_conf_state(members);
                let raw =
                    RawNode::new(&config, storage, &logger).expect("the configuration is valid");
                Node { raw, applied: 0, compacted: 0 }
            })
            .collect();
        let command = Bytes::copy_from_slice(COMMAND);
        let mut cluster = Self { nodes, leader: 0, command, mail: VecDeque::new() };
        cluster.elect();
        cluster
    }

    fn commit(&mut self, batch: u64) {
        let Node { raw, applied, .. } = &mut self.nodes[self.leader];
        let target = *applied + batch;
        let mut proposal = Message::default();
        proposal.set_msg_type(MessageType::MsgPropose);
        proposal.from = raw.raft.id;
        let entry = || Entry { data: self.command.clone(), ..Entry::default() };
        proposal.entries = (0..batch).map(|_| entry()).collect::<Vec<_>>().into();
        raw.raft.step(proposal).expect("it leads");
        self.settle();
        assert!(self.nodes.iter().all(|node| node.applied == target), "all are told at once");
    }
}

impl RaftRs {
    fn elect(&mut self) {
        self.nodes[self.leader].raw.campaign().expect("nobody leads yet");
        self.settle();
        assert_eq!(self.nodes[self.leader].raw.raft.state, StateRole::Leader);
    }

    fn settle(&mut self) {
        for node in &mut self.nodes {
            node.perform(&mut self.mail);
        }
        while let Some(message) = self.mail.pop_front() {
            let at = usize::try_from(message.to - 1).expect("one of three");
            self.nodes[at].raw.step(message).expect("the message is a member's");
            self.nodes[at].perform(&mut self.mail);
        }
    }
}

impl Node {
    fn perform(&mut self, mail: &mut VecDeque<Message>) {
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            mail.extend(ready.take_messages());
            self.apply(&ready.take_committed_entries());
            {
                let mut storage = self.raw.store().wl();
                storage.append(ready.entries()).expect("the entries follow");
                if let Some(state) = ready.hs() {
                    storage.set_hardstate(state.clone());
                }
            }
            mail.extend(ready.take_persisted_messages());
            let mut rest = self.raw.advance(ready);
            if let Some(commit) = rest.commit_index() {
                self.raw.store().wl().mut_hard_state().commit = commit;
            }
            mail.extend(rest.take_messages());
            self.apply(&rest.take_committed_entries());
            self.raw.advance_apply();
        }
        if self.applied - self.compacted >= COMPACT_AFTER {
            // A quarter stays, as with dss-raft.
            let end = self.applied - COMPACT_AFTER / 4;
            self.raw.store().wl().compact(end).expect("all of it is applied");
            self.compacted = self.applied;
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        if let Some(last) = entries.last() {
            self.applied = last.index;
        }
    }
}
