use bytes::Bytes;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::{Checkpoint, DecodeError, Record, SnapshotFile};
use crate::config::Priority;
use crate::entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
use crate::message::{
    Envelope, Message, MessageBody, PartContent, Round, SnapshotPart, SnapshotRequest,
};
use crate::types::{GroupId, LogId, LogIdentity, LogIndex, NodeId, ReadId, Term};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>(), Just(u64::MAX)]
}

fn index() -> impl Strategy<Value = LogIndex> {
    number().prop_map(LogIndex::new)
}

fn log_id() -> impl Strategy<Value = LogId> {
    (number(), index()).prop_map(|(term, index)| LogId::new(Term::new(term), index))
}

fn data() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Blank),
        data().prop_map(Payload::Command),
        configuration().prop_map(|members| Payload::Configuration(Box::new(members))),
    ]
}

/// An entry's place and entries that may follow it.
fn run() -> impl Strategy<Value = (LogId, Entries)> {
    let start = (0..u64::MAX / 2, 0..u64::MAX / 2);
    (start, vec((0..3_u64, payload()), 0..8)).prop_map(|((mut term, index), parts)| {
        let previous = LogId::new(Term::new(term), LogIndex::new(index));
        let entries: Vec<Entry> = (index + 1..)
            .zip(parts)
            .map(|(index, (step, payload))| {
                term += step;
                Entry { id: LogId::new(Term::new(term), LogIndex::new(index)), payload }
            })
            .collect();
        (previous, entries.into())
    })
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let nodes = || btree_set(number().prop_map(NodeId::new), 0..6);
    let logs = btree_map(number().prop_map(NodeId::new), number().prop_map(LogIdentity::new), 0..6);
    (nodes(), nodes(), nodes(), logs).prop_map(|(voters, outgoing, learners, logs)| Configuration {
        voters,
        outgoing,
        learners,
        logs,
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (log_id(), configuration(), data()).prop_map(|(last, configuration, data)| Snapshot {
        last,
        configuration,
        data,
    })
}

fn body() -> impl Strategy<Value = MessageBody> {
    let round = || number().prop_map(Round::new);
    let read = || number().prop_map(ReadId::new);
    prop_oneof![
        (log_id(), prop::sample::select(&Priority::ALL[..]))
            .prop_map(|(last, priority)| MessageBody::PreVoteRequest { last, priority }),
        any::<bool>().prop_map(|granted| MessageBody::PreVoteResponse { granted }),
        (log_id(), any::<bool>())
            .prop_map(|(last, by_transfer)| MessageBody::VoteRequest { last, by_transfer }),
        any::<bool>().prop_map(|granted| MessageBody::VoteResponse { granted }),
        (run(), index(), round()).prop_map(|((previous, entries), commit, round)| {
            MessageBody::Append { previous, entries, commit, round }
        }),
        index().prop_map(|index| MessageBody::Committed { index }),
        (index(), round())
            .prop_map(|(matched, round)| MessageBody::AppendAccepted { matched, round }),
        (index(), log_id(), round()).prop_map(|(previous, hint, round)| {
            MessageBody::AppendRejected { previous, hint, round }
        }),
        (snapshot(), round()).prop_map(|(snapshot, round)| MessageBody::InstallSnapshot {
            snapshot: snapshot.into(),
            round
        }),
        read().prop_map(|read| MessageBody::ReadIndexRequest { read }),
        (read(), proptest::option::of(index()))
            .prop_map(|(read, index)| MessageBody::ReadIndexResponse { read, index }),
        Just(MessageBody::TimeoutNow),
    ]
}

fn message() -> impl Strategy<Value = (GroupId, Message)> {
    (any::<u32>(), number(), number(), body()).prop_map(|(group, term, log, body)| {
        let (term, log) = (Term::new(term), LogIdentity::new(log));
        (GroupId::new(group), Message { term, log, body })
    })
}

fn content() -> impl Strategy<Value = PartContent> {
    (data(), any::<bool>(), any::<u32>()).prop_map(|(bytes, is_last, checksum)| PartContent {
        bytes,
        is_last,
        checksum,
    })
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let place = || (any::<u32>().prop_map(GroupId::new), data(), number());
    prop_oneof![
        4 => message().prop_map(|(group, message)| Envelope::Message { group, message }),
        1 => vec(message(), 0..5).prop_map(Envelope::Messages),
        1 => place().prop_map(|(group, descriptor, offset)| {
            Envelope::SnapshotRequest(SnapshotRequest { group, descriptor, offset })
        }),
        1 => (place(), proptest::option::of(content())).prop_map(
            |((group, descriptor, offset), content)| {
                Envelope::SnapshotPart(SnapshotPart { group, descriptor, offset, content })
            }
        ),
    ]
}

fn hard_state() -> impl Strategy<Value = HardState> {
    (number(), proptest::option::of(number()), number()).prop_map(|(term, vote, log)| HardState {
        term: Term::new(term),
        voted_for: vote.map(NodeId::new),
        log: LogIdentity::new(log),
    })
}

fn snapshot_file() -> impl Strategy<Value = SnapshotFile> {
    (number(), log_id(), configuration(), number(), any::<u32>()).prop_map(
        |(number, last, configuration, length, checksum)| SnapshotFile {
            number,
            last,
            configuration,
            length,
            checksum,
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        hard_state().prop_map(Record::HardState),
        index().prop_map(Record::Truncate),
        (snapshot_file(), any::<bool>())
            .prop_map(|(file, keeps_log)| Record::Snapshot { file, keeps_log }),
        run().prop_map(|(_, entries)| Record::Entries(entries)),
        index().prop_map(Record::Compact),
        (hard_state(), proptest::option::of(snapshot_file()), index()).prop_map(
            |(hard_state, snapshot, base)| {
                Record::Checkpoint(Checkpoint { hard_state, snapshot, base })
            }
        ),
    ]
}

proptest! {
    #[test]
    fn an_envelope_decodes_to_itself(envelope in envelope()) {
        prop_assert_eq!(Envelope::decode(envelope.encode()), Ok(envelope));
    }

    #[test]
    fn a_record_decodes_to_itself(record in record()) {
        let mut bytes = b"before".to_vec();
        record.encode(&mut bytes);
        let bytes = Bytes::from(bytes).slice(6..);
        prop_assert!(bytes.len() <= record.bytes_max());
        prop_assert_eq!(Record::decode(bytes), Ok(record));
    }

    #[test]
    fn no_proper_prefix_and_no_extension_decodes(envelope in envelope(), more in 1..9_usize) {
        let whole = envelope.encode();
        for end in 0..whole.len() {
            prop_assert!(Envelope::decode(whole.slice(..end)).is_err());
        }
        let longer: Bytes = [&whole[..], &vec![0; more]].concat().into();
        prop_assert_eq!(Envelope::decode(longer), Err(DecodeError::Trailing(more)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in vec(any::<u8>(), 0..64),
        tag in 0..12_u8,
    ) {
        let _ = Envelope::decode(bytes.clone().into());
        let _ = Record::decode(bytes.clone().into());
        // Past the header too, where the interesting shapes are.
        let _ = Envelope::decode([&[1, 0, 0, 7, 0, tag], &bytes[..]].concat().into());
        let _ = Record::decode([&[tag], &bytes[..]].concat().into());
    }

    #[test]
    fn what_decodes_is_the_only_encoding(
        bytes in vec(0..4_u8, 0..24),
        tag in 0..12_u8,
    ) {
        let bytes: Bytes = [&[1, 0, 0, 7, 0, tag], &bytes[..]].concat().into();
        if let Ok(envelope) = Envelope::decode(bytes.clone()) {
            prop_assert_eq!(envelope.encode(), bytes);
        }
    }

    #[test]
    fn a_flipped_bit_never_panics(envelope in envelope(), at in any::<prop::sample::Index>()) {
        let mut bytes = envelope.encode().to_vec();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = Envelope::decode(bytes.into());
    }
}

#[test]
fn commands_are_slices_of_the_input() {
    let command = Bytes::from(vec![7; 100]);
    let entry = Entry {
        id: LogId::new(Term::new(1), LogIndex::new(1)),
        payload: Payload::Command(command.clone()),
    };
    let message = Message {
        term: Term::new(1),
        log: LogIdentity::UNKNOWN,
        body: MessageBody::Append {
            previous: LogId::ZERO,
            entries: vec![entry].into(),
            commit: LogIndex::ZERO,
            round: Round::new(1),
        },
    };
    let input = Envelope::Message { group: GroupId::new(3), message }.encode();
    let range = input.as_ptr_range();
    let decoded = Envelope::decode(input).expect("just encoded");
    let Envelope::Message { message, .. } = decoded else { panic!("a message was encoded") };
    let MessageBody::Append { entries, .. } = message.body else { panic!("an append, at that") };
    let Payload::Command(found) = &entries[0].payload else { panic!("it carried a command") };
    assert_eq!(*found, command);
    assert!(range.contains(&found.as_ptr()));
}

#[test]
fn counts_are_not_believed() {
    // An append that promises 2^63 entries in an empty rest must not allocate for them.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let input = [&[1, 0, 0, 7, 0, 4, 0, 0, 0, 0][..], &huge[..]].concat();
    assert_eq!(Envelope::decode(input.into()), Err(DecodeError::Truncated));
}

#[test]
fn numbers_have_one_form_and_64_bits() {
    let with_term = |term: &[u8]| {
        Envelope::decode([&[1, 0, 0][..], term, &[0, 10][..]].concat().into()).map(|envelope| {
            match envelope {
                Envelope::Message { message, .. } => message.term.get(),
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(with_term(&[0x05]), Ok(5));
    assert_eq!(with_term(&[0x85, 0x00]), Err(DecodeError::Number));
    assert_eq!(with_term(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), Ok(u64::MAX));
    assert_eq!(
        with_term(&[255, 255, 255, 255, 255, 255, 255, 255, 255, 3]),
        Err(DecodeError::Number)
    );
}

#[test]
fn an_index_past_the_end_of_numbers_is_refused() {
    let max = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    // Append after index 2^64 - 1: term 0, index max, commit 0, round 0, one blank entry.
    let input = [&[1, 0, 0, 7, 0, 4, 0][..], &max[..], &[0, 0, 1, 0, 0][..]].concat();
    assert_eq!(Envelope::decode(input.into()), Err(DecodeError::Number));
}

#[test]
fn other_versions_and_unknown_tags_are_refused() {
    assert_eq!(Envelope::decode(Bytes::new()), Err(DecodeError::Truncated));
    assert_eq!(Envelope::decode(Bytes::from_static(&[2, 0, 0, 10])), Err(DecodeError::Version(2)));
    assert_eq!(
        Envelope::decode(Bytes::from_static(&[1, 0, 0, 0, 0, 99])),
        Err(DecodeError::Tag(99))
    );
    assert_eq!(Envelope::decode(Bytes::from_static(&[1, 4, 0, 0, 10])), Err(DecodeError::Tag(4)));
    assert_eq!(
        Envelope::decode(Bytes::from_static(&[1, 0, 0, 0, 0, 1, 2])),
        Err(DecodeError::Tag(2))
    );
}

#[test]
fn sets_are_ascending() {
    // A snapshot at (0, 0) with the voters 2 and 1.
    let input = vec![1, 0, 0, 7, 0, 7, 0, 0, 0, 2, 2, 1, 0, 0, 0, 0];
    assert_eq!(Envelope::decode(input.into()), Err(DecodeError::Order));
}

#[test]
fn a_heartbeat_is_small() {
    let message = Message {
        term: Term::new(7),
        log: LogIdentity::new(u64::from(u32::MAX)),
        body: MessageBody::Append {
            previous: LogId::new(Term::new(7), LogIndex::new(100_000)),
            entries: Entries::EMPTY,
            commit: LogIndex::new(100_000),
            round: Round::new(10_000),
        },
    };
    let bytes = Envelope::Message { group: GroupId::new(1), message }.encode();
    assert!(bytes.len() <= 24, "{} bytes", bytes.len());
}
