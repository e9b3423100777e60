//! Asking for locks.

use std::collections::BTreeMap;

use crate::claims::Claims;
use crate::command::{AcquireAllRequest, AcquireRequest, Mode, Wait};
use crate::limits::{LOCKS_PER_REQUEST_MAX, LOCKS_PER_SESSION_MAX, WAITERS_PER_LOCK_MAX};
use crate::lock::{Granted, Hold};
use crate::names::RequestId;
use crate::numbers::AttemptId;
use crate::queue::{NewWait, Want};
use crate::reply::{Event, Grant, Limit, Outcome, Reply, Resolution};
use crate::session::{OwnerState, Session};
use crate::slab::Id;
use crate::table::LockTable;

/// A request, but for the locks that it asks for.
#[derive(Debug, Clone, Copy)]
struct Ask<'a> {
    attempt: AttemptId,
    session: Id<Session>,
    owner: Id<OwnerState>,
    wait: Wait,
    request_id: Option<&'a RequestId>,
    /// Whether a lock that is held already is entered once more.
    counted: bool,
    /// Whether it is a request for several locks.
    joint: bool,
}

impl LockTable {
    pub(crate) fn acquire(
        &mut self,
        attempt: AttemptId,
        request: &AcquireRequest,
        events: &mut Vec<Event>,
    ) -> Reply {
        let session = match self.renew(&request.session, request.ttl, events) {
            Ok(session) => session,
            Err(limit) => return Reply::Ended(Outcome::Refused(limit)),
        };
        let owner = self.make_owner(session, &request.owner);
        let AcquireRequest { wait, ref request_id, reentrant: counted, .. } = *request;
        let request_id = request_id.as_ref();
        let ask = Ask { attempt, session, owner, wait, request_id, counted, joint: false };
        self.serve(ask, |table| {
            let lock = table.make_lock(&request.lock);
            [Want { lock, mode: request.mode, hold: table.find_hold(lock, owner) }]
        })
    }

    pub(crate) fn acquire_all(
        &mut self,
        attempt: AttemptId,
        request: &AcquireAllRequest,
        events: &mut Vec<Event>,
    ) -> Reply {
        if !(1..=LOCKS_PER_REQUEST_MAX).contains(&request.locks.len()) {
            return Reply::Ended(Outcome::Refused(Limit::LocksPerRequest));
        }
        let session = match self.renew(&request.session, request.ttl, events) {
            Ok(session) => session,
            Err(limit) => return Reply::Ended(Outcome::Refused(limit)),
        };
        let owner = self.make_owner(session, &request.owner);
        let mut modes = BTreeMap::new();
        for (lock, mode) in &request.locks {
            // Exclusive comes first in the order of modes.
            modes
                .entry(lock)
                .and_modify(|other: &mut Mode| *other = (*mode).min(*other))
                .or_insert(*mode);
        }
        let AcquireAllRequest { wait, ref request_id, .. } = *request;
        let request_id = request_id.as_ref();
        let ask = Ask { attempt, session, owner, wait, request_id, counted: false, joint: true };
        self.serve(ask, |table| {
            let wants = modes.into_iter().map(|(name, mode)| {
                let lock = table.make_lock(name);
                Want { lock, mode, hold: table.find_hold(lock, owner) }
            });
            wants.collect::<Vec<_>>()
        })
    }

    /// Answers a request, which `wants` looks up once it is known to be a new one.
    fn serve<W: AsRef<[Want]>>(
        &mut self,
        ask: Ask<'_>,
        wants: impl FnOnce(&mut Self) -> W,
    ) -> Reply {
        let owner = ask.owner;
        if let Some(reply) = self.repeat(ask) {
            self.settle(owner);
            return reply;
        }
        let reply = if self.owners[owner].waiting.is_some() {
            Reply::Ended(Outcome::OwnerBusy)
        } else {
            let wants = wants(self);
            let wants = wants.as_ref();
            let reply = self.answer(ask, wants);
            if !matches!(reply, Reply::Waiting | Reply::Ended(Outcome::Granted(_))) {
                // It may have been looked up in vain.
                for want in wants {
                    self.forget_if_idle(want.lock);
                }
            }
            reply
        };
        if let Reply::Ended(outcome) = &reply {
            // A refusal did nothing and may be tried again.
            if let Some(request_id) = ask.request_id
                && !matches!(outcome, Outcome::Refused(_))
            {
                self.owners[owner].record(request_id.clone(), outcome.clone());
            }
            self.settle(owner);
        }
        reply
    }

    /// The answer to a request that was made before.
    fn repeat(&mut self, ask: Ask<'_>) -> Option<Reply> {
        let request_id = ask.request_id?;
        let state = &mut self.owners[ask.owner];
        if let Some(waiting) = &mut state.waiting
            && waiting.request_id.as_ref() == Some(request_id)
        {
            waiting.claims.add(ask.attempt);
            return Some(Reply::Waiting);
        }
        let outcome = state.recorded(request_id)?.clone();
        for grant in outcome.grants() {
            self.claim(ask, grant);
        }
        Some(Reply::Ended(outcome))
    }

