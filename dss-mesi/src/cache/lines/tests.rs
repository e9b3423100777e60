use std::collections::BTreeSet;

use super::*;
use crate::config::CacheConfig;
use crate::view::{Epoch, Timestamp};

fn line(state: LineState, value: Option<&'static str>) -> Line {
    let seq = Seq::default();
    let version = value.map(|_| Version::next(None, seq));
    Line { state, seq, version, value: value.map(Bytes::from), through: None }
}

fn key(number: usize) -> Bytes {
    Bytes::from(format!("key {number}"))
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let mut lines = Lines::new(7);
    for number in 0..100 {
        lines.insert(&key(number), line(LineState::Shared, Some("v")), 100);
    }
    // The last one to come is spared.
    for _ in 50..99 {
        for number in 0..50 {
            assert!(lines.touch(&key(number)).is_some());
        }
        let victim = lines.victim(|_| false).unwrap();
        lines.remove(&victim).unwrap();
    }
    let left: BTreeSet<_> = lines.keys().into_iter().collect();
    assert_eq!(left, (0..50).chain([99]).map(key).collect());
}

#[test]
fn a_new_line_is_not_the_first_to_go_and_a_pinned_one_never() {
    let mut lines = Lines::new(7);
    lines.insert(&key(1), line(LineState::Shared, Some("v")), 1);
    lines.touch(&key(1));
    lines.insert(&key(2), line(LineState::Shared, Some("v")), 1);
    assert_eq!(lines.victim(|_| false), Some(key(1)));
    assert_eq!(lines.victim(|pinned| pinned == &key(1)[..]), None);
    lines.remove(&key(1)).unwrap();
    assert_eq!(lines.victim(|_| false), Some(key(2)), "where it is the only one");
}

#[test]
fn a_line_whose_write_is_on_its_way_stays_and_others_go() {
    let mut lines = Lines::new(7);
    for number in 1..4 {
        lines.insert(&key(number), line(LineState::Exclusive, Some("v")), 3);
    }
    let version = Version::next(None, Seq::default());
    let (answers, waiting) = (Vec::new(), Vec::new());
    let retry = Retry::new(Timestamp::ZERO, CacheConfig::new().backoff);
    let through = Through { version, value: None, answers, waiting, retry };
    lines.modify(&key(1), |line| line.through = Some(Box::new(through)));
    assert!(lines.is_being_written(&key(1)) && !lines.is_being_written(&key(2)));
    assert_eq!(lines.victim(|_| false), Some(key(2)));
}

#[test]
fn the_hand_goes_round_twice() {
    let mut lines = Lines::new(7);
    for number in 0..10 {
        lines.insert(&key(number), line(LineState::Shared, Some("v")), 10);
        lines.touch(&key(number));
    }
    let pinned: Vec<Bytes> = (0..5).map(key).collect();
    assert_eq!(lines.victim(|it| pinned.iter().any(|key| it == &key[..])), Some(key(5)));
}

#[test]
fn lines_are_equal_where_they_hold_the_same() {
    let of = |held: &[(usize, &'static str)]| {
        let mut lines = Lines::new(7);
        for (number, value) in held {
            lines.insert(&key(*number), line(LineState::Shared, Some(value)), 9);
        }
        lines
    };
    assert_eq!(of(&[(1, "v"), (2, "v")]), of(&[(1, "v"), (2, "v")]));
    for other in [&[(1, "v")][..], &[(1, "v"), (2, "w")], &[(1, "v"), (3, "v")]] {
        assert_ne!(of(&[(1, "v"), (2, "v")]), of(other));
    }
}

#[test]
fn sums_follow_what_is_held() {
    let mut lines = Lines::new(7);
    lines.insert(&key(1), line(LineState::Exclusive, Some("value")), 9);
    lines.insert(&key(2), line(LineState::Exclusive, None), 9);
    assert_eq!((lines.len(), lines.bytes(), lines.exclusive()), (2, 5 + 5 + 5, 2));
    lines.modify(&key(2), |line| {
        *line = self::line(LineState::Modified, Some("longer value"));
    });
    assert_eq!((lines.bytes(), lines.exclusive(), lines.modified()), (27, 1, 1));
    assert_eq!(lines.peek(&key(2)).unwrap().value, Some("longer value".into()));
    lines.remove(&key(2)).unwrap();
    lines.remove(&key(1)).unwrap();
    assert_eq!((lines.len(), lines.bytes(), lines.exclusive()), (0, 0, 0));
    assert_eq!((lines.remove(&key(1)), lines.modified()), (None, 0));
}

#[test]
fn numbers_of_any_size_are_kept() {
    let mut lines = Lines::new(7);
    let seq = |count| Seq { epoch: Epoch::new(3), count };
    let at = |count| Line {
        seq: seq(count),
        version: Some(Version::next(None, seq(count))),
        ..line(LineState::Shared, Some("v"))
    };
    for (number, count) in [(1, 5), (2, u64::MAX), (3, 6)] {
        lines.insert(&key(number), at(count), 9);
    }
    assert_eq!(lines.peek(&key(2)), Some(at(u64::MAX)));
    let hit = lines.hit(hash_of(&key(2), 7), &key(2)).unwrap();
    assert_eq!((hit.value, hit.version), (Some("v".into()), at(u64::MAX).version));
    lines.modify(&key(1), |line| *line = at(1 << 50));
    lines.modify(&key(2), |line| *line = at(8));
    assert_eq!([1, 2, 3].map(|it| lines.peek(&key(it))), [1 << 50, 8, 6].map(|it| Some(at(it))));
    assert_eq!(lines.remove(&key(1)), Some(at(1 << 50)));
    assert!(lines.wide.is_empty());
    lines.insert(&key(4), at(9), 9);
    assert_eq!(lines.peek(&key(4)), Some(at(9)), "in the slot of the one that went");
}

#[test]
fn room_for_lines_doubles_up_to_what_may_be_held() {
    let mut lines = Lines::new(7);
    let mut rooms = BTreeSet::new();
    for number in 0..100 {
        lines.insert(&key(number), line(LineState::Shared, None), 99);
        rooms.insert(lines.slots.capacity());
    }
    assert_eq!(rooms, [8, 16, 32, 64, 100].into());
}

#[test]
fn a_sweep_finds_what_is_old() {
    let mut lines = Lines::new(7);
    lines.insert(&key(1), line(LineState::Shared, None), 9);
    for _ in 1..SWEEPS {
        assert_eq!(lines.sweep(), Vec::<Bytes>::new());
    }
    lines.insert(&key(2), line(LineState::Shared, None), 9);
    assert_eq!(lines.sweep(), [key(1)]);
}
