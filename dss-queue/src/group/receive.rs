//! Delivering messages.

use std::time::Duration;

use super::{Exception, Group, Lease, State, Surroundings};
use crate::limits::{BATCH_BYTES_MAX, IN_FLIGHT_MAX, PASSED_PER_RECEIVE_MAX};
use crate::message::Delivery;
use crate::name::ConsumerName;
use crate::topic::Log;

/// What a consumer asks for.
pub(crate) struct Order {
    pub(crate) consumer: ConsumerName,
    pub(crate) max: usize,
    pub(crate) visibility: Duration,
}

/// What the cursor found.
enum Found {
    Deliverable(u64),
    Passed,
    Nothing,
}

impl Group {
    /// Whether a receive could find something. It may find nothing where all that is left has a
    /// delay or waits for an earlier message of its key; the cursor has passed that afterwards.
    pub(crate) fn may_deliver(&self, log: &Log) -> bool {
        !self.returned.is_empty() || log.from(self.cursor).next().is_some()
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.counts.in_flight >= IN_FLIGHT_MAX
    }

    /// Leases messages: first those that came back, then new ones, each oldest first.
    pub(crate) fn receive(
        &mut self,
        order: &Order,
        around: &mut Surroundings<'_, '_>,
    ) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        let mut bytes = 0;
        let mut passed = 0;
        while deliveries.len() < order.max && !self.is_crowded() {
            let sequence = match self.find(around) {
                Found::Deliverable(sequence) => sequence,
                Found::Nothing => break,
                Found::Passed if passed == PASSED_PER_RECEIVE_MAX => break,
                Found::Passed => {
                    passed += 1;
                    continue;
                }
            };
            // A message that does not fit stays the first to be found.
            bytes += self.payload_bytes(sequence, around.log);
            if bytes > BATCH_BYTES_MAX && !deliveries.is_empty() {
                break;
            }
            deliveries.extend(self.lease(sequence, order, around));
        }
        deliveries
    }

    /// The next message to deliver becomes an exception, if it is none, and `returned` holds it.
    fn find(&mut self, around: &mut Surroundings<'_, '_>) -> Found {
        if let Some(sequence) = self.returned.first() {
            return Found::Deliverable(*sequence);
        }
        let Some(stored) = around.log.from(self.cursor).next() else {
            return Found::Nothing;
        };
        let sequence = stored.sequence();
        self.cursor = sequence + 1;
        let key = stored.key();
        let is_head = key.is_none_or(|key| self.pass(sequence, key));
        if !is_head || stored.delayed_until().is_some() {
            return Found::Passed;
        }
        self.exceptions.insert(sequence, Exception::untouched(key.cloned()));
        self.returned.insert(sequence);
        Found::Deliverable(sequence)
    }

    fn payload_bytes(&self, sequence: u64, log: &Log) -> usize {
        match self.exceptions.get(&sequence).and_then(|exception| exception.own.as_deref()) {
            Some(own) => own.payload.len(),
            None => log.get(sequence).map_or(0, crate::topic::Stored::payload_bytes),
        }
    }

    fn lease(
        &mut self,
        sequence: u64,
        order: &Order,
        around: &mut Surroundings<'_, '_>,
    ) -> Option<Delivery> {
        let timer = self.timer(sequence);
        self.returned.remove(&sequence);
        let exception = self.exceptions.get_mut(&sequence)?;
        let message = match exception.own.as_deref() {
            Some(own) => own.clone(),
            None => around.log.get(sequence)?.to_message(),
        };
        let nonce = around.step.ids.nonce();
        let until = around.step.now + order.visibility;
        exception.attempts = exception.attempts.saturating_add(1);
        let id = message.id;
        let consumer = order.consumer.clone();
        exception.state = State::Leased(Lease { message: id, nonce, until, consumer });
        self.counts.ready -= 1;
        self.counts.in_flight += 1;
        around.timers.insert((until, timer));
        Some(message.into_delivery(exception.attempts, nonce))
    }
}
