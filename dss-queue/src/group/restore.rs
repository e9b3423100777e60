//! Checking a decoded group and filling what is derived.
//!
//! A snapshot comes from a disk or a peer. What passes here keeps every invariant that the
//! transitions rely on, so that none of them can fail later.

use std::collections::BTreeSet;

use super::{Counts, Exception, Group, State};
use crate::topic::{Ids, Log, Stored, Timers};

type Checked = Result<(), &'static str>;

impl Group {
    pub(crate) fn check(&self, log: &Log, ids: &Ids) -> Checked {
        ensure(self.cursor <= ids.next_sequence, "a cursor is beyond the end")?;
        ensure(self.floor <= self.cursor, "a floor is beyond the cursor")?;
        for (sequence, exception) in &self.exceptions {
            self.check_exception(*sequence, exception, log, ids)?;
        }
        for key in self.busy.keys() {
            self.check_busy(key, log)?;
        }
        self.check_delayed(log)?;
        self.check_dead(log)
    }

    /// Fills what is derived; `check` has passed. Answers the bytes that it holds beside the log.
    pub(crate) fn rebuild(&mut self, number: usize, log: &Log, timers: &mut Timers) -> u64 {
        self.number = number;
        self.returned.clear();
        let purged = log.iter().take_while(|stored| stored.sequence() < self.floor);
        let purged = purged.filter(|stored| stored.delayed_until().is_some()).count() as u64;
        let mut counts = Counts { delayed: log.delayed() - purged, ..Counts::default() };
        for (sequence, exception) in &self.exceptions {
            match &exception.state {
                State::Ready => {
                    counts.ready += 1;
                    if !self.waits_redriven(*sequence, exception) {
                        self.returned.insert(*sequence);
                    }
                }
                State::Leased(_) => counts.in_flight += 1,
                State::Delayed { .. } => counts.delayed += 1,
            }
        }
        timers.extend(self.timers(number));
        let visible = |sequence: u64| {
            log.get(sequence).is_some_and(|stored| stored.delayed_until().is_none())
        };
        let untouched =
            log.from(self.cursor).filter(|stored| stored.delayed_until().is_none()).count();
        let parked = self.busy.iter().flat_map(|(key, busy)| log.of_key(key, busy.from, busy.end));
        counts.ready += (untouched + parked.filter(|sequence| visible(*sequence)).count()) as u64;
        self.counts = counts;
        self.held()
    }

    /// Whether the group is done with a message of the log.
    pub(crate) fn has_settled(&self, stored: Stored<'_>) -> bool {
        let sequence = stored.sequence();
        let exception = self.exceptions.get(&sequence);
        sequence < self.floor
            || sequence < self.cursor
                && stored.delayed_until().is_none()
                && exception.is_none_or(|exception| exception.own.is_some())
                && !self.is_parked(sequence, stored.key())
    }

    fn check_exception(
        &self,
        sequence: u64,
        exception: &Exception,
        log: &Log,
        ids: &Ids,
    ) -> Checked {
        ensure(sequence < self.cursor, "an exception is not before the cursor")?;
        ensure(sequence >= self.floor, "an exception was purged")?;
        let message = match (&exception.own, log.get(sequence)) {
            (Some(own), _) => Some((own.id.sequence(), own.key.as_ref())),
            (None, Some(stored)) => {
                ensure(stored.delayed_until().is_none(), "a delayed message was delivered")?;
                Some((sequence, stored.key()))
            }
            (None, None) => None,
        };
        match message {
            Some((own, key)) => {
                ensure(own == sequence, "an exception has another's message")?;
                ensure(key == exception.key.as_ref(), "an exception has another key")?;
            }
            None => ensure(
                matches!(exception.state, State::Leased(_)),
                "a message that would be delivered is missing",
            )?,
        }
        if let State::Leased(lease) = &exception.state {
            ensure(lease.nonce < ids.next_nonce, "a nonce was never given")?;
            ensure(lease.message.sequence() == sequence, "a lease is of another message")?;
            ensure(exception.attempts > 0, "a lease is no attempt")?;
        }
        let Some(key) = &exception.key else { return Ok(()) };
        let busy = self.busy.get(key).ok_or("an exception's key is not busy")?;
        ensure(
            busy.head == sequence || busy.redriven.contains(&sequence),
            "an exception is out of its key's order",
        )?;
        ensure(!self.is_parked(sequence, Some(key)), "an exception is parked")
    }

    fn check_busy(&self, key: &crate::name::Key, log: &Log) -> Checked {
        let busy = &self.busy[key];
        ensure(busy.head < self.cursor, "a head is not before the cursor")?;
        ensure(busy.head >= self.floor, "a head was purged")?;
        ensure(busy.from <= busy.end && busy.end <= self.cursor, "a key is parked nowhere")?;
        // A redriven message may come from before the others, a parked one from anywhere.
        ensure(busy.from >= self.floor, "a parked message was purged")?;
        match self.exceptions.get(&busy.head) {
            Some(head) => ensure(head.key.as_ref() == Some(key), "a head has another key")?,
            None => {
                let head = log.get(busy.head).ok_or("a head is missing")?;
                ensure(head.key() == Some(key), "a head has another key")?;
                ensure(head.delayed_until().is_some(), "a head does not wait")?;
                ensure(!self.is_parked(busy.head, Some(key)), "a head is parked")?;
            }
        }
        for sequence in &busy.redriven {
            let waits = self.exceptions.get(sequence).is_some_and(|exception| {
                exception.own.is_some()
                    && exception.state == State::Ready
                    && exception.key.as_ref() == Some(key)
            });
            ensure(waits && *sequence != busy.head, "a redriven message does not wait")?;
        }
        Ok(())
    }

    /// A message with a key that the cursor passed before its delay was over is a head or parked.
    fn check_delayed(&self, log: &Log) -> Checked {
        for stored in log.from(self.floor).take_while(|stored| stored.sequence() < self.cursor) {
            let sequence = stored.sequence();
            let Some(key) = stored.key() else { continue };
            if stored.delayed_until().is_some() {
                let head = self.busy.get(key).is_some_and(|busy| busy.head == sequence);
                ensure(head || self.is_parked(sequence, Some(key)), "a delayed message is lost")?;
            }
        }
        Ok(())
    }

    fn check_dead(&self, log: &Log) -> Checked {
        let mut seen = BTreeSet::new();
        for dead in &self.dead {
            let sequence = dead.message.id.sequence();
            ensure(sequence < self.cursor, "a dead letter is not before the cursor")?;
            ensure(sequence >= self.floor, "a dead letter was purged")?;
            ensure(seen.insert(sequence), "a dead letter is there twice")?;
            ensure(!self.exceptions.contains_key(&sequence), "a dead letter lives")?;
            ensure(!self.is_parked(sequence, dead.message.key.as_ref()), "a dead letter waits")?;
            let delayed = log.get(sequence).is_some_and(|stored| stored.delayed_until().is_some());
            ensure(!delayed, "a dead letter is delayed")?;
        }
        Ok(())
    }

    fn waits_redriven(&self, sequence: u64, exception: &Exception) -> bool {
        let busy = exception.key.as_ref().and_then(|key| self.busy.get(key));
        busy.is_some_and(|busy| busy.redriven.contains(&sequence))
    }
}

fn ensure(holds: bool, problem: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(problem) }
}
