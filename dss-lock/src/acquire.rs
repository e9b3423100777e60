//! Asking for a lock, taking the request back, and giving the lock back.

use crate::claims::Claims;
use crate::command::{AcquireRequest, Mode, ReleaseRequest, Wait};
use crate::limits::{LOCKS_PER_SESSION_MAX, WAITERS_PER_LOCK_MAX};
use crate::lock::{Class, Place, Waiter};
use crate::names::{LockName, Owner};
use crate::numbers::AttemptId;
use crate::reply::{Event, Grant, Limit, Outcome, ReleaseOutcome, Reply};
use crate::table::LockTable;

impl LockTable {
    pub(crate) fn acquire(
        &mut self,
        attempt: AttemptId,
        request: AcquireRequest,
        events: &mut Vec<Event>,
    ) -> Reply {
        match self.renew(&request.session, request.ttl, events) {
            Ok(session) => session.owner_mut(&request.owner),
            Err(limit) => return Reply::Ended(Outcome::Refused(limit)),
        };
        let owner = request.owner();
        let reply = match self.repeat(attempt, &owner, &request) {
            Some(reply) => reply,
            None => match self.answer(attempt, &owner, &request) {
                Some(outcome) => {
                    self.record_at_once(&owner, request, &outcome);
                    Reply::Ended(outcome)
                }
                None => Reply::Waiting,
            },
        };
        self.settle(&owner);
        reply
    }

    /// The answer to a request that was made before.
    fn repeat(
        &mut self,
        attempt: AttemptId,
        owner: &Owner,
        request: &AcquireRequest,
    ) -> Option<Reply> {
        let request_id = request.request_id.as_ref()?;
        let state = self.owner(owner)?;
        if let Some((name, place)) = state.wait.clone() {
            let lock = self.locks.get_mut(&name)?;
            let waiter = lock.queue.get_mut(&place)?;
            if waiter.request_id.as_ref() == Some(request_id) {
                waiter.claims.add(attempt);
                return Some(Reply::Waiting);
            }
        }
        let outcome = self.owner(owner)?.recorded(request_id)?.clone();
        if let Outcome::Granted(grant) = &outcome {
            self.claim(attempt, owner, grant);
        }
        Some(Reply::Ended(outcome))
    }

    /// Adds a claim to the grant, where it is still in force.
    fn claim(&mut self, attempt: AttemptId, owner: &Owner, grant: &Grant) {
        let lock = self.locks.get_mut(&grant.lock);
        let Some(hold) = lock.and_then(|lock| lock.holders.get_mut(owner)) else { return };
        if hold.token == grant.token {
            hold.claims.add(attempt);
        } else if let Some(shared) = &mut hold.upgraded_from
            && shared.token == grant.token
        {
            shared.claims.add(attempt);
        }
    }

    /// Grants, refuses, or lets wait, which is `None`.
    fn answer(
        &mut self,
        attempt: AttemptId,
        owner: &Owner,
        request: &AcquireRequest,
    ) -> Option<Outcome> {
        let AcquireRequest { lock: name, mode, .. } = request;
        let state = self.active_owner(owner);
        if state.wait.is_some() {
            return Some(Outcome::OwnerBusy);
        }
        let contested = state.contested > 0;
        let held = self.locks.get(name).and_then(|lock| lock.holders.get(owner));
        if let Some(hold) = held
            && (hold.mode == *mode || hold.mode == Mode::Exclusive)
        {
            let (mode, token) = (hold.mode, hold.token);
            let session = owner.session.clone();
            let grant = Grant { lock: name.clone(), session, mode, token };
            self.claim(attempt, owner, &grant);
            return Some(Outcome::Granted(grant));
        }
        let upgrade = held.is_some();
        if self.sessions[&owner.session].locks >= LOCKS_PER_SESSION_MAX {
            return Some(Outcome::Refused(Limit::LocksPerSession));
        }
        let Some(lock) = self.locks.get(name) else {
            return Some(self.grant_now(attempt, owner, request));
        };
        let compatible = lock.is_compatible(owner, *mode);
        if compatible && (upgrade || lock.queue.is_empty()) {
            return Some(self.grant_now(attempt, owner, request));
        }
        if request.wait == Wait::Try {
            return Some(Outcome::Held { holders: lock.holding_sessions() });
        }
        if lock.queue.len() >= WAITERS_PER_LOCK_MAX {
            return Some(Outcome::Refused(Limit::WaitersPerLock));
        }
        if contested && let Some(cycle) = self.find_cycle(owner, name) {
            // A reader that only the queue keeps out has not deadlocked with any holder: to let it
            // pass costs the writer ahead of it less than an abort would cost the reader.
            return Some(if compatible {
                self.grant_now(attempt, owner, request)
            } else {
                Outcome::Deadlock { cycle }
            });
        }
        let class = if upgrade { Class::Upgrade } else { Class::Ordinary };
        self.wait(attempt, owner, request, Place { class, index: self.index });
        None
    }

