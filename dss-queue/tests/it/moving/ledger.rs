//! What the shards have done for clients, one after the other, and what must follow from it.

use std::collections::{BTreeMap, BTreeSet};

use dss_queue::{Command, Delivery, GroupName, MessageId, NewMessage, Receipt, Reply, TopicName};

use super::world::VISIBILITY;

/// What there was to see.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    /// Messages whose publish was answered, as far as their producers have heard.
    pub(super) published: u64,
    /// Publishes that were made again, and were stored once.
    pub(super) republished: u64,
    pub(super) deliveries: u64,
    /// Deliveries of a message that had been delivered before.
    pub(super) duplicates: u64,
    pub(super) acknowledged: u64,
    /// Receipts of one shard that settled at another one.
    pub(super) carried_receipts: u64,
    /// Commands that came to a shard which does not serve their topic.
    pub(super) refused: u64,
    pub(super) placements: u64,
    /// Topics that were installed at another shard.
    pub(super) moved: u64,
    pub(super) crashes: u64,
    pub(super) lost: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.published += other.published;
        self.republished += other.republished;
        self.deliveries += other.deliveries;
        self.duplicates += other.duplicates;
        self.acknowledged += other.acknowledged;
        self.carried_receipts += other.carried_receipts;
        self.refused += other.refused;
        self.placements += other.placements;
        self.moved += other.moved;
        self.crashes += other.crashes;
        self.lost += other.lost;
    }
}

type Checked = Result<(), &'static str>;
/// A message as one group sees it.
type Seen = (GroupName, MessageId);

#[derive(Default)]
pub(super) struct Ledger {
    /// By topic and dedupe id.
    ids: BTreeMap<(TopicName, String), MessageId>,
    known: BTreeSet<MessageId>,
    attempts: BTreeMap<Seen, u32>,
    /// With the shard that leased, and until when.
    leases: BTreeMap<Seen, (Receipt, usize, u64)>,
    acknowledged: BTreeSet<Seen>,
    /// By group, topic and key, the newest message that was acknowledged.
    newest: BTreeMap<(GroupName, TopicName, String), MessageId>,
    pub(super) counts: Counts,
}

impl Ledger {
    pub(super) fn has_acknowledged(&self, group: &GroupName, message: MessageId) -> bool {
        self.acknowledged.contains(&(group.clone(), message))
    }

    /// A shard has done a command at this time of its own.
    pub(super) fn done(
        &mut self,
        shard: usize,
        now: u64,
        command: &Command,
        reply: &Reply,
    ) -> Checked {
        match (command, reply) {
            (Command::Publish { topic, messages, .. }, Reply::Published(ids)) => messages
                .iter()
                .zip(ids)
                .try_for_each(|(message, id)| self.publish(topic, message, *id)),
            (Command::Receive { topic, group, .. }, Reply::Received { deliveries, .. }) => {
                let mut each = deliveries.iter();
                each.try_for_each(|delivery| self.lease(shard, now, topic, group, delivery))
            }
            (
                Command::Ack { group, receipts, .. }
                | Command::Nack { group, receipts, .. }
                | Command::HandBack { group, receipts, .. }
                | Command::Extend { group, receipts, .. },
                Reply::Settled(settled),
            ) => receipts.iter().try_for_each(|receipt| {
                let done = !settled.stale.contains(receipt);
                self.settle(shard, now, command, group, receipt, done)
            }),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, topic: &TopicName, message: &NewMessage, id: MessageId) -> Checked {
        let dedupe_id = message.dedupe_id.clone().expect("every message here has one");
        let fresh = self.known.insert(id);
        match self.ids.insert((topic.clone(), dedupe_id), id) {
            None if fresh => Ok(()),
            None => Err("two messages have one id"),
            Some(first) if first == id => {
                self.counts.republished += 1;
                Ok(())
            }
            Some(_) => Err("stored twice"),
        }
    }

    fn lease(
        &mut self,
        shard: usize,
        now: u64,
        topic: &TopicName,
        group: &GroupName,
        delivery: &Delivery,
    ) -> Checked {
        let seen = (group.clone(), delivery.id);
        let held = self.leases.insert(seen.clone(), (delivery.receipt, shard, now + VISIBILITY));
        if held.is_some_and(|(.., until)| now < until) {
            return Err("a message is under two leases");
        }
        if self.acknowledged.contains(&seen) {
            return Err("an acknowledged message comes back");
        }
        if !self.known.contains(&delivery.id) {
            return Err("a message was never published");
        }
        if let Some(key) = &delivery.key {
            let newest = self.newest.get(&(group.clone(), topic.clone(), key.clone()));
            if newest.is_some_and(|newest| newest.sequence() > delivery.id.sequence()) {
                return Err("the messages of a key are out of order");
            }
        }
        self.counts.deliveries += 1;
        self.counts.duplicates += u64::from(self.attempts.contains_key(&seen));
        let attempts = self.attempts.entry(seen).or_default();
        *attempts += 1;
        if *attempts == delivery.attempt { Ok(()) } else { Err("an attempt is miscounted") }
    }

    fn settle(
        &mut self,
        shard: usize,
        now: u64,
        command: &Command,
        group: &GroupName,
        receipt: &Receipt,
        done: bool,
    ) -> Checked {
        let seen = (group.clone(), receipt.message());
        let held = self.leases.get(&seen).copied();
        let held = held.filter(|(held, _, until)| held == receipt && now < *until);
        match held {
            None if done => return Err("a late receipt counts"),
            Some(_) if !done => return Err("a good receipt is refused"),
            None => return Ok(()),
            Some((_, leased_by, _)) => {
                self.counts.carried_receipts += u64::from(leased_by != shard);
            }
        }
        match command {
            Command::Extend { .. } => {
                self.leases.insert(seen, (*receipt, shard, now + VISIBILITY));
            }
            Command::Ack { topic, .. } => {
                self.leases.remove(&seen);
                self.acknowledged.insert(seen);
                self.counts.acknowledged += 1;
                let of_id = |((of, name), id): (&(TopicName, String), &MessageId)| {
                    (of == topic && *id == receipt.message()).then(|| name.clone())
                };
                // The key of a message is the end of its name.
                let name = self.ids.iter().find_map(of_id).unwrap_or_default();
                if let Some((_, key)) = name.split_once('/') {
                    let place = (group.clone(), topic.clone(), key.to_owned());
                    let newest = self.newest.entry(place).or_insert(receipt.message());
                    if newest.sequence() < receipt.message().sequence() {
                        *newest = receipt.message();
                    }
                }
            }
            Command::HandBack { .. } => {
                self.leases.remove(&seen);
                *self.attempts.entry(seen).or_default() -= 1;
            }
            _ => drop(self.leases.remove(&seen)),
        }
        Ok(())
    }
}
