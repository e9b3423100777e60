//! What the log says has happened, in the order of the log, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};

use dss_queue::{
    Command, Delivery, GroupInfo, MessageId, NewMessage, Queue, Receipt, Reply, UnixMillis,
};
use dss_raft::LogIndex;

use super::{GROUP, MAX, VISIBILITY};
use crate::bench::{consumer, group, millis, topic};

/// What there was to see, for all runs together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages whose publish was answered, as far as their producers have heard.
    pub(super) published: u64,
    /// Publishes that were made again, and were stored once.
    pub(super) republished: u64,
    pub(super) deliveries: u64,
    /// Deliveries of a message that had been delivered before.
    pub(super) duplicates: u64,
    pub(super) acknowledged: u64,
    /// Receipts that came too late.
    pub(super) stale: u64,
    /// Answers that their clients never heard.
    pub(super) unheard: u64,
    /// Answered publishes that were never delivered.
    pub(super) lost: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.republished += other.republished;
        self.deliveries += other.deliveries;
        self.duplicates += other.duplicates;
        self.acknowledged += other.acknowledged;
        self.stale += other.stale;
        self.unheard += other.unheard;
        self.lost += other.lost;
    }
}

type Checked = Result<(), &'static str>;

/// The state that every node must come to, and what was promised on the way.
#[derive(Default)]
pub(super) struct Ledger {
    /// Up to where the log is known.
    front: LogIndex,
    queue: Queue,
    now: u64,
    /// By dedupe id.
    ids: BTreeMap<String, MessageId>,
    attempts: BTreeMap<MessageId, u32>,
    leases: BTreeMap<MessageId, (Receipt, u64)>,
    acknowledged: BTreeSet<MessageId>,
    /// The first promise that did not hold.
    pub(super) broken: Option<&'static str>,
    pub(super) counts: Counts,
}

impl Ledger {
    pub(super) fn is_configured(&self) -> bool {
        self.queue.topic(&topic("orders")).is_some_and(|it| it.settings.max_attempts == MAX)
    }

    pub(super) fn has_acknowledged(&self, message: MessageId) -> bool {
        self.acknowledged.contains(&message)
    }

    /// A node has applied a command and answers this. What was applied elsewhere before must have
    /// been answered alike, and is not looked at again.
    pub(super) fn applied(
        &mut self,
        index: LogIndex,
        now: UnixMillis,
        command: &Command,
        reply: &Reply,
    ) {
        if index <= self.front {
            return;
        }
        self.front = index;
        let (expected, _) = self.queue.apply(now, command.clone());
        self.now = self.now.max(now.get());
        if let Err(broken) = self.follow(command, reply) {
            self.broken.get_or_insert(broken);
        }
        if *reply != expected {
            self.broken.get_or_insert("two nodes answer differently");
        }
    }

    fn follow(&mut self, command: &Command, reply: &Reply) -> Checked {
        match (command, reply) {
            (Command::Publish { messages, .. }, Reply::Published(ids)) => {
                messages.iter().zip(ids).try_for_each(|(message, id)| self.publish(message, *id))
            }
            (Command::Receive { .. }, Reply::Received { deliveries, .. }) => {
                deliveries.iter().try_for_each(|delivery| self.lease(delivery))
            }
            (
                Command::Ack { receipts, .. }
                | Command::Nack { receipts, .. }
                | Command::HandBack { receipts, .. }
                | Command::Extend { receipts, .. },
                Reply::Settled(settled),
            ) => receipts.iter().try_for_each(|receipt| {
                self.settle(command, receipt, !settled.stale.contains(receipt))
            }),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, message: &NewMessage, id: MessageId) -> Checked {
        let dedupe_id = message.dedupe_id.clone().expect("every message here has one");
        let fresh = !self.ids.values().any(|known| *known == id);
        match self.ids.insert(dedupe_id, id) {
            None if fresh => Ok(()),
            None => Err("two messages have one id"),
            Some(first) if first == id => {
                self.counts.republished += 1;
                Ok(())
            }
            Some(_) => Err("stored twice"),
        }
    }

    fn lease(&mut self, delivery: &Delivery) -> Checked {
        let held = self.leases.insert(delivery.id, (delivery.receipt, self.now + VISIBILITY));
        if held.is_some_and(|(_, until)| self.now < until) {
            return Err("a message is under two leases");
        }
        if self.acknowledged.contains(&delivery.id) {
            return Err("an acknowledged message comes back");
        }
        self.counts.deliveries += 1;
        self.counts.duplicates += u64::from(self.attempts.contains_key(&delivery.id));
        let attempts = self.attempts.entry(delivery.id).or_default();
        *attempts += 1;
        if *attempts == delivery.attempt { Ok(()) } else { Err("an attempt is miscounted") }
    }

    fn settle(&mut self, command: &Command, receipt: &Receipt, done: bool) -> Checked {
        let message = receipt.message();
        let held = self.leases.get(&message);
        let holds = held.is_some_and(|(held, until)| held == receipt && self.now < *until);
        if done != holds {
            return Err(if done { "a late receipt counts" } else { "a good receipt is refused" });
        }
        if !done {
            self.counts.stale += 1;
            return Ok(());
        }
        match command {
            Command::Extend { .. } => {
                self.leases.insert(message, (*receipt, self.now + VISIBILITY));
            }
            Command::Ack { .. } => {
                self.leases.remove(&message);
                self.acknowledged.insert(message);
                self.counts.acknowledged += 1;
            }
            Command::HandBack { .. } => {
                self.leases.remove(&message);
                *self.attempts.entry(message).or_default() -= 1;
            }
            _ => drop(self.leases.remove(&message)),
        }
        Ok(())
    }

    /// Once all leases are over, everything that was answered and is not acknowledged is delivered
    /// and acknowledged; nothing is left, and nothing was lost.
    pub(super) fn end(&mut self, answered: &BTreeSet<MessageId>) -> Checked {
        loop {
            self.now += 2 * VISIBILITY;
            let (topic, group, consumer) = (topic("orders"), group(GROUP), consumer());
            let visibility = Some(millis(VISIBILITY));
            let receive = Command::Receive { topic, group, consumer, max: 1_000, visibility };
            let reply = self.perform(&receive)?;
            let Reply::Received { deliveries, .. } = reply else { break };
            if deliveries.is_empty() {
                break;
            }
            let receipts = deliveries.iter().map(|delivery| delivery.receipt).collect();
            let (topic, group) = (crate::bench::topic("orders"), crate::bench::group(GROUP));
            self.perform(&Command::Ack { topic, group, receipts })?;
        }
        let lost = answered.iter().filter(|id| !self.acknowledged.contains(id)).count();
        self.counts.published += answered.len() as u64;
        self.counts.lost += lost as u64;
        if lost > 0 {
            return Err("a message is lost");
        }
        let left = self.queue.topic(&topic("orders"));
        let left = left.and_then(|topic| topic.groups.get(&group(GROUP)).copied());
        if left.is_none_or(|left| left == GroupInfo::default()) {
            Ok(())
        } else {
            Err("the counters do not come to nothing")
        }
    }

    fn perform(&mut self, command: &Command) -> Result<Reply, &'static str> {
        let (reply, _) = self.queue.apply(UnixMillis::new(self.now), command.clone());
        self.follow(command, &reply)?;
        Ok(reply)
    }
}
