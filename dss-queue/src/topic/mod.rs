//! One topic: its messages, its timers and its groups.

mod dedupe;
mod log;
mod peek;
mod slots;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::command::{Event, TopicSummary};
use crate::fence::{Fence, Fences};
use crate::group::{Group, Surroundings};
use crate::id::{MessageId, ShardId};
use crate::limits::{GROUPS_MAX, TIMERS_PER_COMMAND_MAX};
use crate::message::{Message, NewMessage};
use crate::name::{GroupName, Key, TopicName};
use crate::refusal::Refusal;
use crate::settings::{Overflow, TopicSettings};
use crate::time::UnixMillis;
use dedupe::Dedupe;

pub(crate) use log::Log;
pub(crate) use slots::{Removed, Stored};

/// What ends when.
pub(crate) type Timers = BTreeSet<(UnixMillis, Timer)>;

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The publish delay of a message ends.
    Reveal { sequence: u64 },
    /// A lease or a nack delay of a group ends.
    Exception { group: usize, sequence: u64 },
}

/// Numbers that a queue never gives twice, in whatever topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Ids {
    pub(crate) next_sequence: u64,
    pub(crate) next_nonce: u64,
}

impl Ids {
    pub(crate) fn sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// Gives nothing from here on that `others` may have given.
    pub(crate) fn pass(&mut self, others: &Self) {
        self.next_sequence = self.next_sequence.max(others.next_sequence);
        self.next_nonce = self.next_nonce.max(others.next_nonce);
    }

    /// Whether both are far from overflowing, and out of any queue's reach.
    pub(crate) fn are_in_reach(&self) -> bool {
        const NUMBERS_MAX: u64 = 1 << 62;
        self.next_sequence <= NUMBERS_MAX && self.next_nonce <= NUMBERS_MAX
    }

    pub(crate) fn nonce(&mut self) -> u64 {
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        nonce
    }
}

/// What one command brings along.
pub(crate) struct Step<'a> {
    pub(crate) now: UnixMillis,
    pub(crate) topic: &'a TopicName,
    pub(crate) ids: &'a mut Ids,
    pub(crate) events: &'a mut Vec<Event>,
}

/// The state of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Topic {
    settings: TopicSettings,
    log: Log,
    dedupe: Dedupe,
    fences: Fences,
    groups: Vec<Group>,
    /// The place of each group in `groups`. Derived.
    #[serde(skip)]
    numbers: BTreeMap<GroupName, usize>,
    /// The delays of the log and the exceptions of the groups. Derived.
    #[serde(skip)]
    timers: Timers,
    /// Bytes that groups hold outside the log. Derived.
    #[serde(skip)]
    held: u64,
}

