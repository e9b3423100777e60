//! What comes by the passing of time alone.

use super::{End, LockNo, Model, OwnerNo, session_of};

impl Model {
    /// Locks are set free before waits end at the same time.
    pub(crate) fn pass_time(&mut self, now: u64) {
        self.now = self.now.max(now);
        loop {
            let delay = self.locks.values().filter_map(|lock| lock.delayed).min();
            let waits = self.locks.values().flat_map(|lock| {
                lock.queue.iter().filter_map(|w| Some((w.until?, w.arrived, w.owner)))
            });
            let wait = waits.min();
            match (delay, wait) {
                (Some(until), wait)
                    if until <= self.now && wait.is_none_or(|(first, ..)| until <= first) =>
                {
                    self.end_delays(until);
                }
                (_, Some((until, _, owner))) if until <= self.now => {
                    self.end_wait(owner, &End::TimedOut);
                }
                _ => return,
            }
        }
    }

    fn end_delays(&mut self, until: u64) {
        let mut free = Vec::new();
        for (no, lock) in &mut self.locks {
            if lock.delayed == Some(until) {
                lock.delayed = None;
                free.push(*no);
            }
        }
        for no in free {
            self.pump(no);
        }
    }

    /// Keeps a lock back that this owner has lost without giving it up.
    pub(super) fn delay(&mut self, no: LockNo, owner: OwnerNo) {
        let delay = self.sessions.get(&session_of(owner)).copied().unwrap_or_default();
        if delay > 0 {
            let delayed = &mut self.locks.get_mut(&no).unwrap().delayed;
            *delayed = (*delayed).max(Some(self.now + delay));
        }
    }
}
