//! Looking into a queue, clearing it, and keeping it within bounds.

use dss_queue::{
    Backoff, Command, DeadReason, Event, MessageState, NewMessage, Overflow, Refusal, Reply,
    TopicSettings, UnixMillis,
};

use crate::bench::{
    Bench, consumer, counts, group, keyed, message, millis, receipts, texts, topic,
};

fn peek(bench: &Bench, name: Option<&str>, max: usize) -> Vec<(String, u32, MessageState)> {
    let name = name.map(group);
    let page = bench.queue.peek(&topic("orders"), name.as_ref(), None, max).expect("it exists");
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).expect("the tests send text");
    page.messages.into_iter().map(|it| (text(&it.payload), it.attempts, it.state)).collect()
}

#[test]
fn a_look_shows_what_is_not_settled_and_changes_nothing() {
    let mut bench = Bench::new();
    bench.publish(vec![message("done"), message("held"), message("back"), message("new")]);
    bench.publish(vec![NewMessage { delay: millis(500), ..message("later") }]);
    bench.receive("other", 1);
    let all = bench.receive("g", 3);
    bench.ack("g", vec![all[0].receipt]);
    bench.nack("g", vec![all[2].receipt], 0);
    let before = bench.queue.clone();
    let until = UnixMillis::new(bench.now + 30_000);
    let expected = [
        ("held", 1, MessageState::InFlight { consumer: consumer(), until }),
        ("back", 1, MessageState::Ready),
        ("new", 0, MessageState::Ready),
        ("later", 0, MessageState::Delayed { until: UnixMillis::new(bench.now + 500) }),
    ];
    let expected: Vec<_> =
        expected.map(|(text, attempts, state)| (text.to_owned(), attempts, state)).into();
    assert_eq!(peek(&bench, Some("g"), 100), expected);
    assert_eq!(peek(&bench, Some("g"), 2), expected[..2]);
    let kept: Vec<_> = peek(&bench, None, 100).into_iter().map(|(text, ..)| text).collect();
    assert_eq!(kept, ["done", "held", "back", "new", "later"]);
    assert_eq!(bench.queue.peek(&topic("orders"), Some(&group("nobody")), None, 1), None);
    assert_eq!(bench.queue, before);
}

#[test]
fn a_redriven_message_is_looked_at_once() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 1, ..TopicSettings::default() });
    bench.publish(vec![message("a"), message("b")]);
    bench.receive("other", 1);
    let first = bench.one("g");
    bench.nack("g", vec![first.receipt], 0);
    assert_eq!(bench.dead("g")[0].consumer, Some(consumer()));
    assert_eq!(peek(&bench, Some("g"), 9).len(), 1, "a dead letter is settled");
    bench.redrive("g");
    let seen: Vec<_> = peek(&bench, Some("g"), 9).into_iter().map(|(text, ..)| text).collect();
    assert_eq!(seen, ["a", "b"]);
}

#[test]
fn purging_a_group_leaves_the_others_what_they_have() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 1, ..TopicSettings::default() });
    bench.publish(vec![keyed("a", "k"), keyed("b", "k"), message("c")]);
    bench.publish(vec![NewMessage { delay: millis(500), ..keyed("d", "l") }]);
    bench.receive("other", 1);
    let held = bench.receive("g", 2);
    bench.nack("g", vec![held[1].receipt], 0);
    assert_eq!(bench.info("g"), counts(1, 1, 1, 1));
    let (topic, name) = (topic("orders"), group("g"));
    assert_eq!(bench.apply(Command::PurgeGroup { topic, group: name }), Reply::Done);
    assert_eq!(bench.info("g"), counts(0, 0, 0, 0));
    assert_eq!(bench.ack("g", receipts(&held)).done, 0);
    assert_eq!(bench.info("other"), counts(2, 1, 1, 0));
    bench.wait(600);
    assert_eq!(bench.receive("g", 9), []);
    bench.publish(vec![keyed("e", "k")]);
    assert_eq!(texts(&bench.receive("g", 9)), ["e"], "its key is free again");
    assert_eq!(texts(&bench.receive("other", 9)), ["c", "d"]);
}