    fn grant_now(
        &mut self,
        attempt: AttemptId,
        owner: &Owner,
        request: &AcquireRequest,
    ) -> Outcome {
        let claims = Claims::of(attempt);
        Outcome::Granted(self.add_hold(&request.lock, owner, request.mode, claims))
    }

    fn wait(&mut self, attempt: AttemptId, owner: &Owner, request: &AcquireRequest, place: Place) {
        let deadline = match request.wait {
            Wait::For(span) => Some(self.now.after(span)),
            Wait::Try | Wait::Forever => None,
        };
        let waiter = Waiter {
            owner: owner.clone(),
            mode: request.mode,
            deadline,
            request_id: request.request_id.clone(),
            claims: Claims::of(attempt),
        };
        self.enqueue(&request.lock, place, waiter);
    }

    /// Records an answer that was given at once. A refusal did nothing and may be tried again.
    fn record_at_once(&mut self, owner: &Owner, request: AcquireRequest, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Refused(_))
            && let Some(request_id) = request.request_id
        {
            self.active_owner(owner).record(request_id, outcome.clone());
        }
    }

    pub(crate) fn cancel(
        &mut self,
        attempt: AttemptId,
        name: &LockName,
        owner: &Owner,
        events: &mut Vec<Event>,
    ) -> Reply {
        if self.withdraw_wait(attempt, name, owner) {
            self.end_wait(owner, Outcome::Cancelled, events);
            self.grant_waiting(name, events);
        } else if self.withdraw_hold(attempt, name, owner) {
            self.settle(owner);
            self.grant_waiting(name, events);
        }
        Reply::Done
    }

    /// Takes a claim back from the wait for `name`; `true` where it was the last one, which is
    /// then left in place for the report of its end.
    fn withdraw_wait(&mut self, attempt: AttemptId, name: &LockName, owner: &Owner) -> bool {
        let wait = self.owner(owner).and_then(|state| state.wait.as_ref());
        let Some(place) = wait.and_then(|(awaited, place)| (awaited == name).then_some(*place))
        else {
            return false;
        };
        let lock = self.locks.get_mut(name).expect("a lock that is waited for is there");
        let waiter = lock.queue.get_mut(&place).expect("a waiter is where its owner says");
        let mut left = waiter.claims.clone();
        let last = left.withdraw(attempt);
        if !last {
            waiter.claims = left;
        }
        last
    }

    /// Takes a claim back from the hold of `name`, and the grant with it where it was the last;
    /// `true` where that changed who holds the lock how.
    fn withdraw_hold(&mut self, attempt: AttemptId, name: &LockName, owner: &Owner) -> bool {
        let lock = self.locks.get_mut(name);
        let Some(hold) = lock.and_then(|lock| lock.holders.get_mut(owner)) else { return false };
        if let Some(shared) = &mut hold.upgraded_from
            && shared.claims.withdraw(attempt)
        {
            let token = shared.token;
            hold.upgraded_from = None;
            self.active_owner(owner).forget_grant(token);
            return false;
        }
        if !hold.claims.withdraw(attempt) {
            return false;
        }
        let token = hold.token;
        if let Some(shared) = hold.upgraded_from.take() {
            hold.mode = Mode::Shared;
            hold.token = shared.token;
            hold.claims = shared.claims;
        } else {
            self.remove_hold(name, owner);
        }
        self.active_owner(owner).forget_grant(token);
        true
    }

    pub(crate) fn release(&mut self, request: &ReleaseRequest, events: &mut Vec<Event>) -> Reply {
        let owner = request.owner();
        if self.sessions.contains_key(&request.session) {
            self.renew(&request.session, None, events).expect("a session that is there stays");
        }
        let lock = self.locks.get(&request.lock);
        let Some(hold) = lock.and_then(|lock| lock.holders.get(&owner)) else {
            return Reply::Release(ReleaseOutcome::NotHolder);
        };
        if request.token.is_some_and(|token| token != hold.token) {
            return Reply::Release(ReleaseOutcome::StaleToken);
        }
        self.remove_hold(&request.lock, &owner);
        self.settle(&owner);
        self.grant_waiting(&request.lock, events);
        Reply::Release(ReleaseOutcome::Released)
    }

    pub(crate) fn force_release(&mut self, name: &LockName, events: &mut Vec<Event>) -> Reply {
        let lock = self.locks.get(name);
        let holders: Vec<Owner> =
            lock.into_iter().flat_map(|lock| lock.holders.keys()).cloned().collect();
        for holder in &holders {
            self.remove_hold(name, holder);
            self.settle(holder);
        }
        self.grant_waiting(name, events);
        Reply::Done
    }
}
