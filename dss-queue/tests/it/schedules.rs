//! Every short schedule of a small cast, one after the other: two consumers of one group, three
//! messages, time, crashes.
//!
//! The checker believes nothing that the queue says of its own state. It keeps from the answers
//! alone who holds what until when, and so finds a message under two leases, an acknowledged one
//! that comes back, a late receipt that counts, a dedupe id that stores twice, and a message that
//! is gone. That it would is shown with bugs planted around the queue.

use std::collections::{BTreeMap, BTreeSet};

use dss_queue::{
    Command, Delivery, MessageId, NewMessage, Queue, Receipt, Reply, ShardId, TopicSettings,
    UnixMillis,
};

use crate::bench::{consumer, group, message, millis, topic};

const VISIBILITY: u64 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// With a dedupe id, the same each time.
    Publish,
    /// By consumer 0 or 1, one message.
    Receive(usize),
    /// With the newest receipt that this consumer was given.
    Ack(usize),
    Nack,
    HandBack,
    Extend,
    /// Half a lease.
    Pass,
    Crash,
}

const ACTIONS: [Action; 10] = [
    Action::Publish,
    Action::Receive(0),
    Action::Receive(1),
    Action::Ack(0),
    Action::Ack(1),
    Action::Nack,
    Action::HandBack,
    Action::Extend,
    Action::Pass,
    Action::Crash,
];

/// A bug that is planted around the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    AnswersBeforeDurable,
    AcksWithoutTheLease,
    ForgetsThePlace,
    ForgetsDedupeIds,
}

/// A queue with its disk.
#[derive(Clone)]
struct System {
    flaw: Option<Flaw>,
    queue: Queue,
    /// What a crash leaves.
    durable: Queue,
    crashed: bool,
}

impl System {
    fn apply(&mut self, now: u64, command: Command) -> Reply {
        let command = self.distort(command);
        if self.flaw == Some(Flaw::AnswersBeforeDurable) {
            // The last command is answered and not yet written.
            self.durable = self.queue.clone();
        }
        let (reply, _) = self.queue.apply(UnixMillis::new(now), command);
        if self.flaw != Some(Flaw::AnswersBeforeDurable) {
            self.durable = self.queue.clone();
        }
        reply
    }

    fn distort(&self, mut command: Command) -> Command {
        match (&mut command, self.flaw) {
            (Command::Ack { topic, group, receipts }, Some(Flaw::AcksWithoutTheLease)) => {
                let leases = self.queue.leases(topic, group).unwrap_or_default();
                for receipt in receipts {
                    let same = |lease: &&dss_queue::LeaseInfo| {
                        lease.receipt.message() == receipt.message()
                    };
                    *receipt = leases.iter().find(same).map_or(*receipt, |lease| lease.receipt);
                }
            }
            (Command::Publish { messages, .. }, Some(Flaw::ForgetsDedupeIds)) if self.crashed => {
                messages.iter_mut().for_each(|message| message.dedupe_id = None);
            }
            _ => {}
        }
        command
    }

    fn crash(&mut self) {
        self.queue = Queue::restore(&self.durable.snapshot()).expect("its own snapshot");
        self.crashed = true;
        if self.flaw == Some(Flaw::ForgetsThePlace) {
            // A group that is not there begins at the oldest message that is kept.
            let (topic, group) = (topic("orders"), group("g"));
            self.queue.apply(self.queue.now(), Command::DeleteGroup { topic, group });
        }
    }
}

/// What the answers have promised.
#[derive(Clone, Default)]
struct Promises {
    published: BTreeSet<MessageId>,
    deduplicated: Option<MessageId>,
    leases: BTreeMap<MessageId, (Receipt, u64)>,
    acknowledged: BTreeSet<MessageId>,
    attempts: BTreeMap<MessageId, u32>,
}

type Checked = Result<(), &'static str>;

#[derive(Clone)]
struct World {
    system: System,
    promises: Promises,
    now: u64,
    /// The newest receipt of each consumer.
    receipts: [Option<Receipt>; 2],
}

