use super::GroupLog;
use crate::codec::{Checkpoint, Record, SnapshotFile};
use crate::entry::{Configuration, Entry, HardState, Payload};
use crate::types::{LogId, LogIndex, Term};

fn entries(indexes: std::ops::RangeInclusive<u64>) -> Record {
    let entry = |index| Entry {
        id: LogId::new(Term::new(1), LogIndex::new(index)),
        payload: Payload::Blank,
    };
    Record::Entries(indexes.map(entry).collect::<Vec<_>>().into())
}

/// A group with a snapshot up to `covered`, and with these entries in these segments.
fn group(covered: u64, written: &[(u64, std::ops::RangeInclusive<u64>)]) -> GroupLog {
    let snapshot = SnapshotFile {
        number: 1,
        last: LogId::new(Term::new(1), LogIndex::new(covered)),
        configuration: Configuration::default(),
        length: 0,
        checksum: 0,
    };
    let hard_state = HardState::default();
    let checkpoint = Checkpoint { hard_state, snapshot: Some(snapshot), base: LogIndex::ZERO };
    let mut group = GroupLog::begin(&checkpoint);
    for (segment, indexes) in written {
        assert!(group.apply(*segment, &entries(indexes.clone())).is_ok());
    }
    group
}

#[test]
fn a_segment_is_needed_while_any_of_its_entries_is() {
    let written = [(3, 1..=4), (3, 5..=6), (4, 7..=9), (6, 10..=12)];
    for (compacted, oldest) in
        [(0, Some(3)), (5, Some(3)), (6, Some(4)), (8, Some(4)), (9, Some(6)), (11, Some(6))]
    {
        let mut group = group(20, &written);
        if compacted > 0 {
            assert!(group.apply(7, &Record::Compact(LogIndex::new(compacted))).is_ok());
        }
        assert_eq!(group.oldest_segment(), oldest, "compacted to {compacted}");
    }
    let mut group = group(20, &written);
    assert!(group.apply(7, &Record::Compact(LogIndex::new(12))).is_ok());
    assert_eq!(group.oldest_segment(), None, "nothing is left");
    assert!(group.apply(8, &entries(13..=13)).is_ok());
    assert_eq!(group.oldest_segment(), Some(8));
}

#[test]
fn what_is_truncated_needs_no_segment_any_more() {
    let mut group = group(4, &[(3, 1..=4), (4, 5..=9)]);
    assert!(group.apply(5, &Record::Truncate(LogIndex::new(5))).is_ok());
    assert!(group.apply(5, &entries(5..=6)).is_ok());
    assert!(group.apply(5, &Record::Compact(LogIndex::new(4))).is_ok());
    assert_eq!(group.oldest_segment(), Some(5));
    assert!(group.apply(6, &Record::Truncate(LogIndex::new(6))).is_ok());
    assert_eq!(group.oldest_segment(), Some(5), "entry 5 is still there");
}
