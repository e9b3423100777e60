//! What the queue promises, one story each.

use dss_queue::{
    Availability, Command, DeadReason, Event, NewMessage, Placement, Queue, Refusal, Reply,
    Settled, ShardId, TopicSettings, UnixMillis,
};

use crate::bench::{
    Bench, consumer, counts, group, keyed, message, millis, receipts, texts, topic,
};

#[test]
fn a_message_goes_to_one_consumer_of_each_group_until_it_is_acknowledged() {
    let mut bench = Bench::new();
    let ids = bench.publish(vec![message("a"), message("b")]);
    let first = bench.one("billing");
    assert_eq!((first.id, first.attempt, &first.payload[..]), (ids[0], 1, &b"a"[..]));
    assert_eq!(first.produced_at, UnixMillis::new(1_000_000));
    assert_eq!(bench.one("billing").id, ids[1]);
    assert_eq!(bench.receive("billing", 10), []);
    assert_eq!(texts(&bench.receive("shipping", 10)), ["a", "b"]);
    assert_eq!(bench.info("billing"), counts(0, 2, 0, 0));

    let settled = bench.ack("billing", vec![first.receipt]);
    assert_eq!(settled, Settled { done: 1, stale: vec![] });
    assert_eq!(bench.info("billing"), counts(0, 1, 0, 0));
    bench.wait(30_000);
    assert_eq!(texts(&bench.receive("billing", 10)), ["b"], "what is acknowledged stays away");
}

#[test]
fn a_message_is_forgotten_once_every_group_has_acknowledged_it() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let billing = bench.one("billing").receipt;
    let shipping = bench.one("shipping").receipt;
    bench.ack("billing", vec![billing]);
    assert_eq!(bench.length(), 1);
    bench.ack("shipping", vec![shipping]);
    assert_eq!(bench.length(), 0);
    assert_eq!(bench.receive("late", 10), []);
}

#[test]
fn a_group_starts_at_the_oldest_message_that_is_kept() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a"), message("b"), message("c")]);
    let first = bench.one("billing");
    bench.ack("billing", vec![first.receipt]);
    assert_eq!(texts(&bench.receive("late", 10)), ["b", "c"]);
}

#[test]
fn a_topic_without_groups_keeps_its_messages() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    bench.wait(1_000_000_000);
    assert_eq!(texts(&bench.receive("late", 10)), ["a"]);
}

#[test]
fn a_lease_that_ends_brings_the_message_back_and_makes_its_receipt_stale() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let first = bench.one("g");
    assert_eq!(bench.queue.next_deadline(), Some(UnixMillis::new(1_030_000)));
    bench.wait(29_999);
    assert_eq!(bench.receive("g", 1), []);
    bench.wait(1);
    assert_eq!(
        bench.events,
        [Event::Available { topic: topic("orders"), group: group("g"), count: 1 }]
    );
    let second = bench.one("g");
    assert_eq!((second.id, second.attempt), (first.id, 2));

    let late = bench.ack("g", vec![first.receipt]);
    assert_eq!(late, Settled { done: 0, stale: vec![first.receipt] });
    assert_eq!(bench.extend("g", vec![first.receipt], 60_000).done, 0);
    assert_eq!(bench.nack("g", vec![first.receipt], 0).done, 0);
    assert_eq!(bench.info("g"), counts(0, 1, 0, 0), "the second consumer is not disturbed");
    assert_eq!(bench.ack("g", vec![second.receipt]).done, 1);
    assert_eq!(bench.ack("g", vec![second.receipt]).done, 0);
}

#[test]
fn a_receipt_is_good_in_its_own_group_and_topic_only() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let mine = bench.one("mine");
    bench.one("other");
    assert_eq!(bench.ack("other", vec![mine.receipt]).stale, [mine.receipt]);
    assert_eq!(bench.info("other"), counts(0, 1, 0, 0));

    bench.apply(Command::Delete { topic: topic("orders") });
    bench.publish(vec![message("a")]);
    let next = bench.one("mine");
    assert_ne!(next.id, mine.id, "ids are not reused by a new topic of the same name");
    assert_eq!(bench.ack("mine", vec![mine.receipt]).done, 0);
    assert_eq!(bench.ack("mine", vec![next.receipt, next.receipt]).done, 1);
}

#[test]
fn extend_moves_the_end_of_the_lease() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let delivery = bench.one("g");
    bench.wait(29_000);
    assert_eq!(bench.extend("g", vec![delivery.receipt], 30_000).done, 1);
    bench.wait(29_999);
    assert_eq!(bench.info("g"), counts(0, 1, 0, 0));
    let leases = bench.queue.leases(&topic("orders"), &group("g")).unwrap();
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].receipt, &leases[0].consumer), (delivery.receipt, &consumer()));
    bench.wait(1);
    assert_eq!(bench.info("g"), counts(1, 0, 0, 0));
}

