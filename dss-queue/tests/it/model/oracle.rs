//! The naive model: for every group the state of every message.

use std::collections::BTreeMap;

use std::time::Duration;

use dss_queue::limits::MESSAGE_OVERHEAD_BYTES;
use dss_queue::{Backoff, DeadReason, GroupInfo, MessageId, Receipt, UnixMillis};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    Ready,
    Leased {
        receipt: Receipt,
        until: u64,
    },
    Delayed {
        until: u64,
    },
    Dead {
        attempts: u32,
        at: u64,
        reason: DeadReason,
    },
    /// Acknowledged, dropped, or older than the group.
    Gone,
}

#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) attempts: u32,
    /// It counts as settled in the log: acknowledged, or dead at least once.
    pub(super) settled: bool,
    /// It came back from the dead letters, and dropping it from the log does not touch it.
    pub(super) redriven: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) id: MessageId,
    pub(super) key: Option<u8>,
    pub(super) produced: u64,
    pub(super) hidden_until: Option<u64>,
    /// In the log.
    pub(super) kept: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) now: u64,
    pub(super) exists: bool,
    pub(super) max_attempts: u32,
    pub(super) retention: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) refuses: bool,
    pub(super) backoff: Option<Backoff>,
    pub(super) messages: Vec<Kept>,
    pub(super) groups: BTreeMap<usize, Vec<Seen>>,
    pub(super) dedupe: BTreeMap<u8, (u64, MessageId)>,
}

impl Seen {
    pub(super) fn of(message: &Kept) -> Self {
        let state = if message.kept { State::Ready } else { State::Gone };
        Self { state, attempts: 0, settled: false, redriven: false }
    }

    pub(super) fn is_unsettled(&self) -> bool {
        matches!(self.state, State::Ready | State::Leased { .. } | State::Delayed { .. })
    }

    pub(super) fn die(&mut self, at: u64, reason: DeadReason) {
        self.state = State::Dead { attempts: self.attempts, at, reason };
        self.attempts = 0;
        self.settled = true;
        self.redriven = false;
    }

    /// A delivery has failed.
    pub(super) fn fail(&mut self, message: &Kept, rules: Rules, delay: u64, reason: DeadReason) {
        let pause = rules
            .backoff
            .map_or(Duration::ZERO, |backoff| backoff.pause(message.id.sequence(), self.attempts));
        let until = UnixMillis::new(rules.now) + pause.max(Duration::from_millis(delay));
        if !message.kept && !self.redriven {
            self.state = State::Gone;
        } else if self.attempts >= rules.max_attempts {
            self.die(rules.now, reason);
        } else if until.get() == rules.now {
            self.state = State::Ready;
        } else {
            self.state = State::Delayed { until: until.get() };
        }
    }
}

/// What a failure depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) now: u64,
    max_attempts: u32,
    backoff: Option<Backoff>,
}

impl Model {
    pub(super) fn create(&mut self) {
        if !self.exists {
            *self = Self { now: self.now, exists: true, max_attempts: 5, ..Self::default() };
        }
    }

    pub(super) fn rules(&self) -> Rules {
        let Self { now, max_attempts, backoff, .. } = *self;
        Rules { now, max_attempts, backoff }
    }

    /// What the clock brings about; timers first, then what is too old or too many.
    pub(super) fn fire(&mut self) {
        let (now, rules) = (self.now, self.rules());
        for message in &mut self.messages {
            message.hidden_until = message.hidden_until.filter(|until| *until > now);
        }
        for seen in self.groups.values_mut() {
            for (message, seen) in self.messages.iter().zip(seen) {
                match seen.state {
                    State::Leased { until, .. } if until <= now => {
                        seen.fail(message, rules, 0, DeadReason::Expired);
                    }
                    State::Delayed { until } if until <= now => seen.state = State::Ready,
                    _ => {}
                }
            }
        }
        self.forget();
        while let Some(oldest) = self.messages.iter().position(|message| message.kept) {
            let produced = self.messages[oldest].produced;
            let old = self.retention.is_some_and(|retention| produced + retention <= now);
            if !old && (self.refuses || self.has_room(self.length(), self.bytes())) {
                return;
            }
            self.drop(oldest);
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.messages.iter().filter(|message| message.kept).count() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.messages.iter().filter(|message| message.kept).map(|message| weight(message.key)).sum()
    }

    pub(super) fn has_room(&self, length: u64, bytes: u64) -> bool {
        self.max_length.is_none_or(|max| length <= max)
            && self.max_bytes.is_none_or(|max| bytes <= max)
    }

    /// What every group has settled is kept no longer.
    pub(super) fn forget(&mut self) {
        for (at, message) in self.messages.iter_mut().enumerate() {
            let everybody = self.groups.values().all(|seen| seen[at].settled);
            message.kept &= self.groups.is_empty() || !everybody;
        }
    }

    pub(super) fn drop(&mut self, at: usize) {
        self.messages[at].kept = false;
        for seen in self.groups.values_mut() {
            let seen = &mut seen[at];
            if !seen.redriven && matches!(seen.state, State::Ready | State::Delayed { .. }) {
                seen.state = State::Gone;
            }
        }
    }

    pub(super) fn group(&mut self, number: usize) -> &mut Vec<Seen> {
        let messages = &self.messages;
        self.groups.entry(number).or_insert_with(|| messages.iter().map(Seen::of).collect())
    }

    /// Whether the group may be given this message, with the state as it is.
    pub(super) fn may_come(&self, seen: &[Seen], at: usize) -> bool {
        let Kept { key, hidden_until, .. } = self.messages[at];
        let same = |other: usize| other != at && key.is_some() && self.messages[other].key == key;
        // What was delivered and is not settled comes first, while it is delayed too.
        let under_way = |other: usize| {
            matches!(seen[other].state, State::Leased { .. } | State::Delayed { .. })
        };
        // A redriven message has lost its place: it neither waits for older ones nor holds them up.
        let older = |other: usize| {
            other < at && seen[other].is_unsettled() && !seen[other].redriven && !seen[at].redriven
        };
        seen[at].state == State::Ready
            && hidden_until.is_none()
            && !(0..seen.len()).any(|other| same(other) && (under_way(other) || older(other)))
    }

    pub(super) fn info(&self, seen: &[Seen]) -> GroupInfo {
        let mut info = GroupInfo::default();
        for (message, seen) in self.messages.iter().zip(seen) {
            match seen.state {
                State::Ready if message.hidden_until.is_some() => info.delayed += 1,
                State::Ready => info.ready += 1,
                State::Leased { .. } => info.in_flight += 1,
                State::Delayed { .. } => info.delayed += 1,
                State::Dead { .. } => info.dead += 1,
                State::Gone => {}
            }
        }
        info
    }
}

/// Of a message with the payload `text`.
pub(super) fn weight(key: Option<u8>) -> u64 {
    MESSAGE_OVERHEAD_BYTES + 4 + u64::from(key.is_some())
}
