//! What a cache does as time passes.

use super::operation::{Operation, OperationId};
use super::{Cache, Timer};
use crate::error::CacheError;
use crate::view::Timestamp;

impl Cache {
    /// Does what is due. Early, late or repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Get(key) => self.repeat_get(now, &key),
                Timer::WriteBack(key) => self.repeat_write_back(now, &key),
                Timer::Through(key) => self.repeat_through(now, &key),
                Timer::Flush(key) => self.flush_line(now, &key),
                Timer::Hints => self.send_hints(),
                Timer::Sweep => self.sweep(now),
                Timer::Lease => self.set_short_way(now),
                Timer::Surrender(home) => self.repeat_surrender(now, home),
                Timer::Inspect(request) => self.repeat_inspection(now, request),
                Timer::Operation(id) => self.expire(now, id),
            }
        }
    }

    /// Gives an operation up: nobody waits for its answer. One that has not begun never will; a
    /// write that is on its way goes on.
    pub fn cancel(&mut self, id: OperationId) {
        self.take_waiting(id);
        self.unregister(id);
    }

    /// Ends, clean or not: every operation is answered. One that has not begun never will; a write
    /// that is on its way may or may not be done.
    pub fn close(&mut self) {
        self.leaving = true;
        self.close_short_way();
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            if self.give_up_inspection(id) {
                continue;
            }
            let waited = self.take_waiting(id);
            self.fail(id, if waited { CacheError::ShutDown } else { CacheError::Indeterminate });
        }
    }

    fn expire(&mut self, now: Timestamp, id: OperationId) {
        if self.give_up_inspection(id) {
            return;
        }
        let parked = self.parked.iter().any(|(_, operation)| operation.id == id);
        let waited = self.take_waiting(id);
        if !self.open.contains_key(&id) {
            return;
        }
        let error = if !waited {
            CacheError::Indeterminate
        } else if parked && !self.view.contains(self.member) {
            CacheError::NoView
        } else if !self.is_leased(now) {
            CacheError::LeaseExpired
        } else {
            CacheError::Unavailable
        };
        self.fail(id, error);
    }

    /// Takes out an operation that has not had any effect; whether there was one.
    fn take_waiting(&mut self, id: OperationId) -> bool {
        let Some(open) = self.open.get(&id) else { return false };
        let key = open.key.clone();
        let mut taken = 0;
        let mut other = |operation: &Operation| {
            taken += usize::from(operation.id == id);
            operation.id != id
        };
        self.parked.retain(|(_, operation)| other(operation));
        self.stalled.retain(|(_, operation)| other(operation));
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.waiting.retain(|waiting| other(&waiting.operation));
        }
        if let Some(write_back) = self.write_backs.get_mut(&key) {
            write_back.waiting.retain(&mut other);
        }
        if let Some(through) = self.lines.through_mut(&key) {
            through.waiting.retain(&mut other);
        }
        taken > 0
    }
}
