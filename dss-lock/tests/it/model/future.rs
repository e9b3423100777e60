//! Who waits for ever.

use super::{Ask, LockNo, Model, OwnerNo, session_of};

impl Model {
    /// Whether somebody waits for ever, though all that can give way do. Nobody waits for ever for
    /// a delay to end.
    pub(super) fn is_stuck(&self) -> bool {
        let mut future = self.clone();
        let numbers: Vec<LockNo> = future.locks.keys().copied().collect();
        for lock in future.locks.values_mut() {
            lock.delayed = None;
        }
        for no in &numbers {
            future.pump(*no);
        }
        loop {
            let waiting: Vec<OwnerNo> =
                future.locks.values().flat_map(|lock| &lock.queue).map(|w| w.owner).collect();
            let mut gave_way = false;
            for no in numbers.iter().copied() {
                let holders = &mut future.locks.get_mut(&no).unwrap().holders;
                let before = holders.len();
                holders.retain(|(owner, _)| waiting.contains(owner));
                gave_way |= holders.len() < before;
                future.pump(no);
            }
            if !gave_way {
                return !waiting.is_empty();
            }
        }
    }

    /// Whether each of these sessions waits for the next, and the last for the first, once
    /// `ask` waits too.
    pub(crate) fn is_cycle(&self, ask: Ask, sessions: &[usize]) -> bool {
        let next = |place: usize| sessions[(place + 1) % sessions.len()];
        let holds = |lock: LockNo, session: usize, waiter: OwnerNo| {
            let holders = self.holders(lock);
            holders.iter().any(|(owner, ..)| *owner != waiter && session_of(*owner) == session)
        };
        let waits = |place: usize, session: usize| {
            let owners = [session * 2, session * 2 + 1];
            owners.into_iter().any(|owner| {
                let lock = match place == 0 {
                    true if owner == ask.owner => Some(ask.lock),
                    true => None,
                    false => self.awaits(owner),
                };
                lock.is_some_and(|lock| holds(lock, next(place), owner))
            })
        };
        sessions.first() == Some(&session_of(ask.owner))
            && sessions.iter().enumerate().all(|(place, session)| waits(place, *session))
    }
}
