//! Whatever comes in, in whatever order: nothing panics, and what must only rise never falls.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Entry, HardState, LogId, LogIdentity, LogIndex, Message, MessageBody, NodeId, Output, Payload,
    PersistSeq, Priority, ProposalId, Raft, ReadId, Restored, Round, Snapshot, Term, Timestamp,
};
use proptest::prelude::*;

use crate::cluster::{config, index, node, restored, voters};

#[derive(Debug, Clone)]
enum Input {
    Message(NodeId, Message),
    Timeout(Timestamp),
    Persisted(PersistSeq),
    PersistedAll,
    Applied(LogIndex),
    SnapshotTaken(LogIndex),
    Propose(Bytes),
    Read,
    Transfer(Option<NodeId>),
    Change(u64, u64),
    Poll,
    StorageFailed,
}

/// Mostly numbers near those in use, sometimes ones that overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => 0u64..8,
        1 => prop::sample::select(vec![100, (1 << 62) - 1, 1 << 62, u64::MAX - 1, u64::MAX]),
    ]
}

fn log_id() -> impl Strategy<Value = LogId> {
    (number(), number()).prop_map(|(term, at)| LogId::new(Term::new(term), index(at)))
}

fn entries(from: LogId) -> impl Strategy<Value = Vec<Entry>> {
    // Usually consecutive, as a leader's are.
    let plausible = prop::collection::vec(0u64..2, 0..5).prop_map(move |steps| {
        let mut last = from;
        let next = |step: u64| {
            let term = Term::new(last.term.get().saturating_add(step));
            last = LogId::new(term, index(last.index.get().saturating_add(1)));
            let payload = match last.index.get() % 3 {
                0 => Payload::Configuration(Box::new(voters(last.term.get() % 5))),
                _ => Payload::Blank,
            };
            Entry { id: last, payload }
        };
        steps.into_iter().map(next).collect()
    });
    let entry = log_id().prop_map(|id| Entry { id, payload: Payload::Command(Bytes::new()) });
    prop_oneof![8 => plausible, 1 => prop::collection::vec(entry, 0..4)]
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (log_id(), 0u64..5).prop_map(|(last, members)| Snapshot {
        last,
        configuration: voters(members),
        data: Bytes::new(),
    })
}

