//! Producers and consumers, each with its own idea of where topics are.

use std::collections::{BTreeMap, BTreeSet};

use dss_queue::{
    Command, GroupName, MessageId, NewMessage, Placement, Receipt, Refusal, Reply, ShardId,
    TopicName,
};

use super::world::{GROUPS, Random, TOPICS, VISIBILITY};
use crate::bench::{consumer, group, message, millis, topic};

/// A client remembers as many receipts, so that some are long stale.
const RECEIPTS_MAX: usize = 12;
/// For how long a publish without an answer is made again: far less than dedupe ids are
/// remembered for.
const REPUBLISH_MAX: u64 = 30_000;

pub(super) struct Client {
    number: usize,
    pub(super) placement: Placement,
    published: u64,
    /// By topic and dedupe id, with the time of the first try.
    unanswered: BTreeMap<(TopicName, String), (NewMessage, u64)>,
    receipts: Vec<(TopicName, GroupName, Receipt)>,
    /// What was answered, and must be delivered.
    pub(super) answered: BTreeSet<(TopicName, MessageId)>,
}

impl Client {
    pub(super) fn new(number: usize, placement: Placement) -> Self {
        Self {
            number,
            placement,
            published: 0,
            unanswered: BTreeMap::new(),
            receipts: Vec::new(),
            answered: BTreeSet::new(),
        }
    }

    /// What it asks for next, and where.
    pub(super) fn ask(&mut self, now: u64, random: &mut Random) -> Option<(String, Command)> {
        let topic = topic(TOPICS[random.index(TOPICS.len())]);
        let command = match random.below(16) {
            0..=3 => self.publish(topic, now),
            4..=5 => match self.publish_again(now, random) {
                Some(again) => again,
                None => self.publish(topic, now),
            },
            6..=9 => Command::Receive {
                topic,
                group: group(GROUPS[random.index(GROUPS.len())]),
                consumer: consumer(),
                max: 1 + u32::try_from(random.below(3)).unwrap(),
                visibility: Some(millis(VISIBILITY)),
            },
            kind => self.settle(kind, random)?,
        };
        let shard = self.placement.owner(topic_of(&command))?.to_owned();
        Some((shard, command))
    }

    fn publish(&mut self, topic: TopicName, now: u64) -> Command {
        self.published += 1;
        let (client, number) = (self.number, self.published);
        // The key of a message is the end of its name.
        let key = number.is_multiple_of(3).then(|| format!("{client}-{}", number % 4));
        let name = format!(
            "{client}-{number}{}",
            key.iter().map(|key| format!("/{key}")).collect::<String>()
        );
        let message = NewMessage { key, dedupe_id: Some(name.clone()), ..message(&name) };
        self.unanswered.insert((topic.clone(), name), (message.clone(), now));
        Command::Publish { shard: ShardId::new(0), topic, messages: vec![message] }
    }

    fn publish_again(&mut self, now: u64, random: &mut Random) -> Option<Command> {
        self.unanswered.retain(|_, (_, first_at)| *first_at + REPUBLISH_MAX > now);
        let position = random.index(self.unanswered.len().max(1));
        let ((topic, _), (message, _)) = self.unanswered.iter().nth(position)?;
        let (topic, messages) = (topic.clone(), vec![message.clone()]);
        Some(Command::Publish { shard: ShardId::new(0), topic, messages })
    }

    fn settle(&self, kind: u64, random: &mut Random) -> Option<Command> {
        let known = self.receipts.get(random.index(self.receipts.len().max(1)));
        let (topic, group, receipt) = known?.clone();
        let receipts = vec![receipt];
        Some(match kind {
            10..=12 => Command::Ack { topic, group, receipts },
            13 => Command::Nack { topic, group, receipts, delay: millis(random.below(500)) },
            14 => Command::Extend { topic, group, receipts, visibility: millis(VISIBILITY) },
            _ => Command::HandBack { topic, group, receipts },
        })
    }

    /// An answer has come. `newest` is the newest placement that it could learn of.
    pub(super) fn hear(&mut self, command: &Command, reply: Reply, newest: &Placement) {
        match (command, reply) {
            (Command::Publish { topic, messages, .. }, Reply::Published(ids)) => {
                for (message, id) in messages.iter().zip(ids) {
                    let name = message.dedupe_id.clone().unwrap_or_default();
                    self.unanswered.remove(&(topic.clone(), name));
                    self.answered.insert((topic.clone(), id));
                }
            }
            (Command::Receive { topic, group, .. }, Reply::Received { deliveries, .. }) => {
                let receipts = deliveries.iter().map(|delivery| delivery.receipt);
                self.receipts.extend(receipts.map(|it| (topic.clone(), group.clone(), it)));
                let surplus = self.receipts.len().saturating_sub(RECEIPTS_MAX);
                self.receipts.drain(..surplus);
            }
            (_, Reply::Refused(Refusal::Moved { .. }))
                if newest.epoch() > self.placement.epoch() =>
            {
                self.placement = newest.clone();
            }
            _ => {}
        }
    }
}

/// The topic of a client's command.
pub(super) fn topic_of(command: &Command) -> &TopicName {
    match command {
        Command::Publish { topic, .. }
        | Command::Receive { topic, .. }
        | Command::Ack { topic, .. }
        | Command::Nack { topic, .. }
        | Command::Extend { topic, .. }
        | Command::HandBack { topic, .. } => topic,
        other => panic!("no client asks for {other:?}"),
    }
}