#[test]
fn nack_returns_at_once_or_after_its_delay() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let first = bench.one("g").receipt;
    assert_eq!(bench.nack("g", vec![first], 0).done, 1);
    let second = bench.one("g");
    assert_eq!(second.attempt, 2);
    bench.nack("g", vec![second.receipt], 5_000);
    assert_eq!(bench.info("g"), counts(0, 0, 1, 0));
    bench.wait(4_999);
    assert_eq!(bench.receive("g", 1), []);
    bench.wait(1);
    assert_eq!(bench.one("g").attempt, 3);
}

#[test]
fn a_delivery_that_is_handed_back_was_no_attempt() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 1, ..TopicSettings::default() });
    bench.publish(vec![keyed("a", "k"), keyed("b", "k")]);
    let first = bench.one("g");
    assert_eq!(bench.hand_back("g", vec![first.receipt]).done, 1);
    assert_eq!(bench.hand_back("g", vec![first.receipt]).done, 0);
    let again = bench.one("g");
    assert_eq!((again.id, again.attempt), (first.id, 1));
    assert_eq!(bench.ack("g", vec![first.receipt]).done, 0, "its first receipt is over");
    assert_eq!(bench.ack("g", vec![again.receipt]).done, 1);
}

#[test]
fn past_max_attempts_a_message_dies_and_redrive_revives_it() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 2, ..TopicSettings::default() });
    let ids = bench.publish(vec![message("expires"), message("rejected"), message("good")]);
    bench.receive("g", 3);
    bench.wait(30_000);
    let second = bench.receive("g", 3);
    bench.nack("g", vec![second[1].receipt], 60_000);
    bench.ack("g", vec![second[2].receipt]);
    bench.wait(30_000);
    let died = |message, reason| {
        let (topic, group) = (topic("orders"), group("g"));
        Event::Died { topic, group, message, reason }
    };
    assert_eq!(bench.events, [died(ids[0], DeadReason::Expired)]);
    assert_eq!(bench.info("g"), counts(0, 0, 0, 2));
    assert_eq!(bench.length(), 0);
    let dead = bench.dead("g");
    let told: Vec<_> =
        dead.iter().map(|dead| (dead.id, dead.attempts, dead.died_at.get(), dead.reason)).collect();
    assert_eq!(
        told,
        [(ids[1], 2, 1_030_000, DeadReason::Rejected), (ids[0], 2, 1_060_000, DeadReason::Expired)]
    );

    assert_eq!(bench.redrive("g"), 2);
    assert_eq!(bench.info("g"), counts(2, 0, 0, 0));
    let revived = bench.receive("g", 10);
    assert_eq!(texts(&revived), ["expires", "rejected"]);
    assert_eq!(revived[0].attempt, 1);
    assert_eq!(bench.receive("late", 10), [], "other groups do not see it again");
    assert_eq!(bench.ack("g", receipts(&revived)).done, 2);
    assert_eq!(bench.redrive("g"), 0);
    assert_eq!(bench.events, [], "nobody is woken for nothing");
}

#[test]
fn a_redriven_message_takes_its_turn_with_its_key() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 1, ..TopicSettings::default() });
    bench.publish(vec![keyed("a", "k"), keyed("b", "k"), keyed("c", "k")]);
    bench.one("keeps");
    let a = bench.one("g").receipt;
    bench.nack("g", vec![a], 0);
    let b = bench.one("g");
    assert_eq!(bench.redrive("g"), 1);
    assert_eq!(bench.receive("g", 10), [], "b is in flight");
    bench.ack("g", vec![b.receipt]);
    let a = bench.receive("g", 10);
    assert_eq!(texts(&a), ["a"]);
    bench.ack("g", receipts(&a));
    assert_eq!(texts(&bench.receive("g", 10)), ["c"]);
}

#[test]
fn a_redriven_message_goes_before_what_was_never_delivered() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_attempts: 1, ..TopicSettings::default() });
    bench.publish(vec![keyed("a", "k"), keyed("b", "k")]);
    let a = bench.one("g").receipt;
    bench.publish(vec![NewMessage { delay: millis(60_000), ..keyed("c", "k") }]);
    bench.receive("g", 10);
    bench.nack("g", vec![a], 0);
    bench.redrive("g");
    let a = bench.receive("g", 10);
    assert_eq!(texts(&a), ["a"], "b has come to the head, and steps back");
    bench.nack("g", receipts(&a), 0);
    let b = bench.receive("g", 10);
    bench.ack("g", receipts(&b));
    assert_eq!(bench.receive("g", 10), [], "c is delayed");
    bench.redrive("g");
    let a = bench.receive("g", 10);
    assert_eq!((texts(&b), texts(&a)), (vec!["b"], vec!["a"]));
    bench.ack("g", receipts(&a));
    bench.wait(60_000);
    assert_eq!(texts(&bench.receive("g", 10)), ["c"]);
}

