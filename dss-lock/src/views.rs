//! What can be seen of a table.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Mode;
use crate::limits::{PAGE_LOCKS_MAX, WAIT_EDGES_MAX};
use crate::lock::{Lock, Place};
use crate::names::{LockName, Owner, OwnerId, RequestId, SessionId};
use crate::numbers::{AttemptId, ClusterTime, FencingToken};
use crate::reply::{DeadlockInfo, Grant, Outcome, SessionView};
use crate::session::{OwnerState, Session};
use crate::slab::Id;
use crate::table::LockTable;

/// A lock that is held, waited for, or kept back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// Which.
    pub lock: LockName,
    /// How it is held. `None` where nobody holds it: it is kept back after an expiry, or whoever
    /// is next waits for several locks at once.
    pub mode: Option<Mode>,
    /// By whom, in the order of their grants.
    pub holders: Vec<HolderInfo>,
    /// Who waits for it, the next one first.
    pub queue: Vec<WaiterInfo>,
    /// The newest token that it has granted since it was last free.
    pub token: FencingToken,
    /// Until when it is granted to nobody, since a holder has expired that had asked for a delay.
    pub delayed_until: Option<ClusterTime>,
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderInfo {
    /// In which session.
    pub session: SessionId,
    /// Which owner of it.
    pub owner: OwnerId,
    /// How.
    pub mode: Mode,
    /// By which grant.
    pub token: FencingToken,
    /// How many releases it takes.
    pub entries: u32,
}

/// Who waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterInfo {
    /// In which session.
    pub session: SessionId,
    /// Which owner of it.
    pub owner: OwnerId,
    /// How it would hold it.
    pub mode: Mode,
}

/// Some of the locks, in order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockPage {
    /// The locks.
    pub locks: Vec<LockInfo>,
    /// Where the next page begins: after this name. `None` on the last one.
    pub next: Option<String>,
}

/// One session waits for another to give up a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WaitEdge {
    /// Who waits.
    pub waiter: SessionId,
    /// Who holds.
    pub holder: SessionId,
    /// The lock.
    pub lock: LockName,
}

/// What has become of an acquire, for whoever has missed its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It waits.
    Waiting,
    /// It has ended, and this is its answer.
    Ended(Outcome),
    /// The table does not know it: it was never applied, or has ended without a grant.
    Nothing,
}

impl LockTable {
    /// The lock, where there is anything to know of it.
    #[must_use]
    pub fn lock(&self, lock: &LockName) -> Option<LockInfo> {
        self.find_lock(lock).map(|id| self.info(&self.locks[id]))
    }

    /// The locks whose names begin with `prefix` and come after `after`, in order, `limit` of them
    /// but at most [`PAGE_LOCKS_MAX`] and at least one.
    #[must_use]
    pub fn locks(&self, prefix: &str, after: Option<&str>, limit: usize) -> LockPage {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let begins = |(_, lock): &(_, &Lock)| lock.name.as_str().starts_with(prefix);
        let mut found = self.locks_from(from).take_while(begins);
        let limit = limit.clamp(1, PAGE_LOCKS_MAX);
        let locks: Vec<_> = found.by_ref().take(limit).map(|(_, lock)| self.info(lock)).collect();
        let next = found.next().and(locks.last()).map(|last| last.lock.as_str().to_owned());
        LockPage { locks, next }
    }

    fn info(&self, lock: &Lock) -> LockInfo {
        let holders = lock.holders.iter(&self.holds, |hold| &hold.by_lock);
        let holders = holders.map(|(_, hold)| HolderInfo {
            session: self.session_name(hold.owner).clone(),
            owner: self.owners[hold.owner].name.clone(),
            mode: hold.grant.mode,
            token: hold.grant.token,
            entries: hold.grant.entries,
        });
        let queue = lock.queue.iter(&self.places, |place| &place.by_queue);
        let queue = queue.map(|(_, place)| WaiterInfo {
            session: self.session_name(place.owner).clone(),
            owner: self.owners[place.owner].name.clone(),
            mode: place.mode,
        });
        let holders: Vec<_> = holders.collect();
        LockInfo {
            lock: lock.name.clone(),
            mode: holders.first().map(|holder| holder.mode),
            holders,
            queue: queue.collect(),
            token: lock.newest,
            delayed_until: lock.delayed_until,
        }
    }

