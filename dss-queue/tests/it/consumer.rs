//! The loop around a handler, in virtual time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dss_queue::{
    Backoff, Broker, Consumer, GroupInfo, LocalBroker, NewMessage, TopicSettings, Verdict,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::bench::{consumer, counts, group, message, topic};

const SECOND: Duration = Duration::from_secs(1);

async fn broker(messages: usize, max_attempts: u32) -> Arc<LocalBroker> {
    let broker = Arc::new(LocalBroker::in_memory().await);
    let settings = TopicSettings { max_attempts, ..TopicSettings::default() };
    broker.configure(&topic("orders"), settings).await.unwrap();
    publish(&broker, messages).await;
    broker
}

async fn publish(broker: &LocalBroker, messages: usize) {
    if messages > 0 {
        let messages: Vec<NewMessage> = (0..messages).map(|n| message(&n.to_string())).collect();
        broker.publish(&topic("orders"), messages).await.unwrap();
    }
}

fn of(broker: &Arc<LocalBroker>) -> Consumer {
    let broker: Arc<dyn Broker> = Arc::clone(broker) as Arc<dyn Broker>;
    Consumer::new(broker, topic("orders"), group("g"), consumer())
}

async fn info(broker: &LocalBroker) -> GroupInfo {
    broker.topic(&topic("orders")).await.unwrap().groups[&group("g")]
}