#[test]
fn messages_of_a_key_come_in_order_and_one_at_a_time() {
    let mut bench = Bench::new();
    bench.publish(vec![
        keyed("a1", "a"),
        keyed("a2", "a"),
        keyed("b1", "b"),
        message("free"),
        keyed("a3", "a"),
    ]);
    let first = bench.receive("g", 10);
    assert_eq!(texts(&first), ["a1", "b1", "free"]);
    assert_eq!(bench.info("g"), counts(2, 3, 0, 0));
    bench.nack("g", vec![first[0].receipt], 1_000);
    assert_eq!(bench.receive("g", 10), [], "a1 holds up its key while it is delayed");
    bench.wait(1_000);
    let again = bench.receive("g", 10);
    assert_eq!(texts(&again), ["a1"]);
    bench.ack("g", receipts(&again));
    assert_eq!(
        bench.events,
        [Event::Available { topic: topic("orders"), group: group("g"), count: 1 }]
    );
    let second = bench.receive("g", 10);
    assert_eq!(texts(&second), ["a2"]);
    bench.publish(vec![keyed("a4", "a")]);
    bench.ack("g", receipts(&second));
    let third = bench.receive("g", 10);
    assert_eq!(texts(&third), ["a3"]);
    bench.ack("g", receipts(&third));
    assert_eq!(texts(&bench.receive("g", 10)), ["a4"]);
}

#[test]
fn a_delayed_message_is_unseen_until_its_time_and_holds_up_its_key() {
    let mut bench = Bench::new();
    let delayed = |text, key: Option<&str>| NewMessage {
        delay: millis(5_000),
        key: key.map(str::to_owned),
        ..message(text)
    };
    bench.publish(vec![delayed("later", None), delayed("k1", Some("k")), keyed("k2", "k")]);
    bench.publish(vec![message("now")]);
    assert_eq!(texts(&bench.receive("g", 10)), ["now"]);
    assert_eq!(bench.info("g"), counts(1, 1, 2, 0));
    bench.wait(5_000);
    assert_eq!(bench.info("g"), counts(3, 1, 0, 0));
    let due = bench.receive("g", 10);
    assert_eq!(texts(&due), ["later", "k1"]);
    bench.ack("g", receipts(&due));
    assert_eq!(texts(&bench.receive("g", 10)), ["k2"]);
}

#[test]
fn a_dedupe_id_stores_once_within_five_minutes() {
    let mut bench = Bench::new();
    let order = || NewMessage { dedupe_id: Some("order-1".to_owned()), ..message("a") };
    let first = bench.publish(vec![order()]);
    assert_eq!(bench.publish(vec![order(), order()]), [first[0], first[0]]);
    let delivery = bench.one("g");
    bench.ack("g", vec![delivery.receipt]);
    bench.wait(299_999);
    assert_eq!(bench.publish(vec![order()]), first, "also when the message is long gone");
    assert_eq!(bench.receive("g", 10), []);
    bench.wait(1);
    let second = bench.publish(vec![order()]);
    assert_ne!(second, first);
    bench.wait(10_000);
    assert_eq!(bench.publish(vec![order()]), second, "forgetting the first keeps the second");
}

#[test]
fn retention_drops_what_is_old_but_not_from_under_a_consumer() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { retention: Some(millis(10_000)), ..TopicSettings::default() });
    let ids = bench.publish(vec![message("in flight"), message("returned"), message("untouched")]);
    let leased = bench.receive("g", 2);
    bench.nack("g", vec![leased[1].receipt], 0);
    bench.wait(9_999);
    assert_eq!(bench.length(), 3);
    bench.wait(1);
    assert_eq!(bench.length(), 0);
    assert_eq!(bench.info("g"), counts(0, 1, 0, 0));
    let dropped =
        ids.iter().map(|message| Event::Dropped { topic: topic("orders"), message: *message });
    assert_eq!(bench.events, dropped.collect::<Vec<_>>());
    assert_eq!(bench.ack("g", vec![leased[0].receipt]).done, 1);

    bench.publish(vec![keyed("k1", "k")]);
    let k1 = bench.one("g").receipt;
    bench.wait(10_000);
    bench.publish(vec![keyed("k2", "k")]);
    bench.nack("g", vec![k1], 0);
    assert_eq!(texts(&bench.receive("g", 10)), ["k2"], "what was dropped does not come back");
}

#[test]
fn max_length_drops_the_oldest() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { max_length: Some(2), ..TopicSettings::default() });
    bench.publish(vec![message("a")]);
    bench.one("g");
    bench.publish(vec![message("b"), message("c"), message("d")]);
    assert_eq!(bench.length(), 2);
    assert_eq!(bench.info("g"), counts(2, 1, 0, 0));
    bench.configure(TopicSettings { max_length: Some(1), ..TopicSettings::default() });
    assert_eq!(texts(&bench.receive("g", 10)), ["d"]);
}