impl Topic {
    pub(crate) fn settings(&self) -> &TopicSettings {
        &self.settings
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn summary(&self) -> TopicSummary {
        TopicSummary {
            settings: self.settings.clone(),
            length: self.log.len(),
            groups: self.groups.iter().map(|group| (group.name().clone(), group.info())).collect(),
        }
    }

    /// What it adds to what the shard keeps.
    pub(crate) fn bytes(&self) -> u64 {
        self.log.bytes() + self.dedupe.bytes() + self.held
    }

    /// When [`fire`](Self::fire) has something to do.
    pub(crate) fn deadline(&self) -> Option<UnixMillis> {
        if self.is_too_large() {
            return Some(UnixMillis::ZERO);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.retained_until(), self.dedupe.deadline()].into_iter().flatten().min()
    }

    /// Does what is due, as long as the budget lasts; each thing takes one of it.
    pub(crate) fn fire(&mut self, budget: &mut usize, step: &mut Step<'_>) {
        let due = |at: Option<UnixMillis>| at.is_some_and(|at| at <= step.now);
        let dedupe_is_due = due(self.dedupe.deadline());
        while *budget > 0 {
            let timer = self.timers.first().filter(|(at, _)| *at <= step.now).copied();
            if let Some(timer) = timer {
                self.timers.remove(&timer);
                self.fire_timer(timer.1, step);
            } else if self.is_too_large()
                || self.retained_until().is_some_and(|until| until <= step.now)
            {
                self.drop_oldest(step);
            } else if !(dedupe_is_due && self.dedupe.forget_one(step.now)) {
                return;
            }
            *budget -= 1;
        }
    }

    pub(crate) fn configure(&mut self, settings: TopicSettings) {
        self.settings = settings;
    }

    /// Whether nobody has published under a newer token; from then on nobody may under an older.
    pub(crate) fn pass_fence(&mut self, now: UnixMillis, fence: &Fence) -> Result<(), Refusal> {
        self.fences.pass(now, fence)
    }

    /// Stores messages that were checked.
    pub(crate) fn publish(
        &mut self,
        shard: ShardId,
        messages: Vec<NewMessage>,
        step: &mut Step<'_>,
    ) -> Vec<MessageId> {
        let delayed_before = self.log.delayed();
        let length_before = self.log.len();
        let ids = messages.into_iter().map(|message| self.store(shard, message, step)).collect();
        let delayed = self.log.delayed() - delayed_before;
        let ready = self.log.len() - length_before - delayed;
        for group in &mut self.groups {
            group.handle_published(ready, delayed);
        }
        if ready > 0 {
            step.events.push(Event::Published { topic: step.topic.clone(), count: ready });
        }
        // What a lowered limit left over is dropped bit by bit, by `fire`.
        for _ in 0..(ready + delayed).max(TIMERS_PER_COMMAND_MAX as u64) {
            if !self.is_too_large() {
                break;
            }
            self.drop_oldest(step);
        }
        ids
    }

    pub(crate) fn purge(&mut self, next_sequence: u64) {
        self.log.clear();
        self.timers.clear();
        self.held = 0;
        for group in &mut self.groups {
            group.purge(next_sequence);
        }
    }

    /// The group is done with everything.
    pub(crate) fn purge_group(&mut self, number: usize, step: &mut Step<'_>) {
        let next_sequence = step.ids.next_sequence;
        self.with_group(number, step, |group, around| group.settle_all(next_sequence, around));
    }

    /// There is no such group any more.
    pub(crate) fn delete_group(&mut self, number: usize, step: &mut Step<'_>) {
        let settled: Vec<_> = {
            let group = &self.groups[number];
            self.log.iter().filter(|it| group.has_settled(*it)).map(Stored::sequence).collect()
        };
        for sequence in settled {
            self.log.unsettle(sequence);
        }
        self.with_group(number, step, |group, around| group.withdraw(around));
        let removed = self.groups.swap_remove(number);
        self.numbers.remove(removed.name());
        if let Some(moved) = self.groups.get_mut(number) {
            self.numbers.insert(moved.name().clone(), number);
            moved.renumber(number, &mut self.timers);
        }
        if !self.groups.is_empty() {
            for sequence in self.log.settled_by(self.groups.len()) {
                if let Some(removed) = self.log.remove(sequence) {
                    forget_delay(&removed, &mut self.timers);
                }
            }
        }
        let (topic, group) = (step.topic.clone(), removed.name().clone());
        step.events.push(Event::GroupDeleted { topic, group });
    }

    /// The group of this name, new where there is none.
    pub(crate) fn group_or_new(&mut self, name: &GroupName) -> Result<usize, Refusal> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(Refusal::TooManyGroups);
        }
        let number = self.groups.len();
        self.groups.push(Group::new(name.clone(), number, &self.log));
        self.numbers.insert(name.clone(), number);
        Ok(number)
    }

    pub(crate) fn group_number(&self, name: &GroupName) -> Option<usize> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn group(&self, name: &GroupName) -> Option<&Group> {
        self.numbers.get(name).map(|number| &self.groups[*number])
    }

    /// Lets `act` change a group and what is around it.
    pub(crate) fn with_group<R>(
        &mut self,
        number: usize,
        step: &mut Step<'_>,
        act: impl FnOnce(&mut Group, &mut Surroundings<'_, '_>) -> R,
    ) -> R {
        let groups = self.groups.len();
        let mut around = Surroundings {
            settings: &self.settings,
            log: &mut self.log,
            timers: &mut self.timers,
            held: &mut self.held,
            groups,
            step,
        };
        act(&mut self.groups[number], &mut around)
    }

    /// Checks what was decoded and fills what is derived.
    pub(crate) fn rebuild(&mut self, ids: &Ids) -> Result<(), &'static str> {
        self.settings.check().map_err(|_| "settings are out of range")?;
        if self.groups.len() > GROUPS_MAX {
            return Err("there are too many groups");
        }
        if !self.fences.are_few() {
            return Err("there are too many fences");
        }
        for stored in self.log.iter() {
            let sequence = stored.sequence();
            if sequence >= ids.next_sequence {
                return Err("a message is out of place");
            }
            if let Some(until) = stored.delayed_until() {
                self.timers.insert((until, Timer::Reveal { sequence }));
            }
        }
        self.dedupe.rebuild()?;
        for (number, group) in self.groups.iter().enumerate() {
            group.check(&self.log, ids)?;
            if self.numbers.insert(group.name().clone(), number).is_some() {
                return Err("a group is there twice");
            }
        }
        let groups = &self.groups;
        let settled =
            |stored: Stored<'_>| groups.iter().filter(|group| group.has_settled(stored)).count();
        let forgotten = |stored| settled(stored) == groups.len();
        if !groups.is_empty() && self.log.iter().any(forgotten) {
            return Err("a message is kept for nobody");
        }
        self.log.set_settled(settled);
        for (number, group) in self.groups.iter_mut().enumerate() {
            self.held += group.rebuild(number, &self.log, &mut self.timers);
        }
        Ok(())
    }

    fn store(&mut self, shard: ShardId, new: NewMessage, step: &mut Step<'_>) -> MessageId {
        let now = step.now;
        if let Some(known) = new.dedupe_id.as_ref().and_then(|id| self.dedupe.find(now, id)) {
            return known;
        }
        let sequence = step.ids.sequence();
        let id = MessageId::new(shard, sequence);
        let delayed_until = (!new.delay.is_zero()).then(|| now + new.delay);
        if let Some(until) = delayed_until {
            self.timers.insert((until, Timer::Reveal { sequence }));
        }
        let message = Message {
            id,
            payload: new.payload,
            key: new.key.map(Key::from),
            headers: new.headers,
            produced_at: now,
        };
        self.log.push(message, delayed_until);
        if let Some(dedupe_id) = new.dedupe_id {
            self.dedupe.remember(now, dedupe_id, id);
        }
        id
    }

    fn fire_timer(&mut self, timer: Timer, step: &mut Step<'_>) {
        match timer {
            Timer::Exception { group, sequence } => {
                self.with_group(group, step, |group, around| group.handle_timer(sequence, around));
            }
            Timer::Reveal { sequence } => {
                let key = self.log.reveal(sequence).and_then(|stored| stored.key().cloned());
                for number in 0..self.groups.len() {
                    self.with_group(number, step, |group, around| {
                        group.handle_revealed(sequence, key.as_ref(), around);
                    });
                }
            }
        }
    }

    fn is_too_large(&self) -> bool {
        self.settings.overflow == Overflow::DropOldest
            && !self.has_room(self.log.len(), self.log.bytes())
    }

    fn has_room(&self, length: u64, bytes: u64) -> bool {
        self.settings.max_length.is_none_or(|max_length| length <= max_length)
            && self.settings.max_bytes.is_none_or(|max_bytes| bytes <= max_bytes)
    }

    /// Whether a publish may store these.
    pub(crate) fn check_room(
        &self,
        now: UnixMillis,
        messages: &[NewMessage],
    ) -> Result<(), Refusal> {
        let is_new = |message: &&NewMessage| {
            message.dedupe_id.as_ref().is_none_or(|id| self.dedupe.find(now, id).is_none())
        };
        let news = || messages.iter().filter(is_new);
        let (length, bytes): (u64, u64) =
            (news().count() as u64, news().map(NewMessage::text_weight).sum());
        let refuses = self.settings.overflow == Overflow::Refuse;
        let fits = match refuses {
            true => self.has_room(self.log.len() + length, self.log.bytes() + bytes),
            // What does not fit into an empty topic would go as it comes.
            false => self.settings.max_bytes.is_none_or(|max_bytes| bytes <= max_bytes),
        };
        if fits || length == 0 { Ok(()) } else { Err(Refusal::TopicFull) }
    }

    /// When the oldest message has been kept long enough.
    fn retained_until(&self) -> Option<UnixMillis> {
        let retention = self.settings.retention?;
        self.log.first().map(|oldest| oldest.produced_at() + retention)
    }

    fn drop_oldest(&mut self, step: &mut Step<'_>) {
        let Some(sequence) = self.log.first().map(Stored::sequence) else { return };
        let Some(removed) = self.log.remove(sequence) else { return };
        forget_delay(&removed, &mut self.timers);
        for number in 0..self.groups.len() {
            self.with_group(number, step, |group, around| {
                group.handle_dropped(sequence, &removed, around);
            });
        }
        let (topic, message) = (step.topic.clone(), removed.id);
        step.events.push(Event::Dropped { topic, message });
    }
}

/// A message that waited for its delay is gone.
pub(crate) fn forget_delay(removed: &Removed, timers: &mut Timers) {
    if let Some(until) = removed.delayed_until {
        timers.remove(&(until, Timer::Reveal { sequence: removed.id.sequence() }));
    }
}
