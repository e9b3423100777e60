//! A queue with a clock that a test turns.

use std::time::Duration;

use dss_queue::{
    Command, ConsumerName, DeadLetter, Delivery, Event, GroupInfo, GroupName, MessageId,
    NewMessage, Queue, Receipt, Refusal, Reply, Settled, ShardId, TopicName, TopicSettings,
    UnixMillis,
};

/// One topic, `orders`, unless a test says otherwise.
pub(crate) struct Bench {
    pub(crate) queue: Queue,
    pub(crate) now: u64,
    pub(crate) events: Vec<Event>,
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("a good name")
}

pub(crate) fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("a good name")
}

pub(crate) fn consumer() -> ConsumerName {
    ConsumerName::new("worker").expect("a good name")
}

pub(crate) fn counts(ready: u64, in_flight: u64, delayed: u64, dead: u64) -> GroupInfo {
    GroupInfo { ready, in_flight, delayed, dead }
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) fn message(text: &str) -> NewMessage {
    NewMessage::new(text.to_owned())
}

pub(crate) fn keyed(text: &str, key: &str) -> NewMessage {
    NewMessage { key: Some(key.to_owned()), ..message(text) }
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries
        .iter()
        .map(|delivery| std::str::from_utf8(&delivery.payload).expect("the tests send text"))
        .collect()
}

pub(crate) fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { queue: Queue::new(), now: 1_000_000, events: Vec::new() }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        let (reply, events) = self.queue.apply(UnixMillis::new(self.now), command);
        self.events = events;
        // Whatever a test leads the queue to, a copy of it continues alike.
        let copy = Queue::restore(&self.queue.snapshot()).expect("its own snapshot");
        assert_eq!(copy, self.queue);
        reply
    }

    pub(crate) fn wait(&mut self, span_ms: u64) {
        self.now += span_ms;
        assert_eq!(self.apply(Command::Tick), Reply::Done);
    }

    pub(crate) fn configure(&mut self, settings: TopicSettings) {
        let command = Command::Configure { topic: topic("orders"), settings };
        assert_eq!(self.apply(command), Reply::Done);
    }

    pub(crate) fn try_publish(
        &mut self,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<MessageId>, Refusal> {
        let shard = ShardId::new(7);
        match self.apply(Command::Publish { shard, topic: topic("orders"), messages }) {
            Reply::Published(ids) => Ok(ids),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("a publish answers {other:?}"),
        }
    }

    pub(crate) fn publish(&mut self, messages: Vec<NewMessage>) -> Vec<MessageId> {
        self.try_publish(messages).expect("the publish is good")
    }

    pub(crate) fn try_receive(&mut self, name: &str, max: u32) -> Result<Vec<Delivery>, Refusal> {
        let (topic, group, consumer) = (topic("orders"), group(name), consumer());
        match self.apply(Command::Receive { topic, group, consumer, max, visibility: None }) {
            Reply::Received { deliveries, .. } => Ok(deliveries),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("a receive answers {other:?}"),
        }
    }

    pub(crate) fn receive(&mut self, name: &str, max: u32) -> Vec<Delivery> {
        self.try_receive(name, max).expect("the receive is good")
    }

    pub(crate) fn one(&mut self, name: &str) -> Delivery {
        let mut deliveries = self.receive(name, 1);
        deliveries.pop().expect("a message is ready")
    }

    pub(crate) fn ack(&mut self, name: &str, receipts: Vec<Receipt>) -> Settled {
        self.settled(Command::Ack { topic: topic("orders"), group: group(name), receipts })
    }

    pub(crate) fn nack(&mut self, name: &str, receipts: Vec<Receipt>, delay_ms: u64) -> Settled {
        let (topic, group, delay) = (topic("orders"), group(name), millis(delay_ms));
        self.settled(Command::Nack { topic, group, receipts, delay })
    }

    pub(crate) fn hand_back(&mut self, name: &str, receipts: Vec<Receipt>) -> Settled {
        self.settled(Command::HandBack { topic: topic("orders"), group: group(name), receipts })
    }

    pub(crate) fn extend(&mut self, name: &str, receipts: Vec<Receipt>, for_ms: u64) -> Settled {
        let (topic, group, visibility) = (topic("orders"), group(name), millis(for_ms));
        self.settled(Command::Extend { topic, group, receipts, visibility })
    }

    pub(crate) fn redrive(&mut self, name: &str) -> u64 {
        match self.apply(Command::Redrive { topic: topic("orders"), group: group(name) }) {
            Reply::Redriven { redriven, .. } => redriven,
            other => panic!("a redrive answers {other:?}"),
        }
    }

    pub(crate) fn dead(&self, name: &str) -> Vec<DeadLetter> {
        self.queue.dead_letters(&topic("orders"), &group(name)).expect("the group exists")
    }

    pub(crate) fn info(&self, name: &str) -> GroupInfo {
        let summary = self.queue.topic(&topic("orders")).expect("the topic exists");
        summary.groups[&group(name)]
    }

    pub(crate) fn length(&self) -> u64 {
        self.queue.topic(&topic("orders")).expect("the topic exists").length
    }

    fn settled(&mut self, command: Command) -> Settled {
        match self.apply(command) {
            Reply::Settled(settled) => settled,
            other => panic!("settling answers {other:?}"),
        }
    }
}
