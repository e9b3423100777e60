//! Bytes that nobody wrote.

use dss_queue::{
    Command, NewMessage, Placement, Queue, Refusal, Reply, ShardId, TopicSettings, UnixMillis,
};
use proptest::prelude::*;

use crate::bench::{Bench, keyed, message, millis, topic};

/// A state with something of everything in it.
fn rich() -> Bench {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 1, ..TopicSettings::default() });
    bench.publish(vec![keyed("a", "k"), keyed("b", "k"), message("c"), message("d")]);
    bench.publish(vec![NewMessage {
        delay: millis(900),
        dedupe_id: Some("once".to_owned()),
        headers: [("trace".to_owned(), "1".to_owned())].into(),
        ..keyed("e", "l")
    }]);
    let first = bench.receive("g", 2);
    bench.nack("g", vec![first[0].receipt, first[1].receipt], 0);
    bench.receive("g", 1);
    bench.redrive("g");
    bench.receive("other", 3);
    bench
}

/// A shard whose topic leaves, and the one to which it has come half.
fn half_moved() -> [Queue; 2] {
    let placement = |epoch, shard: &str| Placement::new(epoch, [shard.to_owned()].into()).unwrap();
    let now = UnixMillis::new(1_000_100);
    let [mut source, mut target] = [rich().queue, Queue::outside()];
    let place = |queue: &mut Queue, shard: &str, previous, current| {
        let place = Command::Place { shard: shard.to_owned(), previous, current };
        assert_eq!(queue.apply(now, place).0, Reply::Done);
    };
    place(&mut source, "a", placement(0, "a"), placement(1, "a"));
    place(&mut source, "a", placement(1, "a"), placement(2, "b"));
    place(&mut target, "b", placement(1, "a"), placement(2, "b"));
    let export = source.export(&topic("orders")).unwrap();
    let half = export.len() / 2;
    let import = |offset: usize, end: usize| Command::Import {
        epoch: 2,
        source: "a".to_owned(),
        topic: topic("orders"),
        offset: offset as u64,
        bytes: export.slice(offset..end),
        last: end == export.len(),
    };
    let here = Reply::Imported { bytes: half as u64 };
    assert_eq!(target.apply(now, import(0, half)).0, here);
    assert_eq!(target.apply(now, import(half + 1, export.len())).0, here, "a part is missing");
    let mut whole = target.clone();
    whole.apply(now, import(half, export.len()));
    assert_eq!(whole.topic(&topic("orders")), source.topic(&topic("orders")));
    [source, target]
}

#[test]
fn cut_snapshots_in_the_middle_of_a_move_are_errors() {
    for queue in half_moved() {
        let snapshot = queue.snapshot();
        assert_eq!(Queue::restore(&snapshot).as_ref(), Ok(&queue));
        for end in 0..snapshot.len() {
            assert!(Queue::restore(&snapshot[..end]).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn a_topic_that_cannot_be_read_is_not_installed() {
    let [source, mut target] = half_moved();
    let export = source.export(&topic("orders")).unwrap();
    let half = export.len() / 2;
    let garbage = Command::Import {
        epoch: 2,
        source: "a".to_owned(),
        topic: topic("orders"),
        offset: half as u64,
        bytes: vec![0xff; 40].into(),
        last: true,
    };
    let now = target.now();
    assert_eq!(target.apply(now, garbage).0, Reply::Refused(Refusal::Malformed));
    assert_eq!((target.topics().count(), target.imported_bytes(&topic("orders"))), (0, 0));
    assert!(!target.has_taken(2, "a", &topic("orders")));
}

#[test]
fn cut_snapshots_and_commands_are_errors() {
    let snapshot = rich().queue.snapshot();
    for end in 0..snapshot.len() {
        assert!(Queue::restore(&snapshot[..end]).is_err(), "cut at {end}");
    }
    let mut longer = snapshot.to_vec();
    longer.push(0);
    assert!(Queue::restore(&longer).is_err());
    let mut newer = snapshot.to_vec();
    newer[0] = u8::MAX;
    assert!(Queue::restore(&newer).is_err());

    let messages = vec![keyed("a", "k")];
    let command = Command::Publish { shard: ShardId::new(1), topic: topic("t"), messages };
    let entry = command.encode(UnixMillis::new(77));
    assert_eq!(Command::decode(&entry), Ok((UnixMillis::new(77), command)));
    for end in 0..entry.len() {
        assert!(Command::decode(&entry[..end]).is_err(), "cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn garbage_is_no_command_and_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Command::decode(&bytes);
        if let Ok(queue) = Queue::restore(&bytes) {
            drain(queue);
        }
    }

    /// What a damaged snapshot decodes to, if anything, is a state like any other.
    #[test]
    fn a_damaged_snapshot_is_refused_or_works(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let [source, target] = half_moved();
        for queue in [rich().queue, source, target] {
            let mut bytes = queue.snapshot().to_vec();
            for (at, value) in &flips {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            if let Ok(queue) = Queue::restore(&bytes) {
                let again = Queue::restore(&queue.snapshot());
                prop_assert_eq!(again.as_ref(), Ok(&queue));
                drain(queue);
            }
        }
    }

    /// A command from the log may say anything; none may panic.
    #[test]
    fn a_damaged_command_is_refused_or_works(
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bench = rich();
        let messages = vec![keyed("a", "k"), NewMessage { delay: millis(5), ..message("b") }];
        let command = Command::Publish { shard: ShardId::new(1), topic: topic("orders"), messages };
        let mut bytes = command.encode(UnixMillis::new(1_000_100)).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = value;
        if let Ok((now, command)) = Command::decode(&bytes) {
            bench.queue.apply(now, command);
            drain(bench.queue);
        }
    }
}

/// Runs a state through everything that it holds: leases end, messages die and are redriven.
fn drain(mut queue: Queue) {
    let topics: Vec<_> = queue.topics().cloned().collect();
    for _ in 0..4 {
        for topic in &topics {
            let groups = queue.topic(topic).expect("it is listed").groups;
            for group in groups.into_keys() {
                let now = queue.now();
                let (topic, consumer) = (topic.clone(), crate::bench::consumer());
                let receive = Command::Receive {
                    topic: topic.clone(),
                    group: group.clone(),
                    consumer,
                    max: 10,
                    visibility: None,
                };
                queue.apply(now, receive);
                queue.apply(now, Command::Redrive { topic, group });
            }
        }
        let next = queue.next_deadline().unwrap_or_default();
        queue.apply(next, Command::Tick);
    }
}
