//! Letting go of everything at once.

use super::{Group, State, Surroundings};
use crate::topic::{Log, Stored, Timer, Timers, forget_delay};

impl Group {
    /// Every message of the topic is forgotten, and the group's dead letters too.
    pub(crate) fn purge(&mut self, next_sequence: u64) {
        let (name, end) = (self.name.clone(), next_sequence);
        *self = Self { cursor: end, floor: end, ..Self::new(name, self.number, &Log::default()) };
    }

    /// The group is done with every message of the topic, and with its dead letters.
    pub(crate) fn settle_all(&mut self, next_sequence: u64, around: &mut Surroundings<'_, '_>) {
        let left: Vec<_> = around
            .log
            .iter()
            .filter(|stored| !self.has_settled(*stored))
            .map(Stored::sequence)
            .collect();
        self.withdraw(around);
        for sequence in left {
            if let Some(removed) = around.log.settle(sequence, around.groups) {
                forget_delay(&removed, around.timers);
            }
        }
        self.purge(next_sequence);
    }

    /// Takes back what the group has put around it: its timers and its bytes.
    pub(crate) fn withdraw(&self, around: &mut Surroundings<'_, '_>) {
        for (at, timer) in self.timers(self.number) {
            around.timers.remove(&(at, timer));
        }
        *around.held -= self.held();
    }

    /// Takes another place among the topic's groups.
    pub(crate) fn renumber(&mut self, number: usize, timers: &mut Timers) {
        for timer in self.timers(self.number) {
            timers.remove(&timer);
        }
        self.number = number;
        timers.extend(self.timers(number));
    }

    /// The bytes that the group holds beside the log.
    pub(super) fn held(&self) -> u64 {
        let own = self.exceptions.values().filter_map(|exception| exception.own.as_deref());
        let dead = self.dead.iter().map(|dead| &dead.message);
        own.chain(dead).map(crate::message::Message::weight).sum()
    }

    /// The timers of a group with this number and these exceptions.
    pub(super) fn timers(
        &self,
        group: usize,
    ) -> impl Iterator<Item = (crate::time::UnixMillis, Timer)> {
        self.exceptions.iter().filter_map(move |(sequence, exception)| {
            let timer = Timer::Exception { group, sequence: *sequence };
            match &exception.state {
                State::Ready => None,
                State::Leased(lease) => Some((lease.until, timer)),
                State::Delayed { until } => Some((*until, timer)),
            }
        })
    }
}