fn body() -> impl Strategy<Value = MessageBody> {
    let round = || number().prop_map(Round::new);
    let at = || number().prop_map(LogIndex::new);
    let read = || number().prop_map(ReadId::new);
    prop_oneof![
        log_id().prop_map(|last| MessageBody::PreVoteRequest { last, priority: Priority::Normal }),
        any::<bool>().prop_map(|granted| MessageBody::PreVoteResponse { granted }),
        (log_id(), any::<bool>())
            .prop_map(|(last, by_transfer)| MessageBody::VoteRequest { last, by_transfer }),
        any::<bool>().prop_map(|granted| MessageBody::VoteResponse { granted }),
        log_id().prop_flat_map(move |previous| {
            (entries(previous), at(), round()).prop_map(move |(entries, commit, round)| {
                MessageBody::Append { previous, entries: entries.into(), commit, round }
            })
        }),
        at().prop_map(|index| MessageBody::Committed { index }),
        (at(), round()).prop_map(|(matched, round)| MessageBody::AppendAccepted { matched, round }),
        (at(), log_id(), round()).prop_map(|(previous, hint, round)| {
            MessageBody::AppendRejected { previous, hint, round }
        }),
        (snapshot(), round()).prop_map(|(snapshot, round)| MessageBody::InstallSnapshot {
            snapshot: snapshot.into(),
            round
        }),
        read().prop_map(|read| MessageBody::ReadIndexRequest { read }),
        (read(), prop::option::of(at()))
            .prop_map(|(read, index)| MessageBody::ReadIndexResponse { read, index }),
        Just(MessageBody::TimeoutNow),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let log = prop_oneof![8 => Just(0u64), 1 => 0u64..3];
    let message = (0u64..5, number(), log, body()).prop_map(|(from, term, log, body)| {
        Input::Message(
            node(from),
            Message { term: Term::new(term), log: LogIdentity::new(log), body },
        )
    });
    let passing = prop_oneof![
        20 => (0u64..60_000).prop_map(Duration::from_millis),
        1 => Just(Duration::MAX),
    ];
    prop_oneof![
        20 => message,
        6 => passing.prop_map(|at| Input::Timeout(Timestamp::since_origin(at))),
        4 => Just(Input::PersistedAll),
        1 => number().prop_map(|seq| Input::Persisted(PersistSeq::new(seq))),
        1 => number().prop_map(|at| Input::Applied(index(at))),
        2 => number().prop_map(|at| Input::SnapshotTaken(index(at))),
        4 => prop::collection::vec(any::<u8>(), 0..8).prop_map(|c| Input::Propose(c.into())),
        2 => Just(Input::Read),
        1 => prop::option::of((0u64..5).prop_map(node)).prop_map(Input::Transfer),
        1 => (0u64..5, 0u64..6).prop_map(|(voters, learner)| Input::Change(voters, learner)),
        4 => Just(Input::Poll),
        1 => prop::bool::weighted(0.05)
            .prop_map(|fails| if fails { Input::StorageFailed } else { Input::Poll }),
    ]
}

/// What must hold of a node whatever it was told.
struct Watched {
    raft: Raft,
    now: Timestamp,
    written: PersistSeq,
    given: LogIndex,
    term: Term,
    proposals: BTreeSet<ProposalId>,
    reads: BTreeSet<ReadId>,
}

impl Watched {
    fn new(state: Restored, members: u64) -> Self {
        let config = config(1).compaction(3, 1 << 20);
        let given = state.snapshot.as_ref().map_or(LogIndex::ZERO, |snapshot| snapshot.last.index);
        let raft = Raft::new(config, voters(members), state, Timestamp::ZERO).unwrap();
        Self {
            raft,
            now: Timestamp::ZERO,
            written: PersistSeq::ZERO,
            given,
            term: Term::ZERO,
            proposals: BTreeSet::new(),
            reads: BTreeSet::new(),
        }
    }

    fn take(&mut self, input: Input) {
        let (raft, now) = (&mut self.raft, self.now);
        match input {
            Input::Message(from, message) => raft.handle_message(now, from, message),
            Input::Timeout(at) => {
                self.now = self.now.max(at);
                raft.handle_timeout(at);
            }
            Input::Persisted(seq) => raft.handle_persisted(now, seq),
            Input::PersistedAll => raft.handle_persisted(now, self.written),
            Input::Applied(at) => raft.handle_applied(now, at),
            Input::SnapshotTaken(at) => raft.handle_snapshot_taken(now, at, Bytes::new()),
            Input::Propose(command) => self.proposals.extend(raft.propose(now, command)),
            Input::Read => assert!(self.reads.insert(raft.read(now))),
            Input::Change(count, learner) => {
                let expected = raft.status().configuration;
                let target = voters(count).with_learners([node(learner)]);
                if let Ok(proposal) = raft.change(now, &expected, target) {
                    assert!(self.proposals.insert(proposal), "a name is used once");
                }
            }
            Input::Transfer(to) => {
                let _ = raft.transfer_leadership(now, to);
            }
            Input::Poll => self.poll(),
            Input::StorageFailed => raft.handle_storage_failed(now),
        }
        let status = self.raft.status();
        assert!(status.applied_index <= status.commit_index);
        assert!(status.commit_index <= status.last_index);
        assert!(status.term >= self.term);
        self.term = status.term;
    }

    fn poll(&mut self) {
        while let Some(output) = self.raft.poll_output() {
            match output {
                Output::Persist(persist) => {
                    assert_eq!(persist.seq, self.written.next());
                    self.written = persist.seq;
                    assert!(persist.entries.is_consecutive());
                }
                Output::Send { after, .. } => assert!(after.is_none_or(|seq| seq <= self.written)),
                Output::Apply(entries) => {
                    assert_eq!(entries.first_index(), Some(self.given.next()));
                    self.given = entries.last_index().unwrap();
                }
                Output::Restore { snapshot, after } => {
                    assert!(snapshot.last.index > self.given);
                    assert!(after <= self.written);
                    self.given = snapshot.last.index;
                }
                Output::TakeSnapshot { index } => assert_eq!(index, self.given),
                Output::Proposal { proposal, .. } => assert!(self.proposals.remove(&proposal)),
                Output::Read { read, .. } => assert!(self.reads.remove(&read)),
                Output::Leadership(_) => {}
            }
        }
    }
}

fn state() -> impl Strategy<Value = Restored> {
    let plain = prop::collection::vec(0u64..3, 0..5).prop_map(|mut terms| {
        terms.sort_unstable();
        restored(3, &terms)
    });
    let covered = (0u64..3).prop_map(|term| Restored {
        hard_state: HardState {
            term: Term::new(4),
            voted_for: Some(node(2)),
            ..HardState::default()
        },
        snapshot: Some(Snapshot {
            last: LogId::new(Term::new(term), index(3)),
            configuration: voters(3),
            data: Bytes::new(),
        }),
        entries: Vec::new(),
    });
    prop_oneof![3 => plain, 1 => covered]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_input_panics_or_breaks_what_a_node_can_vouch_for_alone(
        state in state(),
        members in prop::sample::select(vec![1u64, 2, 3]),
        inputs in prop::collection::vec(input(), 1..120),
    ) {
        let mut watched = Watched::new(state, members);
        for input in inputs {
            watched.take(input);
        }
        watched.poll();
        // Time ends every read, unless it has itself ended before.
        let later = Timestamp::since_origin(Duration::from_secs(1 << 30));
        let has_ended = watched.now > later;
        watched.take(Input::Timeout(later));
        watched.poll();
        prop_assert!(has_ended || watched.reads.is_empty());
    }
}