impl World {
    /// Two messages, which another group keeps in the log; the group has been there.
    fn new(flaw: Option<Flaw>) -> Self {
        let system = System { flaw, queue: Queue::new(), durable: Queue::new(), crashed: false };
        let promises = Promises::default();
        let mut world = Self { system, promises, now: 1_000, receipts: [None; 2] };
        let settings = TopicSettings { max_attempts: 99, ..TopicSettings::default() };
        world.apply(Command::Configure { topic: topic("orders"), settings });
        for text in ["a", "b"] {
            world.publish(message(text));
        }
        for name in ["other", "g"] {
            world.apply(Command::Receive {
                topic: topic("orders"),
                group: group(name),
                consumer: consumer(),
                max: 1,
                visibility: Some(millis(1)),
            });
        }
        world.now += 1;
        // The attempt of the setting up.
        let first = *world.promises.published.first().expect("two were published");
        world.promises.attempts.insert(first, 1);
        world.apply(Command::Tick);
        world
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.system.apply(self.now, command)
    }

    fn publish(&mut self, message: NewMessage) -> MessageId {
        let (shard, messages) = (ShardId::new(1), vec![message]);
        let reply = self.apply(Command::Publish { shard, topic: topic("orders"), messages });
        let Reply::Published(ids) = reply else { panic!("refused: {reply:?}") };
        self.promises.published.insert(ids[0]);
        ids[0]
    }

    fn perform(&mut self, action: Action) -> Checked {
        match action {
            Action::Publish => {
                let once = NewMessage { dedupe_id: Some("once".to_owned()), ..message("c") };
                let id = self.publish(once);
                let first = *self.promises.deduplicated.get_or_insert(id);
                if first == id { Ok(()) } else { Err("stored twice") }
            }
            Action::Receive(who) => {
                for delivery in self.receive(1, VISIBILITY) {
                    self.receipts[who] = Some(delivery.receipt);
                    self.promises.lease(&delivery, self.now, VISIBILITY)?;
                }
                Ok(())
            }
            Action::Ack(who) => {
                self.settle(who, |topic, group, receipts| Command::Ack { topic, group, receipts })
            }
            Action::Nack => self.settle(0, |topic, group, receipts| Command::Nack {
                topic,
                group,
                receipts,
                delay: millis(0),
            }),
            Action::HandBack => self.settle(1, |topic, group, receipts| Command::HandBack {
                topic,
                group,
                receipts,
            }),
            Action::Extend => self.settle(0, |topic, group, receipts| Command::Extend {
                topic,
                group,
                receipts,
                visibility: millis(VISIBILITY),
            }),
            Action::Pass => {
                self.now += VISIBILITY / 2;
                Ok(())
            }
            Action::Crash => {
                self.system.crash();
                Ok(())
            }
        }
    }

    fn receive(&mut self, max: u32, visibility: u64) -> Vec<Delivery> {
        let reply = self.apply(Command::Receive {
            topic: topic("orders"),
            group: group("g"),
            consumer: consumer(),
            max,
            visibility: Some(millis(visibility)),
        });
        let Reply::Received { deliveries, .. } = reply else { panic!("refused: {reply:?}") };
        deliveries
    }

    fn settle(
        &mut self,
        who: usize,
        command: impl Fn(dss_queue::TopicName, dss_queue::GroupName, Vec<Receipt>) -> Command,
    ) -> Checked {
        let Some(receipt) = self.receipts[who] else { return Ok(()) };
        let command = command(topic("orders"), group("g"), vec![receipt]);
        let reply = self.apply(command.clone());
        let done = match reply {
            Reply::Settled(settled) => settled.done == 1,
            _ => false,
        };
        let message = receipt.message();
        let held = self.promises.leases.get(&message);
        let holds = held.is_some_and(|(held, until)| *held == receipt && self.now < *until);
        if done != holds {
            return Err(if done { "a late receipt counts" } else { "a good receipt is refused" });
        }
        if !done {
            return Ok(());
        }
        match command {
            Command::Extend { .. } => {
                self.promises.leases.insert(message, (receipt, self.now + VISIBILITY));
            }
            Command::Ack { .. } => {
                self.promises.leases.remove(&message);
                self.promises.acknowledged.insert(message);
            }
            Command::HandBack { .. } => {
                self.promises.leases.remove(&message);
                *self.promises.attempts.entry(message).or_default() -= 1;
            }
            _ => drop(self.promises.leases.remove(&message)),
        }
        Ok(())
    }

