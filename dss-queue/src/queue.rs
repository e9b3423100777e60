//! The queue of one shard: all its topics, and the time.

mod moving;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{Command, Event, LeaseInfo, Reply, Settled, TopicSummary};
use crate::fence::Fence;
use crate::group::{Group, Order, Surroundings};
use crate::id::{MessageId, Receipt, ShardId};
use crate::limits::{
    DEAD_LETTERS_LISTED_MAX, PEEKED_MAX, RECEIVE_MESSAGES_MAX, STORED_BYTES_MAX,
    TIMERS_PER_COMMAND_MAX, TOPICS_MAX, check_delay, check_receipts, check_visibility,
};
use crate::message::{DeadLetter, NewMessage, Peek};
use crate::name::{ConsumerName, GroupName, TopicName};
use crate::placement::{Ownership, Standing};
use crate::refusal::Refusal;
use crate::settings::TopicSettings;
use crate::time::UnixMillis;
use crate::topic::{Ids, Step, Topic};
use moving::Move;

pub(crate) use moving::Export;

/// The state machine: topics with their messages, groups and timers.
///
/// It is a value. The same commands with the same times give the same replies and the same state,
/// wherever they are applied.
///
/// - *Getters*: [`now`](Self::now), [`next_deadline`](Self::next_deadline),
///   [`topics`](Self::topics), [`topic`](Self::topic), [`dead_letters`](Self::dead_letters),
///   [`leases`](Self::leases), [`availability`](Self::availability).
/// - *Of a move*: [`placements`](Self::placements), [`ownership`](Self::ownership),
///   [`leaving`](Self::leaving), [`sources`](Self::sources), [`export`](Self::export),
///   [`has_taken`](Self::has_taken), [`is_settled`](Self::is_settled).
/// - *Everything else* is [`apply`](Self::apply), and [`snapshot`](Self::snapshot) with
///   [`restore`](Self::restore).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Queue {
    now: UnixMillis,
    ids: Ids,
    topics: BTreeMap<TopicName, Topic>,
    /// `None` for a shard that serves all topics.
    standing: Option<Box<Standing>>,
    moving: Move,
    /// The deadline of each topic that has one. Derived.
    #[serde(skip)]
    deadlines: BTreeSet<(UnixMillis, TopicName)>,
    /// What all topics keep. Derived.
    #[serde(skip)]
    bytes: u64,
}

/// What a receive would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// There is no such topic.
    NoTopic,
    /// The topic has no such group: a receive creates it.
    NoGroup,
    /// There is something, or may be.
    Something,
    /// There is nothing until an [`Event`] says so.
    Nothing,
    /// It would be refused: too many are in flight.
    Crowded,
    /// It would be refused: another shard is to keep the topic, or it is on its way here.
    Moved,
}

impl Queue {
    /// A queue without topics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time of the newest command.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// When something ends next: a lease, a delay, a retention. A [`Command::Tick`] at that time
    /// or later makes it so; earlier ones are harmless. `None` means nothing ends by itself.
    #[must_use]
    pub fn next_deadline(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.keys()
    }

    /// A topic at a glance.
    #[must_use]
    pub fn topic(&self, topic: &TopicName) -> Option<TopicSummary> {
        self.topics.get(topic).map(Topic::summary)
    }

    /// The oldest [`DEAD_LETTERS_LISTED_MAX`] dead letters of a group, oldest first; `None` where
    /// there is no such group.
    #[must_use]
    pub fn dead_letters(&self, topic: &TopicName, group: &GroupName) -> Option<Vec<DeadLetter>> {
        let group = self.topics.get(topic)?.group(group)?;
        Some(group.dead_letters().take(DEAD_LETTERS_LISTED_MAX).collect())
    }

    /// Who has what of a group in flight, oldest message first; `None` where there is no such
    /// group.
    #[must_use]
    pub fn leases(&self, topic: &TopicName, group: &GroupName) -> Option<Vec<LeaseInfo>> {
        Some(self.topics.get(topic)?.group(group)?.leases().collect())
    }

