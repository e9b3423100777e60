//! Giving locks back, taking requests back, and taking locks away.

use crate::command::{Mode, ReleaseRequest};
use crate::holds::Withdrawn;
use crate::lock::{Hold, Lock};
use crate::names::{LockName, Owner};
use crate::numbers::AttemptId;
use crate::reply::{DowngradeOutcome, Event, Grant, Outcome, ReleaseOutcome, Reply};
use crate::session::OwnerState;
use crate::slab::Id;
use crate::table::LockTable;

/// Why a request about a hold is refused.
enum NotHeld {
    NotHolder,
    StaleToken,
}

impl LockTable {
    pub(crate) fn release(&mut self, request: &ReleaseRequest, events: &mut Vec<Event>) -> Reply {
        let (lock, owner, hold) = match self.named_hold(request, events) {
            Ok(found) => found,
            Err(NotHeld::NotHolder) => return Reply::Release(ReleaseOutcome::NotHolder),
            Err(NotHeld::StaleToken) => return Reply::Release(ReleaseOutcome::StaleToken),
        };
        let Hold { grant, upgraded_from, .. } = &mut self.holds[hold];
        grant.entries -= 1;
        let entries = grant.entries;
        if entries > 0 {
            if let Some(shared) = upgraded_from {
                shared.entries = shared.entries.min(entries);
            }
            return Reply::Release(ReleaseOutcome::StillHeld { entries });
        }
        self.remove_hold(hold);
        self.recheck(lock, owner, events);
        self.settle(owner);
        self.grant_waiting(lock, events);
        Reply::Release(ReleaseOutcome::Released)
    }

    pub(crate) fn downgrade(&mut self, request: &ReleaseRequest, events: &mut Vec<Event>) -> Reply {
        let (lock, _, hold) = match self.named_hold(request, events) {
            Ok(found) => found,
            Err(NotHeld::NotHolder) => return Reply::Downgrade(DowngradeOutcome::NotHolder),
            Err(NotHeld::StaleToken) => return Reply::Downgrade(DowngradeOutcome::StaleToken),
        };
        let hold = &mut self.holds[hold];
        hold.grant.mode = Mode::Shared;
        hold.upgraded_from = None;
        let token = hold.grant.token;
        self.grant_waiting(lock, events);
        let (lock, session) = (request.lock.clone(), request.session.clone());
        let grant = Grant { lock, session, mode: Mode::Shared, token };
        Reply::Downgrade(DowngradeOutcome::Downgraded(grant))
    }

    /// The hold that the request is about, which is a sign of life of its session.
    #[expect(clippy::type_complexity, reason = "what was found on the way, for the two callers")]
    fn named_hold(
        &mut self,
        request: &ReleaseRequest,
        events: &mut Vec<Event>,
    ) -> Result<(Id<Lock>, Id<OwnerState>, Id<Hold>), NotHeld> {
        let session = self.find_session(&request.session).ok_or(NotHeld::NotHolder)?;
        self.note_life(session, events);
        let owner = self.find_owner_of(session, &request.owner).ok_or(NotHeld::NotHolder)?;
        let hold = self.held_by_name(&request.lock, owner).ok_or(NotHeld::NotHolder)?;
        let Hold { lock, grant, .. } = &self.holds[hold];
        if request.token.is_some_and(|token| token != grant.token) {
            return Err(NotHeld::StaleToken);
        }
        Ok((*lock, owner, hold))
    }

    /// What `owner` holds of the lock with this name.
    fn held_by_name(&self, name: &LockName, owner: Id<OwnerState>) -> Option<Id<Hold>> {
        /// Owners mostly hold few locks, and comparing names is cheaper than to search them all.
        const LOOKED_AT: u32 = 4;
        let holds = &self.owners[owner].holds;
        if holds.len > LOOKED_AT {
            return self.find_hold(self.find_lock(name)?, owner);
        }
        let mut holds = holds.iter(&self.holds, |hold| &hold.by_owner);
        holds.find(|(_, hold)| self.locks[hold.lock].name == *name).map(|(id, _)| id)
    }

    pub(crate) fn cancel(
        &mut self,
        attempt: AttemptId,
        locks: &[LockName],
        owner: &Owner,
        events: &mut Vec<Event>,
    ) -> Reply {
        let Some(owner) = self.find_owner(owner) else { return Reply::Done };
        if self.withdraw_wait(attempt, locks, owner) {
            let locks = self.end_wait(owner, Outcome::Cancelled, events);
            self.settle(owner);
            for lock in locks {
                self.grant_waiting(lock, events);
            }
            return Reply::Done;
        }
        let mut changed = Vec::new();
        for name in locks {
            if let Some(hold) = self.held_by_name(name, owner) {
                let lock = self.holds[hold].lock;
                if self.withdraw_hold(attempt, hold) {
                    changed.push(lock);
                }
            }
        }
        // Only once all of it is gone: a cycle through what goes with it is none.
        for lock in &changed {
            self.recheck(*lock, owner, events);
        }
        self.settle(owner);
        for lock in changed {
            self.grant_waiting(lock, events);
        }
        Reply::Done
    }

    /// Takes a claim back from a wait for one of these locks; `true` where it was the last one,
    /// which is then left in place for the report of its end.
    fn withdraw_wait(
        &mut self,
        attempt: AttemptId,
        locks: &[LockName],
        owner: Id<OwnerState>,
    ) -> bool {
        let Some(waiting) = &mut self.owners[owner].waiting else { return false };
        let awaited = &self.locks[self.places[waiting.place].lock].name;
        locks.contains(awaited) && waiting.claims.withdraw(attempt)
    }

    /// Takes a claim back from a hold, and the grant with it where it was the last; `true` where
    /// that changed who holds the lock how.
    fn withdraw_hold(&mut self, attempt: AttemptId, id: Id<Hold>) -> bool {
        let Hold { owner, grant, upgraded_from, .. } = &mut self.holds[id];
        let owner = *owner;
        if let Some(shared) = upgraded_from
            && shared.contains(attempt)
        {
            let entries = shared.entries;
            let withdrawn = shared.withdraw(attempt, 0);
            grant.entries = grant.entries.saturating_sub(entries - shared.entries).max(1);
            let token = shared.token;
            if matches!(withdrawn, Withdrawn::All) {
                *upgraded_from = None;
            }
            self.owners[owner].forget_entry(token, &withdrawn);
            return false;
        }
        if !grant.contains(attempt) {
            return false;
        }
        let token = grant.token;
        let below = upgraded_from.as_ref().map_or(0, |shared| shared.entries);
        let withdrawn = grant.withdraw(attempt, below);
        self.owners[owner].forget_entry(token, &withdrawn);
        if !matches!(withdrawn, Withdrawn::All) {
            return false;
        }
        if let Some(shared) = upgraded_from.take() {
            *grant = *shared;
        } else {
            self.remove_hold(id);
        }
        true
    }

    pub(crate) fn force_release(&mut self, name: &LockName, events: &mut Vec<Event>) -> Reply {
        let Some(lock) = self.find_lock(name) else { return Reply::Done };
        let mut owners = Vec::new();
        while let Some(id) = self.locks[lock].holders.first {
            let Hold { owner, ref grant, .. } = self.holds[id];
            let token = grant.token;
            events.push(Event::Revoked { lock: name.clone(), owner: self.name_of(owner), token });
            self.remove_hold(id);
            self.delay(lock, owner);
            owners.push(owner);
        }
        for owner in owners {
            self.recheck(lock, owner, events);
            self.settle(owner);
        }
        self.grant_waiting(lock, events);
        Reply::Done
    }
}