    /// Adds a claim to the grant, where it is still in force.
    fn claim(&mut self, ask: Ask<'_>, grant: &Grant) {
        let Some(lock) = self.find_lock(&grant.lock) else { return };
        let Some(hold) = self.find_hold(lock, ask.owner) else { return };
        let Hold { grant: granted, upgraded_from, .. } = &mut self.holds[hold];
        if granted.token == grant.token {
            granted.claim(ask.attempt, ask.request_id);
        } else if let Some(shared) = upgraded_from
            && shared.token == grant.token
        {
            shared.claim(ask.attempt, ask.request_id);
        }
    }

    /// Grants, refuses, or lets wait.
    fn answer(&mut self, ask: Ask<'_>, wants: &[Want]) -> Reply {
        let owner = ask.owner;
        let covered =
            |want: &Want| want.hold.is_some_and(|hold| self.holds[hold].grant.covers(want.mode));
        if wants.iter().all(covered) {
            return Reply::Ended(self.enter(ask, wants));
        }
        if ask.joint
            && let Some(held) = wants.iter().find(|want| want.hold.is_some())
        {
            let lock = self.locks[held.lock].name.clone();
            return Reply::Ended(Outcome::AlreadyHolds { lock });
        }
        if self.sessions[ask.session].locks + wants.len() > LOCKS_PER_SESSION_MAX {
            return Reply::Ended(Outcome::Refused(Limit::LocksPerSession));
        }
        let Some(taken) = wants.iter().find(|want| !self.is_free_for(owner, want)) else {
            return Reply::Ended(self.grant_now(ask, wants));
        };
        if ask.wait == Wait::Try {
            return Reply::Ended(Outcome::Held { holders: self.holding_sessions(taken.lock) });
        }
        let full = |want: &Want| self.locks[want.lock].queue.len as usize >= WAITERS_PER_LOCK_MAX;
        if wants.iter().any(full) {
            return Reply::Ended(Outcome::Refused(Limit::WaitersPerLock));
        }
        self.wait_or_break(ask, wants)
    }

    /// Lets the request wait, unless that would be a deadlock.
    fn wait_or_break(&mut self, ask: Ask<'_>, wants: &[Want]) -> Reply {
        let Ask { attempt, owner, wait, request_id, counted, joint, .. } = ask;
        let contested = self.is_contested(owner);
        let deadline = match wait {
            Wait::For(span) => Some(self.now.after(span)),
            Wait::Try | Wait::Forever => None,
        };
        let new = NewWait {
            arrived: self.index,
            deadline,
            request_id: request_id.cloned(),
            claims: Claims::of(attempt),
            joint,
            counted,
        };
        self.enqueue(owner, new, wants);
        if !contested {
            return Reply::Waiting;
        }
        let Some(cycle) = self.find_cycle(owner) else { return Reply::Waiting };
        self.unenqueue(owner);
        let lock = wants[0].lock;
        // Who is kept out by a queue alone has not deadlocked with any holder: to let it pass
        // costs those ahead of it less than an abort would cost it.
        if wants.iter().all(|want| self.admits(want.lock, owner, want.mode)) {
            self.note_deadlock(owner, lock, cycle, Resolution::LetPast);
            return Reply::Ended(self.grant_now(ask, wants));
        }
        self.note_deadlock(owner, lock, cycle.clone(), Resolution::Refused);
        Reply::Ended(Outcome::Deadlock { cycle })
    }

    fn grant_now(&mut self, ask: Ask<'_>, wants: &[Want]) -> Outcome {
        let mut add = |want: &Want| {
            let claims = Claims::of(ask.attempt);
            self.add_hold(want.lock, ask.owner, want.mode, claims, ask.counted)
        };
        if ask.joint {
            Outcome::GrantedAll(wants.iter().map(add).collect())
        } else {
            Outcome::Granted(add(&wants[0]))
        }
    }

    /// Answers with what is held already.
    fn enter(&mut self, ask: Ask<'_>, wants: &[Want]) -> Outcome {
        let mut enter = |want: &Want| {
            let hold = want.hold.expect("all that is asked for is held");
            let granted: &mut Granted = &mut self.holds[hold].grant;
            if ask.counted {
                granted.enter(ask.attempt, ask.request_id);
            } else {
                granted.claim(ask.attempt, None);
            }
            let (mode, token) = (granted.mode, granted.token);
            let lock = self.locks[want.lock].name.clone();
            Grant { lock, session: self.session_name(ask.owner).clone(), mode, token }
        };
        if ask.joint {
            Outcome::GrantedAll(wants.iter().map(enter).collect())
        } else {
            Outcome::Granted(enter(&wants[0]))
        }
    }
}
