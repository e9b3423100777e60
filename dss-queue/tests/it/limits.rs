//! How much of everything there may be.

use std::time::Duration;

use dss_queue::limits::{
    BATCH_BYTES_MAX, HEADERS_MAX, IN_FLIGHT_MAX, PAYLOAD_BYTES_MAX, PUBLISH_MESSAGES_MAX,
    STORED_BYTES_MAX,
};
use dss_queue::{
    Availability, Command, NewMessage, Refusal, Reply, ShardId, TopicSettings, UnixMillis,
};

use crate::bench::{
    Bench, consumer, counts, group, keyed, message, millis, receipts, texts, topic,
};

#[test]
fn out_of_range_values_are_refused_and_change_nothing() {
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let before = bench.queue.clone();
    let large = NewMessage::new(vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert!(matches!(bench.try_publish(vec![large]), Err(Refusal::TooLarge { .. })));
    let full = NewMessage::new(vec![0; PAYLOAD_BYTES_MAX]);
    let batch = vec![full.clone(); BATCH_BYTES_MAX / PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(bench.try_publish(batch), Err(Refusal::TooLarge { .. })));
    let many = vec![message("a"); PUBLISH_MESSAGES_MAX + 1];
    let headers = (0..=HEADERS_MAX).map(|n| (n.to_string(), String::new())).collect();
    let wide = ("name".to_owned(), "v".repeat(20_000));
    for (field, messages) in [
        ("messages", vec![]),
        ("messages", many),
        ("headers", vec![NewMessage { headers, ..message("a") }]),
        ("key", vec![keyed("a", "")]),
        ("key", vec![keyed("a", &"k".repeat(513))]),
        ("dedupe_id", vec![NewMessage { dedupe_id: Some(String::new()), ..message("a") }]),
        ("delay", vec![message("good"), NewMessage { delay: millis(u64::MAX), ..message("a") }]),
    ] {
        let refused = bench.try_publish(messages);
        assert!(matches!(refused, Err(Refusal::Invalid { field: f, .. }) if f == field), "{field}");
    }
    let wide = NewMessage { headers: [wide].into(), ..message("a") };
    assert!(matches!(bench.try_publish(vec![wide]), Err(Refusal::TooLarge { .. })));
    assert!(matches!(bench.try_receive("g", 0), Err(Refusal::Invalid { field: "max", .. })));
    assert!(matches!(bench.try_receive("g", 1_001), Err(Refusal::Invalid { field: "max", .. })));
    for settings in [
        TopicSettings { visibility: millis(0), ..TopicSettings::default() },
        TopicSettings { visibility: millis(u64::MAX), ..TopicSettings::default() },
        TopicSettings { max_attempts: 0, ..TopicSettings::default() },
        TopicSettings { retention: Some(millis(0)), ..TopicSettings::default() },
        TopicSettings { max_length: Some(0), ..TopicSettings::default() },
    ] {
        let command = Command::Configure { topic: topic("other"), settings };
        assert!(matches!(bench.apply(command), Reply::Refused(Refusal::Invalid { .. })));
    }
    assert_eq!(bench.queue, before);
}

#[test]
fn a_group_has_a_limited_number_of_messages_in_flight() {
    let mut bench = Bench::new();
    let mut queue = bench.queue.clone();
    let mut apply = |command| queue.apply(UnixMillis::new(1), command).0;
    let publish = |count| Command::Publish {
        shard: ShardId::new(1),
        topic: topic("orders"),
        messages: vec![message("a"); count],
    };
    let receive = || Command::Receive {
        topic: topic("orders"),
        group: group("g"),
        consumer: consumer(),
        max: 1_000,
        visibility: None,
    };
    for _ in 0..IN_FLIGHT_MAX / 1_000 {
        apply(publish(1_000));
        assert!(
            matches!(apply(receive()), Reply::Received { deliveries, .. } if deliveries.len() == 1_000)
        );
    }
    apply(publish(1));
    assert_eq!(apply(receive()), Reply::Refused(Refusal::TooManyInFlight));
    bench.queue = queue;
    let ask = bench.queue.availability(&topic("orders"), &group("g"));
    assert_eq!(ask, Availability::Crowded);
}

#[test]
fn a_shard_that_is_full_refuses_until_something_is_acknowledged() {
    let mut queue = dss_queue::Queue::new();
    let payload = bytes::Bytes::from(vec![0; PAYLOAD_BYTES_MAX]);
    let publish = || Command::Publish {
        shard: ShardId::new(1),
        topic: topic("orders"),
        messages: vec![NewMessage::new(payload.clone()); 4],
    };
    let mut published = 0;
    while let (Reply::Published(ids), _) = queue.apply(UnixMillis::new(1), publish()) {
        published += ids.len() as u64;
    }
    assert!(published * PAYLOAD_BYTES_MAX as u64 <= STORED_BYTES_MAX);
    assert!((published + 8) * PAYLOAD_BYTES_MAX as u64 > STORED_BYTES_MAX);
    let refused = queue.apply(UnixMillis::new(1), publish()).0;
    assert_eq!(refused, Reply::Refused(Refusal::Full));

    let (topic, group) = (topic("orders"), group("g"));
    let receive = Command::Receive {
        topic: topic.clone(),
        group: group.clone(),
        consumer: consumer(),
        max: 1_000,
        visibility: None,
    };
    let Reply::Received { deliveries, more } = queue.apply(UnixMillis::new(1), receive).0 else {
        panic!("there are messages");
    };
    assert_eq!(
        deliveries.len() * PAYLOAD_BYTES_MAX,
        BATCH_BYTES_MAX,
        "a receive is limited by bytes"
    );
    assert!(more);
    queue.apply(UnixMillis::new(1), Command::Ack { topic, group, receipts: receipts(&deliveries) });
    assert!(matches!(queue.apply(UnixMillis::new(1), publish()).0, Reply::Published(_)));
}

#[test]
fn a_long_backlog_of_one_key_is_passed_bit_by_bit() {
    let mut bench = Bench::new();
    let mut queue = bench.queue.clone();
    let mut apply = |command| queue.apply(UnixMillis::new(1), command).0;
    for _ in 0..11 {
        let messages = vec![keyed("a", "k"); 1_000];
        apply(Command::Publish { shard: ShardId::new(1), topic: topic("orders"), messages });
    }
    apply(Command::Publish {
        shard: ShardId::new(1),
        topic: topic("orders"),
        messages: vec![message("free")],
    });
    let receive = || Command::Receive {
        topic: topic("orders"),
        group: group("g"),
        consumer: consumer(),
        max: 10,
        visibility: None,
    };
    let Reply::Received { deliveries, more } = apply(receive()) else { panic!("refused") };
    assert_eq!((texts(&deliveries), more), (vec!["a"], true));
    let Reply::Received { deliveries, more } = apply(receive()) else { panic!("refused") };
    assert_eq!((texts(&deliveries), more), (vec!["free"], false));
    let snapshot = queue.snapshot().len();
    bench.queue = queue;
    assert_eq!(bench.info("g"), counts(10_999, 2, 0, 0));
    assert!(snapshot < 11_001 * 24, "parked messages cost a group nothing: {snapshot}");
}

#[test]
fn timers_are_fired_a_bounded_number_at_a_time() {
    let mut bench = Bench::new();
    let mut queue = bench.queue.clone();
    for _ in 0..3 {
        let messages = vec![NewMessage { delay: millis(5), ..message("a") }; 1_000];
        queue.apply(
            UnixMillis::new(1),
            Command::Publish { shard: ShardId::new(1), topic: topic("orders"), messages },
        );
    }
    let mut ticks = 0;
    while queue.next_deadline().is_some_and(|at| at <= UnixMillis::new(6)) {
        queue.apply(UnixMillis::new(6), Command::Tick);
        ticks += 1;
    }
    assert_eq!(ticks, 3);
    bench.queue = queue;
    bench.now = 6;
    assert_eq!(bench.receive("g", 1_000).len(), 1_000);
}

#[test]
fn a_lease_lasts_up_to_twelve_hours_and_a_delay_up_to_ten_years() {
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let mut bench = Bench::new();
    bench.publish(vec![message("a")]);
    let receipt = bench.one("g").receipt;
    let mut extend = |visibility| {
        let (topic, group, receipts) = (topic("orders"), group("g"), vec![receipt]);
        bench.apply(Command::Extend { topic, group, receipts, visibility })
    };
    assert!(matches!(extend(hours(12)), Reply::Settled(_)));
    let longer = extend(hours(12) + millis(1));
    assert!(matches!(longer, Reply::Refused(_)), "{longer:?}");

    let decade = hours(24) * 3_650;
    let delayed = |delay| vec![NewMessage { delay, ..message("b") }];
    assert!(bench.try_publish(delayed(decade)).is_ok());
    assert!(bench.try_publish(delayed(decade + millis(1))).is_err());
}
