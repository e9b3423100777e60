//! The queue against a naive model of one topic: a list of messages, and for every group the state
//! of every one of them.
//!
//! The model does not choose what a receive delivers, but judges it: a message may come if it is
//! ready and nothing older of its key is unsettled, and a receive may come back short only if
//! nothing more could come. All counters, the length, stale receipts and dead letters are exact.

mod oracle;

use std::collections::BTreeMap;

use dss_queue::{
    Availability, Backoff, Command, DeadReason, Delivery, GroupName, MessageState, NewMessage,
    Overflow, Queue, Receipt, Reply, ShardId, TopicSettings, UnixMillis,
};
use proptest::prelude::*;
use proptest::sample::Index;

use oracle::{Kept, Model, Rules, Seen, State, weight};

use crate::bench::{consumer, group, millis, topic};

const GROUPS: [&str; 3] = ["g0", "g1", "g2"];
const WINDOW: u64 = 300_000;

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Publish(Vec<New>),
    Receive { group: usize, max: u32, visibility: u64 },
    Settle(Settle, How),
    Redrive(usize),
    Configure(TopicSettings),
    Purge,
    PurgeGroup(usize),
    DeleteGroup(usize),
    Delete,
    Restart,
}

#[derive(Debug, Clone)]
struct New {
    key: Option<u8>,
    delay: u64,
    dedupe: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Ack,
    Nack(u64),
    Extend(u64),
    HandBack,
}

/// Receipts chosen among all that were ever given, shown to a group that may be another.
#[derive(Debug, Clone)]
struct Settle {
    group: usize,
    picks: Vec<Index>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let new = (prop::option::of(0u8..3), prop_oneof![4 => Just(0u64), 1 => 1u64..50])
        .prop_flat_map(|(key, delay)| {
            prop::option::weighted(0.2, 0u8..3).prop_map(move |dedupe| New { key, delay, dedupe })
        });
    let settle = (0..GROUPS.len(), prop::collection::vec(any::<Index>(), 1..5))
        .prop_map(|(group, picks)| Settle { group, picks });
    let how = prop_oneof![
        8 => Just(How::Ack),
        6 => prop_oneof![Just(0u64), 1u64..40].prop_map(How::Nack),
        3 => (1u64..40).prop_map(How::Extend),
        3 => Just(How::HandBack),
    ];
    let step = prop_oneof![
        6 => prop_oneof![5 => 0u64..30, 1 => Just(WINDOW), 1 => Just(WINDOW + 10_000)]
            .prop_map(Step::Pass),
        8 => prop::collection::vec(new, 1..5).prop_map(Step::Publish),
        10 => (0..GROUPS.len(), 1u32..5, 1u64..40)
            .prop_map(|(group, max, visibility)| Step::Receive { group, max, visibility }),
        20 => (settle, how).prop_map(|(settle, how)| Step::Settle(settle, how)),
        3 => (0..GROUPS.len()).prop_map(Step::Redrive),
        1 => settings().prop_map(Step::Configure),
        4 => Just(Step::Restart),
    ];
    let rare = prop_oneof![
        60 => step,
        1 => Just(Step::Purge),
        1 => Just(Step::Delete),
        1 => (0..GROUPS.len()).prop_map(Step::PurgeGroup),
        1 => (0..GROUPS.len()).prop_map(Step::DeleteGroup),
    ];
    prop::collection::vec(rare, 1..120)
}

fn settings() -> impl Strategy<Value = TopicSettings> {
    let backoff = (1u64..20, 0u64..40)
        .prop_map(|(first, more)| Backoff { first: millis(first), longest: millis(first + more) });
    (
        1u32..4,
        prop::option::weighted(0.3, (50u64..100).prop_map(millis)),
        prop::option::weighted(0.3, 1u64..9),
        prop::option::weighted(0.3, 200u64..2_000),
        prop_oneof![Just(Overflow::DropOldest), Just(Overflow::Refuse)],
        prop::option::weighted(0.3, backoff),
    )
        .prop_map(|(max_attempts, retention, max_length, max_bytes, overflow, backoff)| {
            let visibility = millis(30_000);
            TopicSettings {
                visibility,
                max_attempts,
                retention,
                max_length,
                max_bytes,
                overflow,
                backoff,
            }
        })
}

impl How {
    fn command(self, name: &str, receipts: Vec<Receipt>) -> Command {
        let (topic, group) = (topic("orders"), group(name));
        match self {
            Self::Ack => Command::Ack { topic, group, receipts },
            Self::Nack(delay) => Command::Nack { topic, group, receipts, delay: millis(delay) },
            Self::Extend(visibility) => {
                Command::Extend { topic, group, receipts, visibility: millis(visibility) }
            }
            Self::HandBack => Command::HandBack { topic, group, receipts },
        }
    }

