//! The scripts against `dss_queue::Queue`, which is the reference: the same random commands at the
//! same times have the same answers, and leave the same counters and dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use dss_examples::random::Random;
use dss_queue::{
    Broker, BrokerError, Command, Delivery, MessageId, NewMessage, Queue, Receipt, Refusal, Reply,
    Settled, ShardId, TopicName, TopicSettings, UnixMillis,
};

use super::{RedisBroker, RedisServer, broker_on, group, topic};
use crate::redis::queue::settle::What;

const TOPICS: usize = 60;
const STEPS: usize = 60;
const GROUPS: [&str; 3] = ["g0", "g1", "g2"];
const WINDOW: u64 = 300_000;

struct Run<'a> {
    broker: &'a RedisBroker,
    topic: TopicName,
    queue: Queue,
    now: u64,
    /// The reference's id of each of the broker's.
    ids: BTreeMap<MessageId, MessageId>,
    /// The broker's receipts with the reference's.
    receipts: Vec<(Receipt, Receipt)>,
    random: &'a mut Random,
}

#[tokio::test]
#[cfg_attr(no_redis_server, ignore = "needs redis-server on the PATH")]
async fn the_scripts_do_what_the_reference_does() {
    let server = RedisServer::start().await;
    let broker = broker_on(std::slice::from_ref(&server)).await;
    let mut random = Random::new();
    let mut now = 1_700_000_000_000;
    for number in 0..TOPICS {
        let mut run = Run {
            broker: &broker,
            topic: topic(&format!("topic {number} {{}}:☂")),
            queue: Queue::new(),
            now,
            ids: BTreeMap::new(),
            receipts: Vec::new(),
            random: &mut random,
        };
        for _ in 0..STEPS {
            run.step().await;
        }
        now = run.now;
    }
}

