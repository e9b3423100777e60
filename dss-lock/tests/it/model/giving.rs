//! How locks are given back, taken back and taken away.

use std::collections::BTreeSet;

use dss_lock::{AttemptId, Mode, ReleaseOutcome};

use super::level::Void;
use super::{Ask, End, Level, LockNo, Model, OwnerNo, session_of};

impl Model {
    pub(crate) fn cancel(&mut self, ask: Ask) {
        let Ask { attempt, owner, .. } = ask;
        let locks: Vec<LockNo> = ask.wants().into_iter().map(|(no, _)| no).collect();
        // A repeat joins the wait of its request id, whatever locks it names itself.
        let named = self.awaits(owner).is_some_and(|first| locks.contains(&first));
        let queues = self.locks.values_mut().flat_map(|lock| &mut lock.queue);
        let mut queues = queues.filter(|_| named);
        if let Some(waiting) =
            queues.find(|w| w.owner == owner && w.claims.attempts.contains(&attempt))
        {
            if waiting.claims.hang_on(attempt) {
                self.end_wait(owner, &End::Cancelled);
                return;
            }
            for waiting in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
                waiting.claims.remove(attempt);
            }
            return;
        }
        let (mut forgotten, mut changed, mut void) = (Vec::new(), Vec::new(), Vec::new());
        for no in locks {
            let before = self.holders(no);
            let Some(lock) = self.locks.get_mut(&no) else { continue };
            for (_, levels) in lock.holders.iter_mut().filter(|(holder, _)| *holder == owner) {
                void.extend(take_back(attempt, levels));
                forgotten.extend(levels.extract_if(.., |level| level.entries == 0));
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
        for (token, void) in void {
            self.records.retain(|(other, id, end)| {
                let of_it = match end {
                    End::Granted(_, _, granted) => *granted == token,
                    End::GrantedAll(grants) => grants.iter().any(|(.., granted)| *granted == token),
                    _ => false,
                };
                *other != owner
                    || match &void {
                        Void::Nobodys => true,
                        Void::Of(request) => id != request,
                        Void::AllBut(others) => !of_it || others.contains(id),
                    }
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
            self.note_put_back(owner);
            self.end_wait(owner, &End::Deadlock);
        }
        self.pump(no);
    }

    /// What the owner holds of the lock, unless by another grant than this.
    fn named(
        &mut self,
        owner: OwnerNo,
        no: LockNo,
        token: Option<u64>,
    ) -> Result<&mut Vec<Level>, ReleaseOutcome> {
        let holders = &mut self.locks.entry(no).or_default().holders;
        let held = holders.iter_mut().find(|(holder, _)| *holder == owner);
        let (_, levels) = held.ok_or(ReleaseOutcome::NotHolder)?;
        if token.is_some_and(|token| token != levels.last().unwrap().token) {
            return Err(ReleaseOutcome::StaleToken);
        }
        Ok(levels)
    }

    pub(crate) fn release(
        &mut self,
        owner: OwnerNo,
        no: LockNo,
        token: Option<u64>,
    ) -> ReleaseOutcome {
        let levels = match self.named(owner, no, token) {
            Ok(levels) => levels,
            Err(refused) => return refused,
        };
        let entries = levels.last().unwrap().entries - 1;
        if entries > 0 {
            levels.last_mut().unwrap().entries = entries;
            for level in levels {
                level.entries = level.entries.min(entries);
            }
            return ReleaseOutcome::StillHeld { entries };
        }
        self.locks.get_mut(&no).unwrap().holders.retain(|(holder, _)| *holder != owner);
        self.settle(owner, no);
        ReleaseOutcome::Released
    }

    /// The token by which the lock is held shared then.
    pub(crate) fn downgrade(
        &mut self,
        owner: OwnerNo,
        no: LockNo,
        token: Option<u64>,
    ) -> Result<u64, ReleaseOutcome> {
        let levels = self.named(owner, no, token)?;
        let top = levels.pop().unwrap();
        let token = top.token;
        *levels = vec![Level { mode: Mode::Shared, ..top }];
        self.pump(no);
        Ok(token)
    }

    pub(crate) fn force_release(&mut self, no: LockNo) {
        let mut holders = std::mem::take(&mut self.locks.entry(no).or_default().holders);
        holders.sort_by_key(|(_, levels)| levels.last().unwrap().token);
        self.locks.get_mut(&no).unwrap().sort();
        for (owner, _) in &holders {
            self.delay(no, *owner);
        }
        for (owner, _) in holders {
            if self.awaits(owner) == Some(no) && self.is_stuck() {
                self.end_wait_quietly(owner);
            }
        }
        self.pump(no);
    }

    fn note_put_back(&mut self, owner: OwnerNo) {
        self.put_back += 1;
        let holds = self.locks.values().any(|lock| lock.holders.iter().any(|(no, _)| *no == owner));
        self.bare += usize::from(!holds);
    }

    fn end_wait_quietly(&mut self, owner: OwnerNo) {
        self.note_put_back(owner);
        let (locks, waiting) = self.unqueue(owner);
        self.report(locks[0], &waiting, &End::Deadlock);
    }

    /// Whoever closes its session gives up what it holds; who dies has lost it.
    pub(crate) fn end_sessions(&mut self, sessions: &[usize], closed: bool) {
        let dead = |owner: OwnerNo| sessions.contains(&session_of(owner));
        let (mut touched, mut lost) = (BTreeSet::new(), Vec::new());
        for (no, lock) in &mut self.locks {
            let gone = lock.holders.extract_if(.., |(owner, _)| dead(*owner));
            lost.extend(gone.map(|(owner, _)| (*no, owner)));
        }
        for (no, owner) in lost {
            touched.insert(no);
            if !closed {
                self.delay(no, owner);
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
        self.sessions.retain(|session, _| !sessions.contains(session));
        for no in touched {
            self.pump(no);
        }
    }
}

/// Takes an attempt back from the one level of a hold that it stands for. A level that it leaves
/// without entries is gone.
fn take_back(attempt: AttemptId, levels: &mut [Level]) -> Option<(u64, Void)> {
    let place = levels.iter().position(|level| level.knows(attempt))?;
    let before = levels[place].entries;
    let below = place.checked_sub(1).map_or(0, |below| levels[below].entries);
    let void = levels[place].take_back(attempt, below);
    let fewer = before - levels[place].entries;
    // What was entered below counts above, where there is always one entry: the upgrade.
    for above in &mut levels[place + 1..] {
        above.entries = above.entries.saturating_sub(fewer).max(1);
    }
    Some((levels[place].token, void))
}