    /// The session, where it lives.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> Option<SessionView> {
        self.find_session(session).map(|id| self.view(id))
    }

    pub(crate) fn view(&self, id: Id<Session>) -> SessionView {
        let session = &self.sessions[id];
        let (mut holds, mut waits_for) = (BTreeSet::new(), BTreeSet::new());
        let mut tokens = Vec::new();
        for (_, owner) in session.owners.iter(&self.owners, |owner| &owner.by_session) {
            for (_, hold) in owner.holds.iter(&self.holds, |hold| &hold.by_owner) {
                holds.insert(self.locks[hold.lock].name.clone());
                tokens.push(hold.grant.token);
            }
            if let Some(waiting) = &owner.waiting {
                let locks = waiting.places().map(|place| self.places[place].lock);
                waits_for.extend(locks.map(|lock| self.locks[lock].name.clone()));
            }
        }
        tokens.sort_unstable();
        SessionView {
            session: session.name.clone(),
            ttl: session.ttl,
            lock_delay: session.lock_delay,
            renewal: session.renewal,
            opened: session.opened,
            tokens,
            holds: holds.into_iter().collect(),
            waits_for: waits_for.into_iter().collect(),
        }
    }

    /// Every session that lives, with its time to live and its newest renewal, in no order: what
    /// whoever keeps the signs of life starts from.
    pub fn sessions(&self) -> impl Iterator<Item = (&SessionId, Duration, u64)> {
        let living = self.sessions.iter().filter(|(_, session)| session.ended.is_none());
        living.map(|(_, session)| (&session.name, session.ttl, session.renewal))
    }

    /// Whether the grant with this token is in force, and its session lives.
    ///
    /// The cost is that of the lock's holders.
    #[must_use]
    pub fn is_valid(&self, lock: &LockName, token: FencingToken) -> bool {
        let Some(id) = self.find_lock(lock) else { return false };
        let mut holders = self.locks[id].holders.iter(&self.holds, |hold| &hold.by_lock);
        let holder = holders.find(|(_, hold)| hold.grant.token == token);
        holder
            .is_some_and(|(_, hold)| self.sessions[self.owners[hold.owner].session].ended.is_none())
    }

    /// Who waits for whom: each waiter for each holder of the lock, since it can have its turn
    /// only after all of them or after somebody who waits for them, and for each request for
    /// several locks that is ahead of it. At most [`WAIT_EDGES_MAX`].
    #[must_use]
    pub fn wait_for(&self) -> Vec<WaitEdge> {
        let edges = self.locks_from(Bound::Unbounded).flat_map(|(_, lock)| {
            let queue = lock.queue.iter(&self.places, |place| &place.by_queue);
            let blocked = queue.filter(|(place, _)| self.is_blocked(*place));
            blocked.flat_map(move |(_, place)| {
                self.in_the_way(lock, place).map(move |holder| WaitEdge {
                    waiter: self.session_name(place.owner).clone(),
                    holder: self.session_name(holder).clone(),
                    lock: lock.name.clone(),
                })
            })
        });
        edges.take(WAIT_EDGES_MAX).collect()
    }

    /// The holders that this place waits for, and those ahead of it that wait elsewhere too.
    fn in_the_way<'a>(
        &'a self,
        lock: &'a Lock,
        place: &'a Place,
    ) -> impl Iterator<Item = Id<OwnerState>> + 'a {
        let holders = lock.holders.iter(&self.holds, |hold| &hold.by_lock);
        let holders = holders.map(|(_, hold)| hold.owner);
        let before = (lock.joint > 0).then_some(place.by_queue.before).flatten();
        let ahead = std::iter::successors(before, |id| self.places[*id].by_queue.before)
            .map(|id| &self.places[id])
            .filter(|ahead| ahead.joint)
            .filter(|ahead| ahead.mode == Mode::Exclusive || place.mode == Mode::Exclusive)
            .map(|ahead| ahead.owner);
        holders.chain(ahead).filter(|owner| *owner != place.owner)
    }

    /// The newest deadlocks that were found, the oldest first.
    pub fn deadlocks(&self) -> impl Iterator<Item = &DeadlockInfo> {
        self.deadlocks.iter()
    }

    /// What has become of the acquire `attempt`, which asked for these locks for `owner`.
    #[must_use]
    pub fn find(
        &self,
        attempt: AttemptId,
        locks: &[LockName],
        owner: &Owner,
        request_id: Option<&RequestId>,
    ) -> Found {
        let Some(id) = self.find_owner(owner) else { return Found::Nothing };
        let state = &self.owners[id];
        if state.waiting.as_ref().is_some_and(|waiting| waiting.claims.contains(attempt)) {
            return Found::Waiting;
        }
        if let Some(outcome) = request_id.and_then(|request| state.recorded(request)) {
            return Found::Ended(outcome.clone());
        }
        let held = locks.iter().filter_map(|name| self.find_hold(self.find_lock(name)?, id));
        let held = held.map(|hold| &self.holds[hold]);
        let mut grants = held.filter(|hold| hold.grant.contains(attempt)).map(|hold| Grant {
            lock: self.locks[hold.lock].name.clone(),
            session: owner.session.clone(),
            mode: hold.grant.mode,
            token: hold.grant.token,
        });
        match grants.next() {
            None => Found::Nothing,
            Some(grant) if locks.len() == 1 => Found::Ended(Outcome::Granted(grant)),
            Some(grant) => {
                Found::Ended(Outcome::GrantedAll([grant].into_iter().chain(grants).collect()))
            }
        }
    }
}