    /// Looks at up to `max` (at most [`PEEKED_MAX`]) messages that a group has not settled, or,
    /// without a group, at all that are kept; those behind the message `after`, oldest first.
    /// Nothing is changed by it. `None` where there is no such topic or group.
    ///
    /// A page may hold fewer messages, even none, and name a next one: it takes
    /// [`PEEK_LOOKS_MAX`](crate::limits::PEEK_LOOKS_MAX) looks at most.
    #[must_use]
    pub fn peek(
        &self,
        topic: &TopicName,
        group: Option<&GroupName>,
        after: Option<MessageId>,
        max: usize,
    ) -> Option<Peek> {
        let topic = self.topics.get(topic)?;
        let group = match group {
            Some(group) => Some(topic.group(group)?),
            None => None,
        };
        Some(topic.peek(group, after, max.min(PEEKED_MAX)))
    }

    /// What a receive would come to. Takes no longer than a look-up.
    #[must_use]
    pub fn availability(&self, topic: &TopicName, group: &GroupName) -> Availability {
        if self.ownership(topic) != Ownership::Here {
            return Availability::Moved;
        }
        let Some(topic) = self.topics.get(topic) else { return Availability::NoTopic };
        match topic.group(group) {
            None => Availability::NoGroup,
            Some(group) if group.is_crowded() => Availability::Crowded,
            Some(group) if group.may_deliver(topic.log()) => Availability::Something,
            Some(_) => Availability::Nothing,
        }
    }

    /// Moves time on to `now`, unless it is there already, fires what is due, and performs the
    /// command.
    ///
    /// A lease is over from the millisecond on at which its visibility ends: an ack at that time
    /// is stale. At most [`TIMERS_PER_COMMAND_MAX`] things are fired before one command; what is
    /// left of them keeps [`next_deadline`](Self::next_deadline) in the past.
    pub fn apply(&mut self, now: UnixMillis, command: Command) -> (Reply, Vec<Event>) {
        let mut events = Vec::new();
        self.now = self.now.max(now);
        self.fire(&mut events);
        let reply = self.perform(command, &mut events).unwrap_or_else(Reply::Refused);
        (reply, events)
    }

