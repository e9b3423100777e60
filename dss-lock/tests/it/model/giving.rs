//! How locks are given back, taken back and taken away.

use std::collections::BTreeSet;

use super::{Ask, End, LockNo, Model, OwnerNo, session_of};

impl Model {
    pub(crate) fn cancel(&mut self, ask: Ask) {
        let Ask { attempt, owner, .. } = ask;
        let locks: Vec<LockNo> = ask.wants().into_iter().map(|(no, _)| no).collect();
        // A repeat joins the wait of its request id, whatever locks it names itself.
        let named = self.awaits(owner).is_some_and(|first| locks.contains(&first));
        let queues = self.locks.values_mut().flat_map(|lock| &mut lock.queue);
        let mut queues = queues.filter(|_| named);
        if let Some(waiting) = queues.find(|w| w.owner == owner && w.claims.contains(&attempt)) {
            if waiting.claims.len() == 1 {
                self.end_wait(owner, &End::Cancelled);
                return;
            }
            for waiting in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
                waiting.claims.retain(|claim| *claim != attempt);
            }
            return;
        }
        let (mut forgotten, mut changed) = (Vec::new(), Vec::new());
        for no in locks {
            let before = self.holders(no);
            let Some(lock) = self.locks.get_mut(&no) else { continue };
            for (_, levels) in lock.holders.iter_mut().filter(|(holder, _)| *holder == owner) {
                for level in levels.iter_mut() {
                    level.claims.retain(|claim| *claim != attempt);
                }
                forgotten.extend(levels.extract_if(.., |level| level.claims.is_empty()));
            }
            lock.holders.retain(|(_, levels)| !levels.is_empty());
            // Where nobody holds it in another way than before, nobody's turn has come.
            if self.holders(no) != before {
                changed.push(no);
            }
        }
        for level in forgotten {
            self.records.retain(|(_, _, end)| match end {
                End::Granted(_, _, token) => *token != level.token,
                End::GrantedAll(grants) => grants.iter().all(|(.., token)| *token != level.token),
                _ => true,
            });
        }
        for no in changed {
            self.settle(owner, no);
        }
    }

    /// An owner that waits to upgrade what it has lost goes back in the queue. There it may come
    /// to wait for requests that it was ahead of.
    fn settle(&mut self, owner: OwnerNo, no: LockNo) {
        if let Some(lock) = self.locks.get_mut(&no) {
            lock.sort();
        }
        if self.awaits(owner) == Some(no) && self.is_stuck() {
            self.deadlocks += 1;
            self.end_wait(owner, &End::Deadlock);
        }
        self.pump(no);
    }

    pub(crate) fn release(
        &mut self,
        owner: OwnerNo,
        no: LockNo,
        token: Option<u64>,
    ) -> &'static str {
        let lock = self.locks.entry(no).or_default();
        let Some(place) = lock.holders.iter().position(|(holder, _)| *holder == owner) else {
            return "not holder";
        };
        if token.is_some_and(|token| token != lock.holders[place].1.last().unwrap().token) {
            return "stale";
        }
        lock.holders.remove(place);
        self.settle(owner, no);
        "released"
    }

    pub(crate) fn force_release(&mut self, no: LockNo) {
        let mut holders = std::mem::take(&mut self.locks.entry(no).or_default().holders);
        holders.sort_by_key(|(_, levels)| levels.last().unwrap().token);
        self.locks.get_mut(&no).unwrap().sort();
        for (owner, _) in holders {
            if self.awaits(owner) == Some(no) && self.is_stuck() {
                self.end_wait_quietly(owner);
            }
        }
        self.pump(no);
    }

    fn end_wait_quietly(&mut self, owner: OwnerNo) {
        self.deadlocks += 1;
        let (locks, waiting) = self.unqueue(owner);
        self.report(locks[0], &waiting, &End::Deadlock);
    }

    pub(crate) fn end_sessions(&mut self, sessions: &[usize]) {
        let dead = |owner: OwnerNo| sessions.contains(&session_of(owner));
        let mut touched = BTreeSet::new();
        for (no, lock) in &mut self.locks {
            let holders = lock.holders.len();
            lock.holders.retain(|(owner, _)| !dead(*owner));
            if lock.holders.len() < holders {
                touched.insert(*no);
            }
        }
        for owner in sessions.iter().flat_map(|session| [session * 2, session * 2 + 1]) {
            if self.awaits(owner).is_some() {
                let (locks, waiting) = self.unqueue(owner);
                self.report(locks[0], &waiting, &End::Expired);
                touched.extend(locks);
            }
        }
        self.records.retain(|(owner, ..)| !dead(*owner));
        for no in touched {
            self.pump(no);
        }
    }
}
