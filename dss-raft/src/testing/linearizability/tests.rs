use super::{History, Model, NotLinearizable};
use crate::core::Random;

/// Numbers by key, written and swapped; a write says nothing, so that many orders are possible.
struct Registers;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Read(u8),
    Write(u8, u64),
    Add(u8, u64),
}

impl Model for Registers {
    type Key = u8;
    type State = u64;
    type Operation = Operation;
    type Reply = u64;

    fn key(operation: &Operation) -> u8 {
        match operation {
            Operation::Read(key) | Operation::Write(key, _) | Operation::Add(key, _) => *key,
        }
    }

    fn initial(_: &u8) -> u64 {
        0
    }

    fn is_read(operation: &Operation) -> bool {
        matches!(operation, Operation::Read(_))
    }

    fn apply(state: &mut u64, operation: &Operation) -> u64 {
        match operation {
            Operation::Read(_) => {}
            Operation::Write(_, value) => {
                *state = *value;
                return 0;
            }
            Operation::Add(_, value) => *state += value,
        }
        *state
    }
}

use Operation::{Add, Read, Write};

/// A call: when it is made, what for, and when it is told what; `None` for never.
type Line = (u64, Operation, Option<(u64, u64)>);

fn history(calls: &[Line]) -> History<Registers> {
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (number, (called, _, returned)) in calls.iter().enumerate() {
        events.push((*called, number, true));
        events.extend(returned.map(|(at, _)| (at, number, false)));
    }
    events.sort_unstable();
    let mut history = History::new();
    let mut ids = vec![None; calls.len()];
    for (_, number, is_call) in events {
        let (_, operation, returned) = calls[number];
        if is_call {
            ids[number] = Some(history.call(operation));
        } else {
            history.returned(ids[number].unwrap(), returned.unwrap().1);
        }
    }
    history
}

fn accepts(calls: &[Line]) -> bool {
    history(calls).check().is_ok()
}

#[test]
fn what_happens_one_after_the_other_has_one_order() {
    assert!(accepts(&[
        (1, Write(0, 5), Some((2, 0))),
        (3, Read(0), Some((4, 5))),
        (5, Write(0, 6), Some((6, 0))),
        (7, Read(0), Some((8, 6))),
    ]));
    assert!(!accepts(&[
        (1, Write(0, 5), Some((2, 0))),
        (3, Write(0, 6), Some((4, 0))),
        (5, Read(0), Some((6, 5))),
    ]));
}

#[test]
fn a_read_during_a_write_may_see_it_or_not_but_never_after_another_saw_it() {
    let write = (1, Write(0, 5), Some((10, 0)));
    assert!(accepts(&[write, (2, Read(0), Some((3, 0))), (4, Read(0), Some((5, 5)))]));
    assert!(!accepts(&[write, (2, Read(0), Some((3, 5))), (4, Read(0), Some((5, 0)))]));
    // Reads at the same time may come in any order.
    assert!(accepts(&[write, (2, Read(0), Some((5, 5))), (4, Read(0), Some((6, 0)))]));
}

#[test]
fn a_call_without_a_return_takes_effect_whenever_it_helps_or_never() {
    let lost = (1, Write(0, 5), None);
    assert!(accepts(&[lost, (2, Read(0), Some((3, 0)))]));
    assert!(accepts(&[lost, (2, Read(0), Some((3, 0))), (8, Read(0), Some((9, 5)))]));
    assert!(!accepts(&[
        lost,
        (2, Read(0), Some((3, 5))),
        (4, Write(0, 6), Some((5, 0))),
        (6, Read(0), Some((7, 5))),
    ]));
    // Not before it was called.
    assert!(!accepts(&[(1, Read(0), Some((2, 5))), (3, Write(0, 5), None)]));
    // Nor twice; but two of them may follow each other.
    assert!(!accepts(&[(1, Add(0, 1), None), (2, Read(0), Some((3, 2)))]));
    let both = [(1, Add(0, 1), None), (1, Add(0, 1), None), (2, Read(0), Some((3, 2)))];
    assert!(accepts(&both));
}

#[test]
fn a_withdrawn_call_never_takes_effect() {
    let mut history = History::<Registers>::new();
    let write = history.call(Write(0, 5));
    let read = history.call(Read(0));
    history.returned(read, 5);
    assert_eq!(history.check(), Ok(()));
    history.withdrawn(write);
    assert!(history.check().is_err());
}