    fn change(self, seen: &mut Seen, message: &Kept, rules: Rules) {
        match self {
            Self::Ack => {
                seen.state = State::Gone;
                seen.settled = true;
            }
            Self::Nack(delay) => seen.fail(message, rules, delay, DeadReason::Rejected),
            Self::Extend(visibility) => {
                if let State::Leased { until, .. } = &mut seen.state {
                    *until = rules.now + visibility;
                }
            }
            Self::HandBack => {
                seen.attempts -= 1;
                seen.state = if message.kept || seen.redriven { State::Ready } else { State::Gone };
            }
        }
    }
}

/// The queue, the model, and all receipts that were ever given.
struct Run {
    queue: Queue,
    model: Model,
    receipts: Vec<Receipt>,
}

impl Run {
    fn apply(&mut self, command: Command) -> Reply {
        if self.model.exists {
            self.model.fire();
        }
        self.queue.apply(UnixMillis::new(self.model.now), command).0
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Pass(span) => {
                self.model.now += span;
                assert_eq!(self.apply(Command::Tick), Reply::Done);
            }
            Step::Publish(news) => self.publish(&news),
            Step::Receive { group, max, visibility } => self.receive(group, max, visibility),
            Step::Settle(settle, how) => self.settle(settle, how),
            Step::Redrive(group) => self.redrive(group),
            Step::Configure(settings) => self.configure(&settings),
            Step::PurgeGroup(group) => self.purge_group(group),
            Step::DeleteGroup(group) => self.delete_group(group),
            Step::Purge => {
                self.apply(Command::Purge { topic: topic("orders") });
                self.model.messages.clear();
                self.model.groups.values_mut().for_each(Vec::clear);
            }
            Step::Delete => {
                self.apply(Command::Delete { topic: topic("orders") });
                self.model = Model { now: self.model.now, ..Model::default() };
            }
            Step::Restart => {
                let restored = Queue::restore(&self.queue.snapshot()).expect("its own snapshot");
                assert_eq!(restored, self.queue);
                self.queue = restored;
            }
        }
        self.model.forget();
        self.compare();
    }

    fn publish(&mut self, news: &[New]) {
        let message = |new: &New| NewMessage {
            key: new.key.map(|key| key.to_string()),
            delay: millis(new.delay),
            dedupe_id: new.dedupe.map(|id| id.to_string()),
            ..NewMessage::new("text")
        };
        let messages = news.iter().map(message).collect();
        let command = Command::Publish { shard: ShardId::new(1), topic: topic("orders"), messages };
        let reply = self.apply(command);
        if !self.has_room(news) {
            assert_eq!(reply, Reply::Refused(dss_queue::Refusal::TopicFull));
            return;
        }
        let Reply::Published(ids) = reply else { panic!("it is a good publish: {reply:?}") };
        assert_eq!(ids.len(), news.len());
        self.model.create();
        let model = &mut self.model;
        for (new, id) in news.iter().zip(ids) {
            let known = new.dedupe.and_then(|dedupe| model.dedupe.get(&dedupe));
            if let Some((ends, known)) = known
                && *ends > model.now
            {
                assert_eq!(id, *known);
                continue;
            }
            if let Some(dedupe) = new.dedupe {
                model.dedupe.insert(dedupe, (model.now + WINDOW, id));
            }
            assert!(model.messages.last().is_none_or(|last| last.id < id), "ids rise");
            let hidden_until = (new.delay > 0).then_some(model.now + new.delay);
            let (key, produced) = (new.key, model.now);
            let kept = Kept { id, key, produced, hidden_until, kept: true };
            model.groups.values_mut().for_each(|seen| seen.push(Seen::of(&kept)));
            model.messages.push(kept);
        }
        model.fire();
    }

    fn has_room(&self, news: &[New]) -> bool {
        let model = &self.model;
        let known = |new: &&New| {
            let known = new.dedupe.and_then(|dedupe| model.dedupe.get(&dedupe));
            known.is_some_and(|(ends, _)| *ends > model.now)
        };
        let (length, bytes) = news
            .iter()
            .filter(|new| !known(new))
            .fold((0, 0), |(length, bytes), new| (length + 1, bytes + weight(new.key)));
        if !model.exists || length == 0 {
            true
        } else if model.refuses {
            model.has_room(model.length() + length, model.bytes() + bytes)
        } else {
            model.max_bytes.is_none_or(|max| bytes <= max)
        }
    }

    fn receive(&mut self, number: usize, max: u32, visibility: u64) {
        let reply = self.apply(Command::Receive {
            topic: topic("orders"),
            group: group(GROUPS[number]),
            consumer: consumer(),
            max,
            visibility: Some(millis(visibility)),
        });
        if !self.model.exists {
            assert_eq!(reply, Reply::Refused(dss_queue::Refusal::NotFound));
            return;
        }
        let Reply::Received { deliveries, more } = reply else { panic!("it is a good receive") };
        assert!(deliveries.len() <= max as usize);
        self.model.group(number);
        for delivery in &deliveries {
            self.deliver(number, delivery, self.model.now + visibility);
        }
        let seen = &self.model.groups[&number];
        let left = (0..seen.len()).find(|at| self.model.may_come(seen, *at));
        if let Some(left) = left {
            assert_eq!(deliveries.len(), max as usize, "{left} could have come too");
            assert!(more);
        }
    }

    fn deliver(&mut self, number: usize, delivery: &Delivery, until: u64) {
        let at = self.model.messages.iter().position(|message| message.id == delivery.id);
        let at = at.expect("only what was published is delivered");
        let seen = &self.model.groups[&number];
        assert!(self.model.may_come(seen, at), "{delivery:?} as {:?}", seen[at]);
        assert_eq!(delivery.attempt, seen[at].attempts + 1);
        assert_eq!(delivery.produced_at.get(), self.model.messages[at].produced);
        assert!(!self.receipts.contains(&delivery.receipt), "receipts are never given twice");
        self.receipts.push(delivery.receipt);
        let seen = &mut self.model.group(number)[at];
        seen.attempts += 1;
        seen.state = State::Leased { receipt: delivery.receipt, until };
    }

    fn settle(&mut self, settle: Settle, how: How) {
        if self.receipts.is_empty() {
            return;
        }
        let Settle { group: number, picks } = settle;
        // Mostly recent ones, so that many are good.
        let recent = &self.receipts[self.receipts.len().saturating_sub(6)..];
        let receipts: Vec<_> = picks.iter().map(|pick| *pick.get(recent)).collect();
        let reply = self.apply(how.command(GROUPS[number], receipts.clone()));
        if !self.knows(number) {
            assert_eq!(reply, Reply::Refused(dss_queue::Refusal::NotFound));
            return;
        }
        let rules = self.model.rules();
        let Some(seen) = self.model.groups.get_mut(&number) else { unreachable!() };
        let (mut done, mut stale) = (0, Vec::new());
        for receipt in receipts {
            let holds = |seen: &Seen| matches!(seen.state, State::Leased { receipt: held, .. } if held == receipt);
            match seen.iter().position(holds) {
                None => stale.push(receipt),
                Some(at) => {
                    how.change(&mut seen[at], &self.model.messages[at], rules);
                    done += 1;
                }
            }
        }
        assert_eq!(reply, Reply::Settled(dss_queue::Settled { done, stale }));
    }

    fn configure(&mut self, settings: &TopicSettings) {
        let command = Command::Configure { topic: topic("orders"), settings: settings.clone() };
        assert_eq!(self.apply(command), Reply::Done);
        self.model.create();
        let model = &mut self.model;
        model.max_attempts = settings.max_attempts;
        model.retention = settings.retention.map(|span| span.as_millis().try_into().unwrap());
        model.max_length = settings.max_length;
        model.max_bytes = settings.max_bytes;
        model.refuses = settings.overflow == Overflow::Refuse;
        model.backoff = settings.backoff;
        model.fire();
    }

    fn knows(&self, number: usize) -> bool {
        self.model.exists && self.model.groups.contains_key(&number)
    }

    fn purge_group(&mut self, number: usize) {
        let (topic, group) = (topic("orders"), group(GROUPS[number]));
        let reply = self.apply(Command::PurgeGroup { topic, group });
        if !self.knows(number) {
            assert_eq!(reply, Reply::Refused(dss_queue::Refusal::NotFound));
            return;
        }
        assert_eq!(reply, Reply::Done);
        for seen in self.model.group(number) {
            *seen = Seen { state: State::Gone, attempts: 0, settled: true, redriven: false };
        }
    }

    fn delete_group(&mut self, number: usize) {
        let (topic, group) = (topic("orders"), group(GROUPS[number]));
        let reply = self.apply(Command::DeleteGroup { topic, group });
        if !self.knows(number) {
            assert_eq!(reply, Reply::Refused(dss_queue::Refusal::NotFound));
            return;
        }
        assert_eq!(reply, Reply::Done);
        self.model.groups.remove(&number);
    }

    fn redrive(&mut self, number: usize) {
        let reply =
            self.apply(Command::Redrive { topic: topic("orders"), group: group(GROUPS[number]) });
        let Some(seen) = self.model.groups.get_mut(&number).filter(|_| self.model.exists) else {
            assert_eq!(reply, Reply::Refused(dss_queue::Refusal::NotFound));
            return;
        };
        let mut redriven = 0;
        for seen in seen.iter_mut().filter(|seen| matches!(seen.state, State::Dead { .. })) {
            seen.state = State::Ready;
            seen.redriven = true;
            redriven += 1;
        }
        assert_eq!(reply, Reply::Redriven { redriven, more: false });
    }

    fn compare(&self) {
        let summary = self.queue.topic(&topic("orders"));
        assert_eq!(summary.is_some(), self.model.exists);
        let Some(summary) = summary else { return };
        assert_eq!(summary.length, self.model.length());
        assert_eq!(summary.groups.len(), self.model.groups.len());
        for (number, seen) in &self.model.groups {
            let name = group(GROUPS[*number]);
            assert_eq!(summary.groups[&name], self.model.info(seen), "{name}");
            let expected: BTreeMap<_, _> = (self.model.messages.iter().zip(seen))
                .filter_map(|(message, seen)| match seen.state {
                    State::Dead { attempts, at, reason } => {
                        Some((message.id, (attempts, at, reason)))
                    }
                    _ => None,
                })
                .collect();
            let dead = self.queue.dead_letters(&topic("orders"), &name).expect("it exists");
            let found: BTreeMap<_, _> = (dead.iter())
                .map(|dead| (dead.id, (dead.attempts, dead.died_at.get(), dead.reason)))
                .collect();
            assert_eq!(found, expected);
            self.compare_peek(&name, seen);
            let available = self.queue.availability(&topic("orders"), &name);
            let could = (0..seen.len()).any(|at| self.model.may_come(seen, at));
            assert!(!could || available == Availability::Something, "{name} would wait");
        }
        self.compare_deadline();
    }

    /// A look at a group, two messages at a time, sees what it has not settled.
    fn compare_peek(&self, name: &GroupName, seen: &[Seen]) {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.queue.peek(&topic("orders"), Some(name), after, 2);
            let page = page.expect("it exists");
            assert!(page.messages.len() <= 2);
            found.extend(page.messages.into_iter().map(|it| (it.id, it.attempts, it.state)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let hidden = |message: &Kept| match message.hidden_until {
            Some(until) => MessageState::Delayed { until: UnixMillis::new(until) },
            None => MessageState::Ready,
        };
        let expected: Vec<_> = (self.model.messages.iter().zip(seen))
            .filter_map(|(message, seen)| {
                let state = match seen.state {
                    State::Ready => hidden(message),
                    State::Delayed { until } => {
                        MessageState::Delayed { until: UnixMillis::new(until) }
                    }
                    State::Leased { until, .. } => MessageState::InFlight {
                        consumer: consumer(),
                        until: UnixMillis::new(until),
                    },
                    State::Dead { .. } | State::Gone => return None,
                };
                // Of a message that was dropped while it was leased only its receipt is left.
                (message.kept || seen.redriven).then_some((message.id, seen.attempts, state))
            })
            .collect();
        assert_eq!(found, expected, "{name}");
    }

    /// The next deadline is never later than what ends next, and never passed.
    fn compare_deadline(&self) {
        let model = &self.model;
        let leases = model.groups.values().flatten().filter_map(|seen| match seen.state {
            State::Leased { until, .. } | State::Delayed { until } => Some(until),
            _ => None,
        });
        let kept = || model.messages.iter().filter(|message| message.kept);
        let hidden = kept().filter_map(|message| message.hidden_until);
        let retained = kept().filter_map(|message| Some(message.produced + model.retention?));
        let next = leases.chain(hidden).chain(retained).min();
        let deadline = self.queue.next_deadline().map(UnixMillis::get);
        assert!(deadline.is_none_or(|at| at > model.now), "{deadline:?} has passed");
        if let Some(next) = next {
            assert!(deadline.is_some_and(|at| at <= next), "{next} would be missed");
        }
    }
}

/// 2,000, or as many as `PROPTEST_CASES` says.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_queue_does_what_the_model_allows(steps in steps()) {
        let mut run = Run { queue: Queue::new(), model: Model::default(), receipts: Vec::new() };
        run.model.now = 1_000;
        for step in steps {
            run.perform(step);
        }
    }
}