impl Run<'_> {
    async fn step(&mut self) {
        *self.broker.shared.caller.now.lock().unwrap() = Some(self.now);
        match self.random.below(60) {
            0..9 => {
                let far = self.random.one_in(12);
                self.now += if far { WINDOW } else { self.random.below(30) };
                *self.broker.shared.caller.now.lock().unwrap() = Some(self.now);
            }
            9..19 => self.publish().await,
            19..33 => self.receive().await,
            33..53 => self.settle().await,
            53..56 => self.redrive().await,
            56..58 => self.configure().await,
            _ if self.random.one_in(8) => self.delete().await,
            _ => {}
        }
        self.compare().await;
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.queue.apply(UnixMillis::new(self.now), command).0
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.random.below(to - from))
    }

    async fn publish(&mut self) {
        let count = 1 + self.random.below(4);
        let messages: Vec<_> = (0..count).map(|_| self.message()).collect();
        let found = self.broker.publish(&self.topic, messages.clone()).await;
        let topic = self.topic.clone();
        match self.apply(Command::Publish { shard: ShardId::new(1), topic, messages }) {
            Reply::Published(expected) => {
                for (found, expected) in found.unwrap().into_iter().zip(expected) {
                    assert_eq!(*self.ids.entry(found).or_insert(expected), expected);
                }
            }
            Reply::Refused(refusal) => assert_eq!(found, Err(BrokerError::from(refusal))),
            other => panic!("{other:?}"),
        }
    }

    fn message(&mut self) -> NewMessage {
        let text: Vec<u8> = (0..self.random.below(5)).map(|_| self.random.byte()).collect();
        let mut message = NewMessage::new(text);
        if !self.random.one_in(3) {
            let keys = ["a", "a\0b", "aa", "☂:}"];
            message.key = Some(keys[self.random.index(4)].to_owned());
        }
        if self.random.one_in(4) {
            message.delay = self.millis(1, 50);
        }
        if self.random.one_in(4) {
            message.dedupe_id = Some(self.random.below(4).to_string());
        }
        if self.random.one_in(3) {
            message.headers.insert("x\r\n".to_owned(), "\u{0}\"y".to_owned());
        }
        message
    }

    async fn receive(&mut self) {
        let name = group(GROUPS[self.random.index(3)]);
        let max = 1 + self.random.index(4);
        let visibility = self.millis(1, 40);
        let mut request = super::request(max);
        request.visibility = Some(visibility);
        let found = self.broker.receive(&self.topic, &name, request.clone()).await;
        let reply = self.apply(Command::Receive {
            topic: self.topic.clone(),
            group: name,
            consumer: request.consumer,
            max: max.try_into().unwrap(),
            visibility: Some(visibility),
        });
        let Reply::Received { deliveries, .. } = reply else {
            assert_eq!(reply, Reply::Refused(Refusal::NotFound));
            assert_eq!(found, Err(BrokerError::NotFound));
            return;
        };
        let found = found.unwrap();
        let as_expected: Vec<_> = (found.iter().zip(&deliveries))
            .map(|(found, expected)| Delivery {
                id: self.ids[&found.id],
                receipt: expected.receipt,
                ..found.clone()
            })
            .collect();
        assert_eq!(found.len(), deliveries.len(), "{found:?} {deliveries:?}");
        assert_eq!(as_expected, deliveries);
        for (found, expected) in found.into_iter().zip(deliveries) {
            assert_eq!(found.receipt.message(), found.id);
            self.receipts.push((found.receipt, expected.receipt));
        }
    }

    async fn settle(&mut self) {
        let recent = self.receipts.len().min(6);
        let count = 1 + self.random.below(3);
        let mut picked = Vec::new();
        for _ in 0..if recent == 0 { 0 } else { count } {
            let back = self.random.index(recent);
            picked.push(self.receipts[self.receipts.len() - 1 - back]);
        }
        let name = group(GROUPS[self.random.index(3)]);
        let (topic, group) = (self.topic.clone(), name.clone());
        let receipts = picked.iter().map(|(_, expected)| *expected).collect();
        let (what, command) = match self.random.below(10) {
            0..4 => (What::Ack, Command::Ack { topic, group, receipts }),
            4..7 => {
                let short = self.millis(1, 40);
                let delay = if self.random.one_in(2) { Duration::ZERO } else { short };
                (What::Nack(delay), Command::Nack { topic, group, receipts, delay })
            }
            7 => {
                let visibility = self.millis(1, 40);
                (What::Extend(visibility), Command::Extend { topic, group, receipts, visibility })
            }
            _ => (What::Back, Command::HandBack { topic, group, receipts }),
        };
        let shown = picked.iter().map(|(found, _)| *found).collect();
        let found = self.broker.shared.settle(&self.topic, &name, shown, what).await;
        match self.apply(command) {
            Reply::Settled(Settled { done, stale }) => {
                let found = found.unwrap();
                let known: BTreeMap<_, _> = picked.into_iter().collect();
                let found_stale: Vec<_> = found.stale.iter().map(|it| known[it]).collect();
                assert_eq!((found.done, found_stale), (done, stale), "{what:?}");
            }
            reply => {
                assert_eq!(reply, Reply::Refused(Refusal::NotFound));
                assert_eq!(found, Err(BrokerError::NotFound));
            }
        }
    }

    async fn redrive(&mut self) {
        let name = group(GROUPS[self.random.index(3)]);
        let found = self.broker.redrive(&self.topic, &name).await;
        match self.apply(Command::Redrive { topic: self.topic.clone(), group: name }) {
            Reply::Redriven { redriven, .. } => assert_eq!(found, Ok(redriven)),
            _ => assert_eq!(found, Err(BrokerError::NotFound)),
        }
    }

    async fn configure(&mut self) {
        let settings = TopicSettings {
            visibility: self.millis(1, 40),
            max_attempts: 1 + u32::from(self.random.byte() % 3),
            retention: self.random.one_in(3).then(|| Duration::from_millis(70)),
            max_length: self.random.one_in(3).then(|| 1 + self.random.below(8)),
            ..TopicSettings::default()
        };
        self.broker.configure(&self.topic, settings.clone()).await.unwrap();
        let command = Command::Configure { topic: self.topic.clone(), settings };
        assert_eq!(self.apply(command), Reply::Done);
    }

    async fn delete(&mut self) {
        let found = self.broker.delete(&self.topic).await;
        match self.apply(Command::Delete { topic: self.topic.clone() }) {
            Reply::Done => assert_eq!(found, Ok(())),
            _ => assert_eq!(found, Err(BrokerError::NotFound)),
        }
    }

    async fn compare(&mut self) {
        self.apply(Command::Tick);
        let found = self.broker.topic(&self.topic).await;
        let Some(expected) = self.queue.topic(&self.topic) else {
            assert_eq!(found, Err(BrokerError::NotFound));
            return;
        };
        let found = found.unwrap();
        assert_eq!(found.settings, expected.settings);
        assert_eq!((found.length, &found.groups), (expected.length, &expected.groups));
        for name in expected.groups.keys() {
            let mut found = self.broker.dead_letters(&self.topic, name).await.unwrap();
            for letter in &mut found {
                letter.id = self.ids[&letter.id];
            }
            assert_eq!(Some(found), self.queue.dead_letters(&self.topic, name));
        }
    }
}
