//! What becomes of a delivery: done, returned, extended, given up.

use std::time::Duration;

use super::{Dead, Exception, Group, State, Surroundings};
use crate::command::Event;
use crate::id::Receipt;
use crate::limits::REDRIVE_MAX;
use crate::message::DeadReason;

impl Group {
    /// Each of these answers whether the receipt's lease is still on.
    pub(crate) fn ack(&mut self, receipt: &Receipt, around: &mut Surroundings<'_, '_>) -> bool {
        let Some(sequence) = self.leased(receipt) else { return false };
        self.end_lease(sequence, around);
        if let Some(exception) = self.exceptions.remove(&sequence) {
            self.settled(sequence, &exception, around);
        }
        true
    }

    pub(crate) fn nack(
        &mut self,
        receipt: &Receipt,
        delay: Duration,
        around: &mut Surroundings<'_, '_>,
    ) -> bool {
        let Some(sequence) = self.leased(receipt) else { return false };
        self.end_lease(sequence, around);
        self.fail(sequence, delay, DeadReason::Rejected, around);
        true
    }

    pub(crate) fn hand_back(
        &mut self,
        receipt: &Receipt,
        around: &mut Surroundings<'_, '_>,
    ) -> bool {
        let Some(sequence) = self.leased(receipt) else { return false };
        self.end_lease(sequence, around);
        if let Some(exception) = self.exceptions.get_mut(&sequence) {
            exception.attempts -= 1;
        }
        if !self.vanish(sequence, around) {
            self.make_ready(sequence, around.step);
        }
        true
    }

    pub(crate) fn extend(
        &mut self,
        receipt: &Receipt,
        visibility: Duration,
        around: &mut Surroundings<'_, '_>,
    ) -> bool {
        let Some(sequence) = self.leased(receipt) else { return false };
        let timer = self.timer(sequence);
        if let Some(Exception { state: State::Leased(lease), .. }) =
            self.exceptions.get_mut(&sequence)
        {
            around.timers.remove(&(lease.until, timer));
            lease.until = around.step.now + visibility;
            around.timers.insert((lease.until, timer));
        }
        true
    }

    /// Gives dead letters their attempts again: how many, and whether there are more.
    pub(crate) fn redrive(&mut self, around: &mut Surroundings<'_, '_>) -> (u64, bool) {
        let count = self.dead.len().min(REDRIVE_MAX);
        let mut heads = 0;
        for dead in self.dead.drain(..count).collect::<Vec<_>>() {
            let sequence = dead.message.id.sequence();
            let key = dead.message.key.clone();
            let exception = Exception {
                attempts: 0,
                state: State::Ready,
                key: key.clone(),
                own: Some(Box::new(dead.message)),
            };
            self.exceptions.insert(sequence, exception);
            self.counts.ready += 1;
            if let Some(key) = &key
                && !self.rejoin(sequence, key)
            {
                continue;
            }
            self.returned.insert(sequence);
            heads += 1;
        }
        if heads > 0 {
            self.announce(heads, around.step);
        }
        (count as u64, !self.dead.is_empty())
    }

    /// The message of a receipt whose lease is on.
    fn leased(&self, receipt: &Receipt) -> Option<u64> {
        let sequence = receipt.message().sequence();
        let exception = self.exceptions.get(&sequence)?;
        let State::Leased(lease) = &exception.state else { return None };
        let matches = lease.nonce == receipt.nonce()
            && lease.message == receipt.message()
            && exception.attempts == receipt.attempt();
        matches.then_some(sequence)
    }

    /// The exception is leased no longer; what it is instead is the caller's next step.
    pub(super) fn end_lease(&mut self, sequence: u64, around: &mut Surroundings<'_, '_>) {
        let timer = self.timer(sequence);
        if let Some(Exception { state: State::Leased(lease), .. }) = self.exceptions.get(&sequence)
        {
            around.timers.remove(&(lease.until, timer));
            self.counts.in_flight -= 1;
        }
    }

    /// A delivery came to nothing: again after `delay` or the topic's backoff, whichever is longer, or
    /// to the dead letters.
    pub(super) fn fail(
        &mut self,
        sequence: u64,
        delay: Duration,
        reason: DeadReason,
        around: &mut Surroundings<'_, '_>,
    ) {
        if self.vanish(sequence, around) {
            return;
        }
        let timer = self.timer(sequence);
        let Some(exception) = self.exceptions.get_mut(&sequence) else { return };
        let backoff = around.settings.backoff;
        let pause = backoff.map_or(delay, |it| it.pause(sequence, exception.attempts).max(delay));
        if exception.attempts >= around.settings.max_attempts {
            self.die(sequence, reason, around);
        } else if pause.is_zero() {
            self.make_ready(sequence, around.step);
        } else {
            let until = around.step.now + pause;
            exception.state = State::Delayed { until };
            self.counts.delayed += 1;
            around.timers.insert((until, timer));
        }
    }

    /// Forgets an exception whose message was dropped while it was leased. Whether it was.
    fn vanish(&mut self, sequence: u64, around: &mut Surroundings<'_, '_>) -> bool {
        let Some(exception) = self.exceptions.get(&sequence) else { return true };
        if exception.own.is_some() || around.log.get(sequence).is_some() {
            return false;
        }
        let key = exception.key.clone();
        self.exceptions.remove(&sequence);
        self.release_key(sequence, key.as_ref(), around);
        true
    }

    fn die(&mut self, sequence: u64, reason: DeadReason, around: &mut Surroundings<'_, '_>) {
        let Some(exception) = self.exceptions.remove(&sequence) else { return };
        let message = match &exception.own {
            Some(own) => own.as_ref().clone(),
            None => match around.log.get(sequence) {
                Some(stored) => stored.to_message(),
                None => return,
            },
        };
        *around.held += message.weight();
        around.step.events.push(Event::Died {
            topic: around.step.topic.clone(),
            group: self.name().clone(),
            message: message.id,
            reason,
        });
        let died_at = around.step.now;
        let attempts = exception.attempts;
        // The state is still that of the delivery that failed.
        let consumer = match &exception.state {
            State::Leased(lease) => Some(lease.consumer.clone()),
            State::Ready | State::Delayed { .. } => None,
        };
        self.dead.push_back(Dead { message, attempts, died_at, reason, consumer });
        self.settled(sequence, &exception, around);
    }

    /// The group is done with the message, whose exception is removed and counted nowhere.
    fn settled(&mut self, sequence: u64, exception: &Exception, around: &mut Surroundings<'_, '_>) {
        match &exception.own {
            Some(own) => *around.held -= own.weight(),
            None => drop(around.log.settle(sequence, around.groups)),
        }
        self.release_key(sequence, exception.key.as_ref(), around);
    }
}
