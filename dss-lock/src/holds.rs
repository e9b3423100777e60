//! How grants come and go: the only code that changes who holds what, so that locks and owners
//! always say the same.

use crate::claims::Claims;
use crate::command::Mode;
use crate::limits::{CLAIMS_MAX, HOLDERS_REPORTED_MAX};
use crate::lock::{Granted, Hold, Lock, Reentry};
use crate::names::{RequestId, SessionId};
use crate::numbers::AttemptId;
use crate::reply::Grant;
use crate::session::OwnerState;
use crate::slab::{Id, Links};
use crate::table::LockTable;

/// How far a list of holders is searched for further sessions: past so many of one session nobody
/// needs to know who else there is.
const HOLDERS_LOOKED_AT: usize = 4 * HOLDERS_REPORTED_MAX;

/// What has been taken back of a grant.
#[derive(Debug)]
pub(crate) enum Withdrawn {
    /// All of it.
    All,
    /// A claim, and others are left.
    Claim,
    /// A re-entry, by the request with this id.
    Reentry(Option<RequestId>),
    /// The first entry; there are others by requests with these ids.
    First { kept: Vec<RequestId> },
}

impl Granted {
    /// Whether a hold of this kind is as good as one in `mode`.
    pub(crate) fn covers(&self, mode: Mode) -> bool {
        self.mode == mode || self.mode == Mode::Exclusive
    }

    /// Enters the hold once more.
    pub(crate) fn enter(&mut self, attempt: AttemptId, request_id: Option<&RequestId>) {
        if self.reentries.iter().any(|entry| entry.claims.contains(attempt)) {
            return;
        }
        self.entries = self.entries.saturating_add(1);
        if self.reentries.len() >= CLAIMS_MAX {
            self.reentries.remove(0);
        }
        let entry = Reentry { request_id: request_id.cloned(), claims: Claims::of(attempt) };
        self.reentries.push(entry);
    }

    /// Answers once more with the hold, or with the entry into it that this request has made.
    pub(crate) fn claim(&mut self, attempt: AttemptId, request_id: Option<&RequestId>) {
        let made =
            |entry: &&mut Reentry| request_id.is_some() && entry.request_id.as_ref() == request_id;
        match self.reentries.iter_mut().find(made) {
            Some(entry) => entry.claims.add(attempt),
            None => self.claims.add(attempt),
        }
    }

    /// Takes back what `attempt` was answered. Of the entries, `below` are those of the shared grant
    /// that this one replaced.
    pub(crate) fn withdraw(&mut self, attempt: AttemptId, below: u32) -> Withdrawn {
        let entered = |entry: &Reentry| entry.claims.contains(attempt);
        if let Some(place) = self.reentries.iter().position(entered) {
            if !self.reentries[place].claims.withdraw(attempt) {
                return Withdrawn::Claim;
            }
            self.entries -= 1;
            let entry = self.reentries.remove(place);
            return match self.entries {
                0 => Withdrawn::All,
                _ => Withdrawn::Reentry(entry.request_id),
            };
        }
        if !self.claims.withdraw(attempt) {
            return Withdrawn::Claim;
        }
        // An upgrade is an entry of its own only where it was asked to count as one.
        let own = self.entries.saturating_sub(below);
        if below == 0 || own as usize > self.reentries.len() {
            self.entries -= 1;
        }
        if self.entries == 0 || (self.entries <= below && self.reentries.is_empty()) {
            return Withdrawn::All;
        }
        let kept = self.reentries.iter().filter_map(|entry| entry.request_id.clone()).collect();
        // What is left was entered by others, who stand for it from now on.
        self.claims = if self.reentries.is_empty() {
            Claims::settled()
        } else {
            self.reentries.remove(0).claims
        };
        Withdrawn::First { kept }
    }

    pub(crate) fn contains(&self, attempt: AttemptId) -> bool {
        self.claims.contains(attempt)
            || self.reentries.iter().any(|entry| entry.claims.contains(attempt))
    }
}

