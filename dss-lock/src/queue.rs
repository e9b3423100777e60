//! How holds and waits come and go: the only code that changes holders and queues, so that locks
//! and owners always say the same.

use crate::claims::Claims;
use crate::command::Mode;
use crate::lock::{Class, Hold, Place, SharedHold, Waiter};
use crate::names::{LockName, Owner};
use crate::reply::{Event, Grant, Outcome};
use crate::table::{LockTable, active_owner};

impl LockTable {
    /// Grants `lock` to `owner`, who waits for nothing: a new hold, or the upgrade of a shared one.
    pub(crate) fn add_hold(
        &mut self,
        name: &LockName,
        owner: &Owner,
        mode: Mode,
        claims: Claims,
    ) -> Grant {
        self.newest_token = self.newest_token.next();
        let token = self.newest_token;
        let lock = self.locks.entry(name.clone()).or_default();
        assert!(lock.is_compatible(owner, mode), "a grant beside holders that exclude it");
        lock.newest = token;
        let contested = !lock.queue.is_empty();
        let hold = Hold { mode, token, claims, upgraded_from: None };
        if let Some(replaced) = lock.holders.insert(owner.clone(), hold) {
            let shared = SharedHold { token: replaced.token, claims: replaced.claims };
            let hold = lock.holders.get_mut(owner).expect("it has just been inserted");
            hold.upgraded_from = Some(shared);
        } else {
            let session =
                self.sessions.get_mut(&owner.session).expect("only a living session asks");
            session.locks += 1;
            let state = session.owner_mut(&owner.owner);
            state.holds.insert(name.clone());
            state.contested += usize::from(contested);
        }
        Grant { lock: name.clone(), session: owner.session.clone(), mode, token }
    }

    /// Takes `lock` from `owner`; nothing is granted yet.
    pub(crate) fn remove_hold(&mut self, name: &LockName, owner: &Owner) -> Option<Hold> {
        let lock = self.locks.get_mut(name)?;
        let hold = lock.holders.remove(owner)?;
        let contested = !lock.queue.is_empty();
        let state = self.active_owner(owner);
        state.holds.remove(name);
        state.contested -= usize::from(contested);
        self.count_less(owner);
        self.demote(name, owner);
        Some(hold)
    }

    /// Puts the upgrade of an owner that has lost its shared hold where it came in the order of
    /// arrival. Were it left in front, the next upgrade would queue behind it, and each would wait
    /// for the other.
    fn demote(&mut self, name: &LockName, owner: &Owner) {
        let Some((awaited, place)) = &mut self.active_owner(owner).wait else { return };
        if awaited != name || place.class != Class::Upgrade {
            return;
        }
        let before = *place;
        place.class = Class::Ordinary;
        let after = *place;
        let lock = self.locks.get_mut(name).expect("a lock that is waited for is there");
        let waiter = lock.queue.remove(&before).expect("a waiter is where its owner says");
        lock.queue.insert(after, waiter);
    }

    /// Puts a waiter into the queue of a lock that is held.
    pub(crate) fn enqueue(&mut self, name: &LockName, place: Place, waiter: Waiter) {
        let lock = self.locks.get_mut(name).expect("nobody waits for a lock that is free");
        if lock.queue.is_empty() {
            for holder in lock.holders.keys() {
                active_owner(&mut self.sessions, holder).contested += 1;
            }
        }
        if let Some(deadline) = waiter.deadline {
            self.deadlines.insert((deadline, waiter.owner.clone()));
        }
        let session =
            self.sessions.get_mut(&waiter.owner.session).expect("only a living session asks");
        session.locks += 1;
        session.owner_mut(&waiter.owner.owner).wait = Some((name.clone(), place));
        lock.queue.insert(place, waiter);
    }

    /// Takes a waiter out of the queue; nothing is granted yet.
    fn dequeue(&mut self, name: &LockName, place: Place) -> Waiter {
        let lock = self.locks.get_mut(name).expect("a lock that is waited for is there");
        let waiter = lock.queue.remove(&place).expect("a waiter is where its owner says");
        if lock.queue.is_empty() {
            for holder in lock.holders.keys() {
                active_owner(&mut self.sessions, holder).contested -= 1;
            }
        }
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, waiter.owner.clone()));
        }
        self.active_owner(&waiter.owner).wait = None;
        self.count_less(&waiter.owner);
        waiter
    }

    fn count_less(&mut self, owner: &Owner) {
        let session = self.sessions.get_mut(&owner.session).expect("its owner has just been there");
        session.locks -= 1;
    }

    /// Ends the wait of `owner`, who waits, without a grant; the lock that it waited for.
    ///
    /// What that makes grantable is left to the caller.
    pub(crate) fn end_wait(
        &mut self,
        owner: &Owner,
        outcome: Outcome,
        events: &mut Vec<Event>,
    ) -> LockName {
        let wait = self.active_owner(owner).wait.clone();
        let (name, place) = wait.expect("only a wait is ended");
        let waiter = self.dequeue(&name, place);
        self.conclude(&name, waiter, outcome, events);
        self.settle(owner);
        name
    }

    /// Grants to the first in the queue for as long as that is possible, and forgets the lock
    /// where nobody is left.
    pub(crate) fn grant_waiting(&mut self, name: &LockName, events: &mut Vec<Event>) {
        while let Some(lock) = self.locks.get(name)
            && let Some(place) = lock.grantable()
        {
            let waiter = self.dequeue(name, place);
            let grant = self.add_hold(name, &waiter.owner, waiter.mode, waiter.claims.clone());
            self.conclude(name, waiter, Outcome::Granted(grant), events);
        }
        if self.locks.get(name).is_some_and(|lock| lock.holders.is_empty()) {
            let lock = self.locks.remove(name).expect("it has just been looked at");
            assert!(lock.queue.is_empty(), "whoever is first in the queue of a free lock gets it");
        }
    }

    /// Records and reports how the wait of `waiter` ended.
    fn conclude(
        &mut self,
        name: &LockName,
        waiter: Waiter,
        outcome: Outcome,
        events: &mut Vec<Event>,
    ) {
        // Whoever took a request back has had no answer that a repeat would have to agree with.
        if outcome != Outcome::Cancelled
            && let Some(request_id) = waiter.request_id
        {
            self.active_owner(&waiter.owner).record(request_id, outcome.clone());
        }
        events.push(Event::WaitEnded {
            lock: name.clone(),
            owner: waiter.owner,
            attempts: waiter.claims.attempts().to_vec(),
            outcome,
        });
    }
}