    /// Checks what was decoded and fills what is derived.
    pub(crate) fn rebuild(&mut self) -> Result<(), &'static str> {
        if !self.ids.are_in_reach() {
            return Err("a number is out of reach");
        }
        for (name, topic) in &mut self.topics {
            topic.rebuild(&self.ids)?;
            self.bytes += topic.bytes();
            self.deadlines.extend(topic.deadline().map(|at| (at, name.clone())));
        }
        self.fence();
        Ok(())
    }

    fn fire(&mut self, events: &mut Vec<Event>) {
        let mut budget = TIMERS_PER_COMMAND_MAX;
        while budget > 0 {
            let Some((_, topic)) = self.deadlines.first().filter(|(at, _)| *at <= self.now) else {
                return;
            };
            let topic = topic.clone();
            let fired =
                self.with_topic(&topic, events, |topic, step| topic.fire(&mut budget, step));
            if fired.is_err() {
                return;
            }
        }
    }

    fn perform(&mut self, command: Command, events: &mut Vec<Event>) -> Result<Reply, Refusal> {
        if let Some(topic) = command.topic() {
            self.check_ownership(topic)?;
        }
        match command {
            Command::Tick => Ok(Reply::Done),
            Command::Configure { topic, settings } => self.configure(&topic, settings, events),
            Command::Publish { shard, topic, messages } => {
                self.publish(shard, &topic, messages, None, events)
            }
            Command::PublishFenced { shard, topic, messages, fence } => {
                self.publish(shard, &topic, messages, Some(&fence), events)
            }
            Command::Receive { topic, group, consumer, max, visibility } => {
                self.receive(&topic, &group, consumer, max, visibility, events)
            }
            Command::Ack { topic, group, receipts } => {
                self.settle(&topic, &group, receipts, events, Group::ack)
            }
            Command::Nack { topic, group, receipts, delay } => {
                check_delay(delay)?;
                self.settle(&topic, &group, receipts, events, |group, receipt, around| {
                    group.nack(receipt, delay, around)
                })
            }
            Command::HandBack { topic, group, receipts } => {
                self.settle(&topic, &group, receipts, events, Group::hand_back)
            }
            Command::Extend { topic, group, receipts, visibility } => {
                check_visibility(visibility)?;
                self.settle(&topic, &group, receipts, events, |group, receipt, around| {
                    group.extend(receipt, visibility, around)
                })
            }
            Command::Redrive { topic, group } => {
                let (redriven, more) = self.with_group(&topic, &group, events, Group::redrive)?;
                Ok(Reply::Redriven { redriven, more })
            }
            Command::Purge { topic } => {
                self.with_topic(&topic, events, |topic, step| topic.purge(step.ids.next_sequence))?;
                Ok(Reply::Done)
            }
            Command::PurgeGroup { topic, group } => {
                self.with_group_number(&topic, &group, events, Topic::purge_group)?;
                Ok(Reply::Done)
            }
            Command::DeleteGroup { topic, group } => {
                self.with_group_number(&topic, &group, events, Topic::delete_group)?;
                Ok(Reply::Done)
            }
            Command::Delete { topic } => self.delete(topic, events),
            Command::Place { shard, previous, current } => {
                self.place(shard, previous, current, events)
            }
            Command::Import { epoch, source, topic, offset, bytes, last } => {
                self.import(epoch, &source, topic, offset, &bytes, last)
            }
            Command::EndImports { epoch, source } => self.end_imports(epoch, &source),
            Command::Forget { epoch, topic } => self.forget(epoch, topic, events),
        }
    }

    fn configure(
        &mut self,
        topic: &TopicName,
        settings: TopicSettings,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        settings.check()?;
        self.create(topic)?;
        self.with_topic(topic, events, |topic, step| {
            topic.configure(settings);
            topic.fire(&mut TIMERS_PER_COMMAND_MAX.clone(), step);
        })?;
        Ok(Reply::Done)
    }

    fn publish(
        &mut self,
        shard: ShardId,
        topic: &TopicName,
        messages: Vec<NewMessage>,
        fence: Option<&Fence>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        NewMessage::check_batch(&messages)?;
        fence.map_or(Ok(()), Fence::check)?;
        let weight: u64 = messages.iter().map(NewMessage::weight).sum();
        if self.bytes.saturating_add(weight) > STORED_BYTES_MAX {
            return Err(Refusal::Full);
        }
        let retention = self.topics.get(topic).and_then(|topic| topic.settings().retention);
        if let Some(retention) = retention
            && messages.iter().any(|message| message.delay >= retention)
        {
            return Err(Refusal::invalid("delay", "must be shorter than the topic's retention"));
        }
        if let Some(topic) = self.topics.get(topic) {
            topic.check_room(self.now, &messages)?;
        }
        self.create(topic)?;
        let ids = self.with_topic(topic, events, |topic, step| {
            fence.map_or(Ok(()), |fence| topic.pass_fence(step.now, fence))?;
            Ok(topic.publish(shard, messages, step))
        })??;
        Ok(Reply::Published(ids))
    }

    fn receive(
        &mut self,
        topic: &TopicName,
        group: &GroupName,
        consumer: ConsumerName,
        max: u32,
        visibility: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, Refusal> {
        let max = max.try_into().unwrap_or(usize::MAX);
        check_receive(max, visibility)?;
        self.with_topic(topic, events, |topic, step| {
            let number = topic.group_or_new(group)?;
            let visibility = visibility.unwrap_or(topic.settings().visibility);
            let order = Order { consumer, max, visibility };
            topic.with_group(number, step, |group, around| {
                if group.is_crowded() {
                    return Err(Refusal::TooManyInFlight);
                }
                let deliveries = group.receive(&order, around);
                let more = !group.is_crowded() && group.may_deliver(around.log);
                Ok(Reply::Received { deliveries, more })
            })
        })?
    }

    fn settle(
        &mut self,
        topic: &TopicName,
        group: &GroupName,
        receipts: Vec<Receipt>,
        events: &mut Vec<Event>,
        mut settle: impl FnMut(&mut Group, &Receipt, &mut Surroundings<'_, '_>) -> bool,
    ) -> Result<Reply, Refusal> {
        check_receipts(receipts.len())?;
        self.with_group(topic, group, events, |group, around| {
            let mut settled = Settled::default();
            for receipt in receipts {
                if settle(group, &receipt, around) {
                    settled.done += 1;
                } else {
                    settled.stale.push(receipt);
                }
            }
            Reply::Settled(settled)
        })
    }

    fn delete(&mut self, topic: TopicName, events: &mut Vec<Event>) -> Result<Reply, Refusal> {
        if !self.remove(&topic) {
            return Err(Refusal::NotFound);
        }
        events.push(Event::Deleted { topic });
        Ok(Reply::Done)
    }

    /// Whether there was such a topic.
    fn remove(&mut self, topic: &TopicName) -> bool {
        let Some(removed) = self.topics.remove(topic) else { return false };
        self.bytes -= removed.bytes();
        if let Some(at) = removed.deadline() {
            self.deadlines.remove(&(at, topic.clone()));
        }
        true
    }

    fn create(&mut self, topic: &TopicName) -> Result<(), Refusal> {
        if !self.topics.contains_key(topic) {
            if self.topics.len() >= TOPICS_MAX {
                return Err(Refusal::TooManyTopics);
            }
            self.topics.insert(topic.clone(), Topic::default());
        }
        Ok(())
    }

    /// Lets `act` change a topic, and keeps what is derived from it.
    fn with_topic<R>(
        &mut self,
        name: &TopicName,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut Topic, &mut Step<'_>) -> R,
    ) -> Result<R, Refusal> {
        let topic = self.topics.get_mut(name).ok_or(Refusal::NotFound)?;
        let (bytes_before, deadline_before) = (topic.bytes(), topic.deadline());
        let mut step = Step { now: self.now, topic: name, ids: &mut self.ids, events };
        let result = act(topic, &mut step);
        self.bytes = self.bytes - bytes_before + topic.bytes();
        let deadline = topic.deadline();
        if deadline != deadline_before {
            if let Some(at) = deadline_before {
                self.deadlines.remove(&(at, name.clone()));
            }
            self.deadlines.extend(deadline.map(|at| (at, name.clone())));
        }
        Ok(result)
    }

    fn with_group<R>(
        &mut self,
        topic: &TopicName,
        group: &GroupName,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut Group, &mut Surroundings<'_, '_>) -> R,
    ) -> Result<R, Refusal> {
        self.with_group_number(topic, group, events, |topic, number, step| {
            topic.with_group(number, step, act)
        })
    }

    fn with_group_number<R>(
        &mut self,
        topic: &TopicName,
        group: &GroupName,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut Topic, usize, &mut Step<'_>) -> R,
    ) -> Result<R, Refusal> {
        self.with_topic(topic, events, |topic, step| {
            let number = topic.group_number(group).ok_or(Refusal::NotFound)?;
            Ok(act(topic, number, step))
        })?
    }
}

pub(crate) fn check_receive(max: usize, visibility: Option<Duration>) -> Result<(), Refusal> {
    if max == 0 || max > RECEIVE_MESSAGES_MAX {
        return Err(Refusal::invalid("max", "must be 1 to 1000"));
    }
    visibility.map_or(Ok(()), check_visibility)
}
