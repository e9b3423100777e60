//! The lock table: one step per command.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Command, Expiry};
use crate::limits::{SESSIONS_MAX, TTL_DEFAULT};
use crate::lock::Lock;
use crate::names::{LockName, Owner, SessionId};
use crate::numbers::{ClusterTime, FencingToken};
use crate::reply::{Event, Limit, Outcome, Reply};
use crate::session::{OwnerState, Session};

/// All locks and sessions: a deterministic machine without clock or randomness.
///
/// The same commands at the same indexes bring every replica into the same state with the same
/// answers. Every command ends by granting whatever it has made grantable, so there is never a
/// lock that waits for somebody to take it.
///
/// - Commands: [`apply`](LockTable::apply).
/// - When time alone will end a wait: [`next_deadline`](LockTable::next_deadline). Sessions end
///   only by command, since their signs of life need not all be in the log.
/// - Getters: [`lock`](LockTable::lock), [`locks`](LockTable::locks),
///   [`session`](LockTable::session), [`wait_for`](LockTable::wait_for),
///   [`is_valid`](LockTable::is_valid), [`find`](LockTable::find).
/// - All of it as bytes: [`snapshot`](LockTable::snapshot), [`restore`](LockTable::restore).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockTable {
    /// Of the command that is, or was last, applied.
    pub(crate) index: u64,
    pub(crate) now: ClusterTime,
    /// Of the newest grant of any lock. Never falls: it is what fencing hangs on.
    pub(crate) newest_token: FencingToken,
    pub(crate) locks: BTreeMap<LockName, Lock>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// When each wait that has a deadline ends; an owner has at most one wait.
    pub(crate) deadlines: BTreeSet<(ClusterTime, Owner)>,
}

impl LockTable {
    /// A table without locks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the command that stands at `index` of the log, at the time `now`.
    ///
    /// Indexes rise; they name what commands create. Time that runs backwards is taken to stand
    /// still. Waits that end by `now` have timed out before the command is looked at.
    ///
    /// # Panics
    ///
    /// Where `index` is not greater than that of the last command: to apply one twice would grant
    /// what was not asked for.
    pub fn apply(&mut self, index: u64, now: ClusterTime, command: Command) -> (Reply, Vec<Event>) {
        assert!(index > self.index, "command {index} after command {}", self.index);
        self.index = index;
        self.now = self.now.max(now);
        let mut events = Vec::new();
        self.time_out(&mut events);
        let reply = match command {
            Command::OpenSession { session, ttl } => self.open(&session, ttl, &mut events),
            Command::CloseSession { session } => self.close(&session, &mut events),
            Command::Expire { sessions } => self.expire(&sessions, &mut events),
            Command::Acquire { attempt, request } => self.acquire(attempt, request, &mut events),
            Command::Cancel { attempt, lock, owner } => {
                self.cancel(attempt, &lock, &owner, &mut events)
            }
            Command::Release(request) => self.release(&request, &mut events),
            Command::ForceRelease { lock } => self.force_release(&lock, &mut events),
            Command::Tick => Reply::Done,
        };
        (reply, events)
    }

    /// The index of the last command.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The time of the last command.
    #[must_use]
    pub fn now(&self) -> ClusterTime {
        self.now
    }

    /// The newest fencing token of all.
    #[must_use]
    pub fn newest_token(&self) -> FencingToken {
        self.newest_token
    }

    /// When the next wait times out: from then on any command, [`Command::Tick`] for want of
    /// another, will find it so.
    #[must_use]
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends the waits whose time has come, the earliest first, so that whoever a time-out lets
    /// through is granted at that time and does not time out with it.
    fn time_out(&mut self, events: &mut Vec<Event>) {
        while let Some((deadline, owner)) = self.deadlines.first()
            && *deadline <= self.now
        {
            let owner = owner.clone();
            let lock = self.end_wait(&owner, Outcome::TimedOut, events);
            self.grant_waiting(&lock, events);
        }
    }

