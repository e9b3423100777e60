//! One consumer group of a topic: a cursor plus exceptions.
//!
//! Messages from the cursor on are untouched. Of those before it, the group is done with all but
//!
//! - the exceptions: messages that are leased, or came back;
//! - messages whose publish delay is not over;
//! - messages parked behind an earlier one of their key, see [`order`].
//!
//! ```text
//!              receive                 ack
//!   untouched ────────► leased ─────────────────────► done
//!                      ▲  │ │ lease over, nack,
//!              receive │  │ │ no attempt left
//!                      │  │ └───────────────────────► dead ──┐
//!   lease over,        │  ▼ nack with delay                  │ redrive
//!   nack, hand-back   ready ◄──── delayed                    │
//!                      ▲                                     │
//!                      └─────────────────────────────────────┘
//! ```

mod order;
mod peek;
mod purge;
mod receive;
mod restore;
mod settle;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::command::{Event, GroupInfo, LeaseInfo};
use crate::id::{MessageId, Receipt};
use crate::message::{DeadLetter, DeadReason, Message};
use crate::name::{ConsumerName, GroupName, Key};
use crate::settings::TopicSettings;
use crate::time::UnixMillis;
use crate::topic::{Log, Removed, Step, Timer, Timers};

use order::Busy;

pub(crate) use receive::Order;

/// The state of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    name: GroupName,
    /// Its place among the topic's groups. Derived.
    #[serde(skip)]
    number: usize,
    /// Every message from here on is untouched.
    cursor: u64,
    /// Every message before this one is done with, delayed ones too: the group was purged. Not
    /// after the cursor.
    floor: u64,
    /// By the sequence of the message; every one is before the cursor.
    exceptions: BTreeMap<u64, Exception>,
    /// The keys that have an unsettled message before the cursor.
    busy: BTreeMap<Key, Busy>,
    /// Oldest death first.
    dead: VecDeque<Dead>,
    /// The exceptions that the next receive takes, before it moves the cursor. Derived.
    #[serde(skip)]
    returned: BTreeSet<u64>,
    /// How many unsettled messages are in each state. Derived.
    #[serde(skip)]
    counts: Counts,
}

/// Every message of the topic that the group has not settled is counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    ready: u64,
    in_flight: u64,
    delayed: u64,
}

/// A message before the cursor that is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Exception {
    /// How often it was delivered, the current lease included.
    attempts: u32,
    state: State,
    /// Its key: while it is leased, the message itself may be dropped from the log.
    key: Option<Key>,
    /// The message, where it is not the log's: one that was redriven. The log counts this group
    /// as done with it.
    own: Option<Box<Message>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Ready,
    Leased(Lease),
    Delayed { until: UnixMillis },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    message: MessageId,
    nonce: u64,
    until: UnixMillis,
    consumer: ConsumerName,
}

/// A message that the group gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Dead {
    message: Message,
    attempts: u32,
    died_at: UnixMillis,
    reason: DeadReason,
    consumer: Option<ConsumerName>,
}

/// What a group's transitions reach beyond the group.
pub(crate) struct Surroundings<'a, 'b> {
    pub(crate) settings: &'a TopicSettings,
    pub(crate) log: &'a mut Log,
    pub(crate) timers: &'a mut Timers,
    /// Bytes held outside the log: dead letters and messages redriven from them.
    pub(crate) held: &'a mut u64,
    /// How many groups the topic has.
    pub(crate) groups: usize,
    pub(crate) step: &'a mut Step<'b>,
}

impl Group {
    /// A group that has seen nothing of `log`.
    pub(crate) fn new(name: GroupName, number: usize, log: &Log) -> Self {
        let delayed = log.delayed();
        Self {
            name,
            number,
            cursor: 0,
            floor: 0,
            exceptions: BTreeMap::new(),
            busy: BTreeMap::new(),
            dead: VecDeque::new(),
            returned: BTreeSet::new(),
            counts: Counts { ready: log.len() - delayed, in_flight: 0, delayed },
        }
    }

    pub(crate) fn name(&self) -> &GroupName {
        &self.name
    }

    pub(crate) fn info(&self) -> GroupInfo {
        let Counts { ready, in_flight, delayed } = self.counts;
        GroupInfo { ready, in_flight, delayed, dead: self.dead.len() as u64 }
    }