#[test]
fn a_group_that_is_deleted_holds_nothing_up() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a"), message("b")]);
    let done = bench.receive("g", 2);
    bench.receive("slow", 1);
    bench.receive("last", 2);
    bench.ack("g", receipts(&done));
    assert_eq!(bench.length(), 2);
    for name in ["slow", "last"] {
        let (topic, group) = (topic("orders"), group(name));
        assert_eq!(bench.apply(Command::DeleteGroup { topic, group }), Reply::Done);
    }
    assert!(matches!(bench.events[..], [Event::GroupDeleted { .. }]));
    assert_eq!(bench.length(), 0, "only it had not settled them");
    bench.publish(vec![message("c")]);
    assert_eq!(texts(&bench.receive("g", 9)), ["c"]);
    assert_eq!(texts(&bench.receive("slow", 9)), ["c"], "it begins anew");
    bench.wait(30_000);
    assert_eq!(bench.info("g"), counts(1, 0, 0, 0), "timers found their groups");
}

#[test]
fn max_bytes_drops_the_oldest() {
    let mut bench = Bench::new();
    let max_bytes = Some(2 * 200 + 10);
    bench.configure(TopicSettings { max_bytes, ..TopicSettings::default() });
    bench.publish(vec![message("12345"), message("12345")]);
    assert_eq!(bench.length(), 2);
    bench.publish(vec![message("1")]);
    assert_eq!(texts(&bench.receive("g", 9)), ["12345", "1"]);
    let refused = bench.try_publish(vec![message("x"), message("y"), message("z")]);
    assert_eq!(refused, Err(Refusal::TopicFull), "it would push itself out");
}

#[test]
fn a_topic_that_refuses_loses_nothing() {
    let mut bench = Bench::new();
    let (max_length, overflow) = (Some(2), Overflow::Refuse);
    bench.configure(TopicSettings { max_length, overflow, ..TopicSettings::default() });
    let once = NewMessage { dedupe_id: Some("once".to_owned()), ..message("a") };
    let ids = bench.publish(vec![once.clone(), message("b")]);
    assert_eq!(bench.try_publish(vec![message("c")]), Err(Refusal::TopicFull));
    assert_eq!(bench.publish(vec![once])[0], ids[0], "what is known needs no room");
    let first = bench.one("g");
    bench.ack("g", vec![first.receipt]);
    bench.publish(vec![message("c")]);
    assert_eq!(texts(&bench.receive("g", 9)), ["b", "c"]);
}

#[test]
fn what_fails_comes_back_after_a_growing_pause() {
    let mut bench = Bench::new();
    let backoff = Some(Backoff { first: millis(1_000), longest: millis(3_000) });
    let visibility = millis(100);
    bench.configure(TopicSettings {
        backoff,
        visibility,
        max_attempts: 4,
        ..TopicSettings::default()
    });
    bench.publish(vec![message("a")]);
    for (attempt, longest) in [(1, 1_000), (2, 2_000), (3, 3_000)] {
        let delivery = bench.one("g");
        assert_eq!(delivery.attempt, attempt);
        if attempt == 2 {
            bench.wait(100);
        } else {
            bench.nack("g", vec![delivery.receipt], 0);
        }
        assert_eq!(bench.info("g"), counts(0, 0, 1, 0));
        bench.wait(longest / 2 - 1);
        assert_eq!(bench.receive("g", 1), []);
        bench.wait(longest / 2 + 1);
    }
    let last = bench.one("g");
    // A pause that the consumer names is kept where it is longer; the last attempt needs none.
    bench.nack("g", vec![last.receipt], 60_000);
    assert_eq!(bench.dead("g")[0].reason, DeadReason::Rejected);
}