    fn open(&mut self, session: &SessionId, ttl: Duration, events: &mut Vec<Event>) -> Reply {
        Reply::Session(self.renew(session, Some(ttl), events).map(|state| state.view(session)))
    }

    /// Notes a sign of life of `session`, and opens it where there is none.
    pub(crate) fn renew(
        &mut self,
        session: &SessionId,
        ttl: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> Result<&mut Session, Limit> {
        if !self.sessions.contains_key(session) {
            if self.sessions.len() >= SESSIONS_MAX {
                return Err(Limit::Sessions);
            }
            let state = Session::new(ttl.unwrap_or(TTL_DEFAULT), self.index);
            self.sessions.insert(session.clone(), state);
        }
        let state = self.sessions.get_mut(session).expect("it has been made where it was not");
        state.renew(ttl, self.index);
        events.push(Event::SessionRenewed {
            session: session.clone(),
            ttl: state.ttl,
            renewal: state.renewal,
        });
        Ok(state)
    }

    fn close(&mut self, session: &SessionId, events: &mut Vec<Event>) -> Reply {
        let existed = self.sessions.contains_key(session);
        self.end_sessions([session], events);
        Reply::Closed(existed)
    }

    fn expire(&mut self, expiries: &[Expiry], events: &mut Vec<Event>) -> Reply {
        let dead = expiries.iter().filter(|expiry| {
            let state = self.sessions.get(&expiry.session);
            state.is_some_and(|state| state.renewal == expiry.renewal)
        });
        let dead: BTreeSet<&SessionId> = dead.map(|expiry| &expiry.session).collect();
        self.end_sessions(dead, events);
        Reply::Done
    }

    /// Ends these sessions, all of them before anything is granted: what one gives up must not go
    /// to another that ends with it.
    fn end_sessions<'a>(
        &mut self,
        sessions: impl IntoIterator<Item = &'a SessionId>,
        events: &mut Vec<Event>,
    ) {
        let mut touched = BTreeSet::new();
        for session in sessions {
            let Some(state) = self.sessions.get(session) else { continue };
            let renewal = state.renewal;
            let owners: Vec<_> = state.owners.keys().cloned().collect();
            for owner in owners {
                let owner = Owner { session: session.clone(), owner };
                touched.extend(self.end_owner(&owner, events));
            }
            self.sessions.remove(session);
            events.push(Event::SessionEnded { session: session.clone(), renewal });
        }
        for lock in touched {
            self.grant_waiting(&lock, events);
        }
    }

    /// Takes everything from an owner whose session ends; the locks that are touched by it.
    fn end_owner(&mut self, owner: &Owner, events: &mut Vec<Event>) -> Vec<LockName> {
        let Some(state) = self.owner(owner) else { return Vec::new() };
        let waits = state.wait.is_some();
        let mut touched: Vec<_> = state.holds.iter().cloned().collect();
        for lock in &touched {
            self.remove_hold(lock, owner);
        }
        if waits {
            touched.push(self.end_wait(owner, Outcome::SessionExpired, events));
        }
        touched
    }

    pub(crate) fn owner(&self, owner: &Owner) -> Option<&OwnerState> {
        self.sessions.get(&owner.session)?.owners.get(&owner.owner)
    }

    /// The state of an owner that holds or waits, and so is there.
    pub(crate) fn active_owner(&mut self, owner: &Owner) -> &mut OwnerState {
        active_owner(&mut self.sessions, owner)
    }

    /// See [`Session::settle`].
    pub(crate) fn settle(&mut self, owner: &Owner) {
        if let Some(session) = self.sessions.get_mut(&owner.session) {
            session.settle(&owner.owner, self.index);
        }
    }
}

/// [`LockTable::active_owner`], where the locks are borrowed too.
pub(crate) fn active_owner<'a>(
    sessions: &'a mut BTreeMap<SessionId, Session>,
    owner: &Owner,
) -> &'a mut OwnerState {
    sessions
        .get_mut(&owner.session)
        .and_then(|session| session.owners.get_mut(&owner.owner))
        .expect("whoever holds or waits is an owner of a session that lives")
}