    pub(crate) fn leases(&self) -> impl Iterator<Item = LeaseInfo> {
        self.exceptions.values().filter_map(|exception| match &exception.state {
            State::Leased(lease) => Some(LeaseInfo {
                receipt: Receipt::new(lease.message, exception.attempts, lease.nonce),
                consumer: lease.consumer.clone(),
                until: lease.until,
            }),
            State::Ready | State::Delayed { .. } => None,
        })
    }

    pub(crate) fn dead_letters(&self) -> impl Iterator<Item = DeadLetter> {
        self.dead.iter().map(|dead| DeadLetter {
            id: dead.message.id,
            payload: dead.message.payload.clone(),
            key: dead.message.key.clone().map(String::from),
            headers: dead.message.headers.clone(),
            attempts: dead.attempts,
            produced_at: dead.message.produced_at,
            died_at: dead.died_at,
            reason: dead.reason,
            consumer: dead.consumer.clone(),
        })
    }

    /// Messages were published.
    pub(crate) fn handle_published(&mut self, ready: u64, delayed: u64) {
        self.counts.ready += ready;
        self.counts.delayed += delayed;
    }

    /// The publish delay of a message is over.
    pub(crate) fn handle_revealed(
        &mut self,
        sequence: u64,
        key: Option<&Key>,
        around: &mut Surroundings<'_, '_>,
    ) {
        if sequence < self.floor {
            return;
        }
        self.counts.delayed -= 1;
        self.counts.ready += 1;
        if sequence < self.cursor {
            let head =
                key.and_then(|key| self.busy.get(key)).is_none_or(|busy| busy.head == sequence);
            if !head {
                return;
            }
            self.exceptions.insert(sequence, Exception::untouched(key.cloned()));
            self.returned.insert(sequence);
        }
        self.announce(1, around.step);
    }

    /// The timer of an exception has fired.
    pub(crate) fn handle_timer(&mut self, sequence: u64, around: &mut Surroundings<'_, '_>) {
        match self.exceptions.get(&sequence).map(|exception| &exception.state) {
            Some(State::Leased(_)) => {
                self.end_lease(sequence, around);
                self.fail(sequence, std::time::Duration::ZERO, DeadReason::Expired, around);
            }
            Some(State::Delayed { .. }) => {
                self.counts.delayed -= 1;
                self.make_ready(sequence, around.step);
            }
            Some(State::Ready) | None => {}
        }
    }

    /// A message was dropped from the log. A lease on it stays: its holder may acknowledge it, and
    /// it is gone if it comes back.
    pub(crate) fn handle_dropped(
        &mut self,
        sequence: u64,
        removed: &Removed,
        around: &mut Surroundings<'_, '_>,
    ) {
        let key = removed.key.as_ref();
        let delayed = removed.delayed_until.is_some();
        if sequence < self.floor {
            // Purged: counted nowhere.
        } else if sequence >= self.cursor {
            self.uncount(delayed);
        } else if let Some(exception) = self.exceptions.get(&sequence) {
            if exception.own.is_some() {
                return;
            }
            match exception.state {
                State::Leased(_) => return,
                State::Ready => self.counts.ready -= 1,
                State::Delayed { until } => {
                    self.counts.delayed -= 1;
                    around.timers.remove(&(until, self.timer(sequence)));
                }
            }
            self.exceptions.remove(&sequence);
            self.returned.remove(&sequence);
            self.release_key(sequence, key, around);
        } else if self.is_parked(sequence, key) {
            self.uncount(delayed);
        } else if delayed {
            self.counts.delayed -= 1;
            self.release_key(sequence, key, around);
        }
    }

    /// An untouched message is counted no longer.
    fn uncount(&mut self, delayed: bool) {
        if delayed {
            self.counts.delayed -= 1;
        } else {
            self.counts.ready -= 1;
        }
    }

    fn timer(&self, sequence: u64) -> Timer {
        Timer::Exception { group: self.number, sequence }
    }

    /// An exception, counted nowhere, waits to be delivered again.
    fn make_ready(&mut self, sequence: u64, step: &mut Step<'_>) {
        if let Some(exception) = self.exceptions.get_mut(&sequence) {
            exception.state = State::Ready;
            self.counts.ready += 1;
            self.returned.insert(sequence);
            self.announce(1, step);
        }
    }

    fn announce(&self, count: u64, step: &mut Step<'_>) {
        step.events.push(Event::Available {
            topic: step.topic.clone(),
            group: self.name.clone(),
            count,
        });
    }
}

impl Exception {
    /// A message that was never delivered.
    fn untouched(key: Option<Key>) -> Self {
        Self { attempts: 0, state: State::Ready, key, own: None }
    }
}