impl LockTable {
    /// Whether `owner` could hold the lock in `mode` beside those who hold it, the queue left
    /// aside.
    #[inline]
    pub(crate) fn admits(&self, lock: Id<Lock>, owner: Id<OwnerState>, mode: Mode) -> bool {
        let lock = &self.locks[lock];
        let delayed = lock.delayed_until.is_some();
        let Some(first) = lock.holders.first else { return !delayed };
        let first = &self.holds[first];
        match mode {
            // Beside readers only a reader can have expired.
            Mode::Shared if first.grant.mode == Mode::Shared => true,
            Mode::Shared | Mode::Exclusive => {
                !delayed && lock.holders.len == 1 && first.owner == owner
            }
        }
    }

    /// Grants the lock to `owner`, who waits for nothing: a new hold, or the upgrade of a shared
    /// one.
    pub(crate) fn add_hold(
        &mut self,
        lock: Id<Lock>,
        owner: Id<OwnerState>,
        mode: Mode,
        claims: Claims,
        counted: bool,
    ) -> Grant {
        assert!(self.admits(lock, owner, mode), "a grant beside holders that exclude it");
        self.newest_token = self.newest_token.next();
        let token = self.newest_token;
        self.locks[lock].newest = token;
        let granted = |entries| Granted { mode, token, claims, entries, reentries: Vec::new() };
        if let Some(hold) = self.find_hold(lock, owner) {
            let hold = &mut self.holds[hold];
            let entries = hold.grant.entries.saturating_add(u32::from(counted));
            let replaced = std::mem::replace(&mut hold.grant, granted(entries));
            hold.upgraded_from = Some(Box::new(replaced));
        } else {
            let hold = self.holds.insert_with(|| Hold {
                lock,
                owner,
                grant: granted(1),
                upgraded_from: None,
                by_lock: Links::default(),
                by_waiting: Links::default(),
                by_owner: Links::default(),
            });
            self.link_hold(hold);
        }
        Grant {
            lock: self.locks[lock].name.clone(),
            session: self.session_name(owner).clone(),
            mode,
            token,
        }
    }

    /// Makes a new hold known to its lock and its owner, as the newest of both.
    pub(crate) fn link_hold(&mut self, hold: Id<Hold>) {
        let Hold { lock, owner, .. } = self.holds[hold];
        self.locks[lock].holders.push_back(&mut self.holds, hold, |hold| &mut hold.by_lock);
        self.owners[owner].holds.push_back(&mut self.holds, hold, |hold| &mut hold.by_owner);
        self.sessions[self.owners[owner].session].locks += 1;
    }

    /// Takes the hold from its owner; nothing is granted yet, and the lock stays, held or not.
    pub(crate) fn remove_hold(&mut self, id: Id<Hold>) {
        let Hold { lock, owner, .. } = self.holds[id];
        self.locks[lock].holders.remove(&mut self.holds, id, |hold| &mut hold.by_lock);
        let state = &mut self.owners[owner];
        let session = &mut self.sessions[state.session];
        session.locks -= 1;
        let waits = state.waiting.is_some();
        let list = if session.ended.is_some() { &mut session.estate } else { &mut state.holds };
        list.remove(&mut self.holds, id, |hold| &mut hold.by_owner);
        if waits {
            let waiting = &mut self.locks[lock].waiting_holders;
            waiting.remove(&mut self.holds, id, |hold| &mut hold.by_waiting);
            self.demote(lock, owner);
        }
        self.holds.remove(id);
    }

    /// Sessions that hold the lock, without repeats, in the order of their grants.
    pub(crate) fn holding_sessions(&self, lock: Id<Lock>) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = Vec::new();
        let holders = self.locks[lock].holders.iter(&self.holds, |hold| &hold.by_lock);
        for (_, hold) in holders.take(HOLDERS_LOOKED_AT) {
            let session = self.session_name(hold.owner);
            if !sessions.contains(session) {
                sessions.push(session.clone());
            }
            if sessions.len() == HOLDERS_REPORTED_MAX {
                break;
            }
        }
        sessions
    }
}