#[tokio::test(start_paused = true)]
async fn as_many_handlers_run_as_may_and_everything_is_done() {
    let broker = broker(50, 5).await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&running), Arc::clone(&most));
    let handler = move |_, _| {
        let (running, most) = counted.clone();
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            sleep(SECOND).await;
            running.fetch_sub(1, Ordering::Relaxed);
            Verdict::Done
        }
    };
    let began = Instant::now();
    let tally = of(&broker).concurrency(5).prefetch(3).run(handler, sleep(SECOND * 11)).await;
    assert_eq!(tally.unwrap().done, 50);
    assert_eq!(most.load(Ordering::Relaxed), 5);
    assert!(began.elapsed() < SECOND * 12, "it ended with `stop`, not with the drain");
    assert_eq!(info(&broker).await, counts(0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_kept_for_as_long_as_the_handler_takes() {
    let broker = broker(1, 5).await;
    let kept = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&kept);
    let handler = move |delivery: dss_queue::Delivery, lease: dss_queue::Lease| {
        let seen = Arc::clone(&seen);
        async move {
            sleep(SECOND * 100).await;
            seen.store(!lease.is_lost() && delivery.attempt == 1, Ordering::Relaxed);
            Verdict::Done
        }
    };
    let stop = sleep(SECOND * 110);
    let tally = of(&broker).visibility(SECOND * 3).run(handler, stop).await.unwrap();
    assert_eq!((tally.done, tally.lost), (1, 0));
    assert!(kept.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_where_the_queue_says_so() {
    let broker = broker(1, 5).await;
    let (told, was_told) = oneshot::channel();
    let told = Mutex::new(Some(told));
    let handler = move |_, lease: dss_queue::Lease| {
        let told = told.lock().unwrap().take();
        async move {
            assert!(!lease.is_lost());
            lease.lost().await;
            assert!(lease.is_lost());
            let _ = told.map(|told| told.send(Instant::now()));
            Verdict::Done
        }
    };
    let began = Instant::now();
    let run = tokio::spawn(of(&broker).visibility(SECOND * 30).run(handler, sleep(SECOND * 40)));
    sleep(SECOND).await;
    broker.replicated().purge(&topic("orders")).await.unwrap();
    let lost_at = was_told.await.unwrap();
    let after = lost_at - began;
    assert!((SECOND * 9..SECOND * 12).contains(&after), "with the next extension: {after:?}");
    assert_eq!(run.await.unwrap().unwrap().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn failures_come_back_with_growing_pauses_until_they_are_dead() {
    let broker = broker(1, 4).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let handler = move |delivery: dss_queue::Delivery, _| {
        seen.lock().unwrap().push(Instant::now());
        async move {
            assert!(delivery.attempt < 3, "a panic is a failure");
            Verdict::Retry
        }
    };
    let retry = Backoff { first: SECOND * 2, longest: SECOND * 60 };
    let tally = of(&broker).retry(retry).run(handler, sleep(SECOND * 120)).await.unwrap();
    assert_eq!(tally.returned, 4);
    let times = times.lock().unwrap().clone();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 3);
    for (pause, whole) in pauses.iter().zip([2, 4, 8]) {
        assert!((SECOND * whole / 2..=SECOND * whole + SECOND / 10).contains(pause), "{pauses:?}");
    }
    let dead = broker.dead_letters(&topic("orders"), &group("g")).await.unwrap();
    assert_eq!((dead[0].attempts, dead[0].consumer.clone()), (4, Some(consumer())));
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_does_not_take_those_beside_it_along() {
    let broker = broker(20, 2).await;
    let handler = |delivery: dss_queue::Delivery, _| async move {
        assert!(&delivery.payload[..] != b"7", "the poison");
        Verdict::Done
    };
    let consumer = of(&broker).concurrency(2).prefetch(20);
    let tally = consumer.run(handler, sleep(SECOND * 30)).await.unwrap();
    assert_eq!((tally.done, tally.returned), (19, 2));
    assert_eq!(info(&broker).await, counts(0, 0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_was_begun_and_hands_back_the_rest_uncounted() {
    let broker = broker(10, 5).await;
    let handler = |_, _| async {
        sleep(SECOND * 5).await;
        Verdict::Done
    };
    let consumer = of(&broker).concurrency(2).prefetch(4);
    let tally = consumer.run(handler, sleep(SECOND)).await.unwrap();
    assert_eq!((tally.done, tally.handed_back, tally.returned), (2, 4, 0));
    assert_eq!(info(&broker).await, counts(8, 0, 0, 0));
    let left = broker.replicated().peek(&topic("orders"), Some(&group("g")), None, 100).await;
    assert!(left.unwrap().messages.iter().all(|message| message.attempts == 0));
}

#[tokio::test(start_paused = true)]
async fn what_outlasts_the_drain_is_cut_off_and_returned() {
    let broker = broker(1, 5).await;
    let handler = |_, _| std::future::pending::<Verdict>();
    let began = Instant::now();
    let tally = of(&broker).drain(SECOND * 7).run(handler, sleep(SECOND)).await.unwrap();
    assert_eq!(tally.returned, 1);
    assert_eq!(began.elapsed().as_secs(), 8);
    assert_eq!(info(&broker).await, counts(1, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_there_yet_is_waited_for() {
    let broker = Arc::new(LocalBroker::in_memory().await);
    let run = of(&broker).run(|_, _| async { Verdict::Done }, sleep(SECOND * 20));
    let run = tokio::spawn(run);
    sleep(SECOND * 5).await;
    publish(&broker, 3).await;
    assert_eq!(run.await.unwrap().unwrap().done, 3);
}

#[tokio::test(start_paused = true)]
async fn two_consumers_share_the_work_and_nothing_is_done_twice() {
    let broker = broker(100, 5).await;
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let handler = |seen: Arc<Mutex<BTreeMap<_, usize>>>| {
        move |delivery: dss_queue::Delivery, _| {
            *seen.lock().unwrap().entry(delivery.id).or_default() += 1;
            async {
                sleep(SECOND).await;
                Verdict::Done
            }
        }
    };
    let one = of(&broker).concurrency(3).run(handler(Arc::clone(&seen)), sleep(SECOND * 30));
    let two = of(&broker).concurrency(4).run(handler(Arc::clone(&seen)), sleep(SECOND * 30));
    let (one, two) = tokio::join!(one, two);
    assert_eq!(one.unwrap().done + two.unwrap().done, 100);
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 100 && seen.values().all(|times| *times == 1));
}