#[test]
fn a_delay_must_end_before_the_retention() {
    let mut bench = Bench::new();
    bench.configure(TopicSettings { retention: Some(millis(1_000)), ..TopicSettings::default() });
    let late = NewMessage { delay: millis(1_000), ..message("a") };
    assert!(matches!(bench.try_publish(vec![late]), Err(Refusal::Invalid { field: "delay", .. })));
}

#[test]
fn purge_forgets_messages_and_delete_everything() {
    let mut bench = Bench::new();
    bench.publish(vec![keyed("a", "k"), keyed("b", "k"), message("c")]);
    let leased = bench.receive("g", 2);
    assert_eq!(bench.apply(Command::Purge { topic: topic("orders") }), Reply::Done);
    assert_eq!((bench.length(), bench.info("g")), (0, counts(0, 0, 0, 0)));
    assert_eq!(bench.queue.next_deadline(), None);
    assert_eq!(bench.ack("g", receipts(&leased)).done, 0);
    bench.publish(vec![keyed("d", "k")]);
    assert_eq!(texts(&bench.receive("g", 10)), ["d"]);

    assert_eq!(bench.apply(Command::Delete { topic: topic("orders") }), Reply::Done);
    assert_eq!(bench.events, [Event::Deleted { topic: topic("orders") }]);
    assert_eq!(bench.queue.next_deadline(), None);
    assert_eq!(bench.queue.topics().count(), 0);
    let gone = Command::Delete { topic: topic("orders") };
    assert_eq!(bench.apply(gone), Reply::Refused(Refusal::NotFound));
    assert_eq!(bench.try_receive("g", 1), Err(Refusal::NotFound));
}

#[test]
fn time_never_goes_back() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    bench.one("g");
    bench.now -= 500_000;
    bench.publish(vec![message("b")]);
    assert_eq!(bench.queue.now(), UnixMillis::new(1_000_000));
    assert_eq!(bench.one("g").produced_at, UnixMillis::new(1_000_000));
}

#[test]
fn availability_says_what_a_receive_would_find() {
    let mut bench = Bench::new();
    let ask = |bench: &Bench| bench.queue.availability(&topic("orders"), &group("g"));
    assert_eq!(ask(&bench), Availability::NoTopic);
    bench.publish(vec![keyed("a", "k"), keyed("b", "k")]);
    assert_eq!(ask(&bench), Availability::NoGroup);
    let first = bench.receive("g", 10);
    assert_eq!(ask(&bench), Availability::Nothing, "b waits for a");
    bench.ack("g", receipts(&first));
    assert_eq!(ask(&bench), Availability::Something);
}

#[test]
fn messages_keep_the_ids_of_whichever_shard_gave_them() {
    let mut bench = Bench::new();
    let mut ids = bench.publish(vec![message("a")]);
    for (shard, text) in [(9, "b"), (7, "c"), (9, "d")] {
        let (shard, topic) = (ShardId::new(shard), topic("orders"));
        let messages = vec![message(text)];
        let reply = bench.apply(Command::Publish { shard, topic, messages });
        let Reply::Published(more) = reply else { panic!("refused: {reply:?}") };
        assert_eq!(more[0].shard(), shard);
        ids.extend(more);
    }
    let deliveries = bench.receive("g", 10);
    assert_eq!(texts(&deliveries), ["a", "b", "c", "d"]);
    assert!(deliveries.iter().map(|delivery| delivery.id).eq(ids), "{deliveries:?}");
    assert_eq!(bench.ack("g", receipts(&deliveries)).done, 4);
}

#[test]
fn a_founder_gets_its_own_place_before_any_topic_changes_hands() {
    let placement = |epoch, shards: &[&str]| {
        Placement::new(epoch, shards.iter().map(|shard| (*shard).to_owned()).collect()).unwrap()
    };
    let (founders, first) = (placement(0, &["a"]), placement(1, &["a"]));
    let grown = placement(2, &["a", "b"]);
    let (now, mut queue) = (UnixMillis::new(1_000), Queue::new());
    let mut place = |previous: &Placement, current: &Placement| {
        let (previous, current) = (previous.clone(), current.clone());
        queue.apply(now, Command::Place { shard: "a".to_owned(), previous, current }).0
    };
    let refused = Reply::Refused(Refusal::Moved { epoch: 0 });
    assert_eq!(place(&founders, &placement(1, &["a", "b"])), refused, "it would move topics");
    assert_eq!(place(&first, &grown), refused);
    assert_eq!(place(&founders, &first), Reply::Done);
    assert_eq!(place(&first, &grown), Reply::Done);
}
