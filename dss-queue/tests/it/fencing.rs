//! Publishing under locks.

use dss_queue::limits::{FENCE_MEMORY, FENCES_MAX};
use dss_queue::{Command, Fence, Refusal, Reply, ShardId, TopicSettings};

use crate::bench::{Bench, message, texts, topic};

fn publish(bench: &mut Bench, text: &str, lock: &str, token: u64) -> Reply {
    bench.apply(Command::PublishFenced {
        shard: ShardId::new(7),
        topic: topic("orders"),
        messages: vec![message(text)],
        fence: Fence { lock: lock.to_owned(), token },
    })
}

#[test]
fn who_had_a_lock_before_cannot_publish_after_who_has_it_now() {
    let mut bench = Bench::new();
    assert!(matches!(publish(&mut bench, "a", "l", 7), Reply::Published(_)));
    assert!(matches!(publish(&mut bench, "b", "l", 7), Reply::Published(_)));
    assert!(matches!(publish(&mut bench, "c", "l", 9), Reply::Published(_)));
    assert_eq!(publish(&mut bench, "late", "l", 8), Reply::Refused(Refusal::Fenced { newest: 9 }));
    assert!(matches!(publish(&mut bench, "d", "other", 1), Reply::Published(_)));
    assert_eq!(
        publish(&mut bench, "e", "", 1),
        Reply::Refused(Refusal::Invalid { field: "lock", problem: "must have 1 to 512 bytes" })
    );
    assert_eq!(texts(&bench.receive("g", 10)), ["a", "b", "c", "d"]);
    // Neither an emptied topic nor new settings forget it.
    bench.apply(Command::Purge { topic: topic("orders") });
    bench.configure(TopicSettings::default());
    assert_eq!(publish(&mut bench, "late", "l", 8), Reply::Refused(Refusal::Fenced { newest: 9 }));
}

#[test]
fn a_publish_that_is_refused_moves_no_fence() {
    let mut bench = Bench::new();
    let settings = TopicSettings {
        max_length: Some(1),
        overflow: dss_queue::Overflow::Refuse,
        ..Default::default()
    };
    bench.configure(settings);
    assert!(matches!(publish(&mut bench, "a", "l", 1), Reply::Published(_)));
    assert_eq!(publish(&mut bench, "b", "l", 2), Reply::Refused(Refusal::TopicFull));
    let held = bench.one("g");
    bench.ack("g", vec![held.receipt]);
    assert!(
        matches!(publish(&mut bench, "c", "l", 1), Reply::Published(_)),
        "nobody came after it"
    );
}

#[test]
fn locks_are_remembered_for_a_day_and_no_more_than_so_many() {
    let mut bench = Bench::new();
    for number in 0..FENCES_MAX {
        assert!(matches!(publish(&mut bench, "a", &number.to_string(), 5), Reply::Published(_)));
    }
    let refused = Reply::Refused(Refusal::TooManyFences);
    assert_eq!(publish(&mut bench, "b", "new", 5), refused);
    bench.now += u64::try_from(FENCE_MEMORY.as_millis()).unwrap() - 1;
    assert_eq!(publish(&mut bench, "b", "new", 5), refused);
    assert!(matches!(publish(&mut bench, "b", "0", 6), Reply::Published(_)), "in use again");
    bench.now += 1;
    assert!(matches!(publish(&mut bench, "b", "new", 5), Reply::Published(_)));
    let fenced = Reply::Refused(Refusal::Fenced { newest: 6 });
    assert_eq!(publish(&mut bench, "late", "0", 5), fenced, "what is in use is not forgotten");
}