#[test]
fn only_the_first_return_counts() {
    let mut history = History::<Registers>::new();
    let read = history.call(Read(0));
    history.returned(read, 0);
    history.returned(read, 7);
    history.withdrawn(read);
    assert_eq!(history.check(), Ok(()));
    assert_eq!(history.len(), 1);
}

#[test]
fn keys_have_nothing_to_do_with_each_other() {
    assert!(accepts(&[
        (1, Write(0, 5), Some((2, 0))),
        (3, Read(1), Some((4, 0))),
        (5, Read(0), Some((6, 5))),
    ]));
    let refused = history(&[(1, Write(0, 5), Some((2, 0))), (3, Read(1), Some((4, 5)))]);
    assert_eq!(
        refused.check(),
        Err(NotLinearizable::NoOrder {
            key: "1".to_owned(),
            calls: 1,
            explained: 0,
            next: vec!["Read(1) = 5".to_owned()],
        })
    );
}

#[test]
fn what_is_said_of_a_refused_history_is_where_every_order_ends() {
    let refused = history(&[
        (1, Write(0, 5), Some((2, 0))),
        (3, Read(0), Some((4, 5))),
        (5, Write(0, 6), Some((9, 0))),
        (6, Read(0), Some((7, 8))),
        (10, Read(0), Some((11, 6))),
    ]);
    let Err(NotLinearizable::NoOrder { calls, explained, next, .. }) = refused.check() else {
        panic!("nobody wrote an 8");
    };
    assert_eq!((calls, explained), (5, 3));
    assert_eq!(next, ["Read(0) = 8"]);
}

/// Hundreds of lost writes, some of which were seen: what makes a plain search explode.
#[test]
fn many_calls_without_a_return_cost_little() {
    let mut history = History::<Registers>::new();
    let mut values = 0;
    for _ in 0..40 {
        for _ in 0..10 {
            values += 1;
            let _ = history.call(Write(0, values));
        }
        for seen in [values - 3, values - 7] {
            let read = history.call(Read(0));
            history.returned(read, seen);
        }
    }
    assert_eq!(history.check(), Ok(()));
}

/// Tries every order there is.
fn has_order(calls: &[Line], done: &mut Vec<usize>) -> bool {
    let is_left = |number: &usize| !done.contains(number);
    let left: Vec<usize> = (0..calls.len()).filter(is_left).collect();
    if left.iter().all(|number| calls[*number].2.is_none()) {
        return explains(calls, done);
    }
    left.into_iter().any(|number| {
        done.push(number);
        let found = has_order(calls, done);
        done.pop();
        found
    })
}

/// Whether this order keeps to what came before what, and leads to every reply.
fn explains(calls: &[Line], order: &[usize]) -> bool {
    let mut states = [0; 2];
    for (position, number) in order.iter().enumerate() {
        let (called, operation, returned) = calls[*number];
        let later = &order[position + 1..];
        if later.iter().any(|later| calls[*later].2.is_some_and(|(at, _)| at < called)) {
            return false;
        }
        let key = usize::from(Registers::key(&operation));
        let reply = Registers::apply(&mut states[key], &operation);
        if returned.is_some_and(|(_, told)| told != reply) {
            return false;
        }
    }
    true
}

#[test]
fn random_histories_are_judged_as_by_trying_every_order() {
    let mut random = Random::new(1);
    let mut judged = [0; 2];
    for _ in 0..4_000 {
        let count = 2 + random.below(5);
        let mut times: Vec<u64> = (0..count * 2).collect();
        for end in (1..times.len()).rev() {
            times.swap(end, usize::try_from(random.below(end as u64 + 1)).unwrap());
        }
        let call = |pair: &[u64]| {
            let (called, at) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            let key = u8::try_from(random.below(8) / 7).unwrap();
            let operation = match random.below(5) {
                0 | 1 => Read(key),
                2 | 3 => Write(key, 1 + random.below(3)),
                _ => Add(key, 1),
            };
            let told = if matches!(operation, Write(..)) { 0 } else { random.below(4) };
            (called, operation, (random.below(4) > 0).then_some((at, told)))
        };
        let calls: Vec<_> = times.chunks(2).map(call).collect();
        let expected = has_order(&calls, &mut Vec::new());
        judged[usize::from(expected)] += 1;
        assert_eq!(accepts(&calls), expected, "{calls:?}");
    }
    assert!(judged.iter().all(|count| *count > 500), "both kinds are met: {judged:?}");
}