    /// Once all leases are over, what is not acknowledged comes, and nothing else.
    fn end(mut self) -> Checked {
        self.now += 2 * VISIBILITY;
        let left = self.receive(100, VISIBILITY);
        for delivery in &left {
            self.promises.lease(delivery, self.now, VISIBILITY)?;
        }
        let came: BTreeSet<_> = left.iter().map(|delivery| delivery.id).collect();
        let due = self.promises.published.difference(&self.promises.acknowledged);
        if due.copied().eq(came) { Ok(()) } else { Err("a message is gone") }
    }
}

impl Promises {
    fn lease(&mut self, delivery: &Delivery, now: u64, visibility: u64) -> Checked {
        let held = self.leases.insert(delivery.id, (delivery.receipt, now + visibility));
        if held.is_some_and(|(_, until)| now < until) {
            return Err("a message is under two leases");
        }
        if self.acknowledged.contains(&delivery.id) {
            return Err("an acknowledged message comes back");
        }
        if !self.published.contains(&delivery.id) {
            return Err("a message comes that was never answered");
        }
        let attempts = self.attempts.entry(delivery.id).or_default();
        *attempts += 1;
        if *attempts == delivery.attempt { Ok(()) } else { Err("an attempt is miscounted") }
    }
}

/// Runs all schedules of this many actions; how many there were, or the first that breaks a
/// promise.
fn explore(
    world: &World,
    depth: usize,
    path: &mut Vec<Action>,
) -> Result<u64, (Vec<Action>, &'static str)> {
    if depth == 0 {
        return world.clone().end().map(|()| 1).map_err(|broken| (path.clone(), broken));
    }
    let mut schedules = 0;
    for action in ACTIONS {
        // Time passes alike in whatever pieces, and a second crash finds what the first one left.
        if action == Action::Crash && path.last() == Some(&Action::Crash) {
            continue;
        }
        path.push(action);
        let mut next = world.clone();
        next.perform(action).map_err(|broken| (path.clone(), broken))?;
        schedules += explore(&next, depth - 1, path)?;
        path.pop();
    }
    Ok(schedules)
}

#[test]
fn no_short_schedule_breaks_a_promise() {
    let depth = std::env::var("DSS_SCHEDULE_ACTIONS").ok().and_then(|text| text.parse().ok());
    let schedules = explore(&World::new(None), depth.unwrap_or(5), &mut Vec::new());
    assert!(schedules.as_ref().is_ok_and(|count| *count > 90_000), "{schedules:?}");
}

#[test]
fn every_planted_bug_is_found() {
    for (flaw, breaks) in [
        // A delivery that was answered and is forgotten is the first it comes upon.
        (Flaw::AnswersBeforeDurable, &["an attempt is miscounted"][..]),
        (Flaw::AcksWithoutTheLease, &["a late receipt counts"]),
        (
            Flaw::ForgetsThePlace,
            &[
                "an acknowledged message comes back",
                "a message is under two leases",
                "an attempt is miscounted",
            ],
        ),
        (Flaw::ForgetsDedupeIds, &["stored twice"]),
    ] {
        let found = explore(&World::new(Some(flaw)), 5, &mut Vec::new());
        let (path, broken) = found.expect_err("a bug that nobody finds");
        assert!(breaks.contains(&broken), "{flaw:?}: {broken} by {path:?}");
    }
}
