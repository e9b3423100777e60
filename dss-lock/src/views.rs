//! What can be seen of a table.

use std::ops::Bound;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Mode;
use crate::limits::{PAGE_LOCKS_MAX, WAIT_EDGES_MAX};
use crate::lock::Lock;
use crate::names::{LockName, Owner, OwnerId, RequestId, SessionId};
use crate::numbers::{AttemptId, FencingToken};
use crate::reply::{Grant, Outcome, SessionView};
use crate::table::LockTable;

/// A lock that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// Which.
    pub lock: LockName,
    /// How it is held.
    pub mode: Option<Mode>,
    /// By whom, in the order of sessions and owners.
    pub holders: Vec<HolderInfo>,
    /// Who waits for it, the next one first.
    pub queue: Vec<WaiterInfo>,
    /// The newest token that it has granted since it was last free.
    pub token: FencingToken,
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
    /// The lock, where it is held.
    #[must_use]
    pub fn lock(&self, lock: &LockName) -> Option<LockInfo> {
        self.locks.get_key_value(lock).map(|(name, lock)| info(name, lock))
    }

    /// The locks whose names begin with `prefix` and come after `after`, in order, `limit` of them
    /// but at most [`PAGE_LOCKS_MAX`] and at least one.
    #[must_use]
    pub fn locks(&self, prefix: &str, after: Option<&str>, limit: usize) -> LockPage {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let mut found = self
            .locks
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| name.as_str().starts_with(prefix));
        let limit = limit.clamp(1, PAGE_LOCKS_MAX);
        let locks: Vec<_> =
            found.by_ref().take(limit).map(|(name, lock)| info(name, lock)).collect();
        let next = found.next().and(locks.last()).map(|last| last.lock.as_str().to_owned());
        LockPage { locks, next }
    }

    /// The session, where it lives.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> Option<SessionView> {
        self.sessions.get(session).map(|state| state.view(session))
    }

    /// Every session with its time to live and its newest renewal, in order: what whoever keeps
    /// the signs of life starts from.
    pub fn sessions(&self) -> impl Iterator<Item = (&SessionId, Duration, u64)> {
        self.sessions.iter().map(|(session, state)| (session, state.ttl, state.renewal))
    }

    /// Whether the grant with this token is in force.
    #[must_use]
    pub fn is_valid(&self, lock: &LockName, token: FencingToken) -> bool {
        let lock = self.locks.get(lock);
        lock.is_some_and(|lock| lock.holders.values().any(|hold| hold.token == token))
    }

    /// Who waits for whom: each waiter for each holder of the lock, since it can have its turn
    /// only after all of them or after somebody who waits for them. At most [`WAIT_EDGES_MAX`].
    #[must_use]
    pub fn wait_for(&self) -> Vec<WaitEdge> {
        let edges = self.locks.iter().flat_map(|(name, lock)| {
            lock.queue.values().flat_map(move |waiter| {
                let holders = lock.holders.keys().filter(move |holder| **holder != waiter.owner);
                holders.map(move |holder| WaitEdge {
                    waiter: waiter.owner.session.clone(),
                    holder: holder.session.clone(),
                    lock: name.clone(),
                })
            })
        });
        edges.take(WAIT_EDGES_MAX).collect()
    }

    /// What has become of the acquire `attempt`, which asked for `lock` for `owner`.
    #[must_use]
    pub fn find(
        &self,
        attempt: AttemptId,
        name: &LockName,
        owner: &Owner,
        request_id: Option<&RequestId>,
    ) -> Found {
        let Some(state) = self.owner(owner) else { return Found::Nothing };
        let lock = self.locks.get(name);
        if let Some((awaited, place)) = &state.wait
            && awaited == name
            && let Some(waiter) = lock.and_then(|lock| lock.queue.get(place))
            && waiter.claims.contains(attempt)
        {
            return Found::Waiting;
        }
        if let Some(outcome) = request_id.and_then(|id| state.recorded(id)) {
            return Found::Ended(outcome.clone());
        }
        match lock.and_then(|lock| lock.holders.get(owner)) {
            Some(hold) if hold.claims.contains(attempt) => Found::Ended(Outcome::Granted(Grant {
                lock: name.clone(),
                session: owner.session.clone(),
                mode: hold.mode,
                token: hold.token,
            })),
            _ => Found::Nothing,
        }
    }
}

fn info(name: &LockName, lock: &Lock) -> LockInfo {
    let holders = lock.holders.iter().map(|(owner, hold)| HolderInfo {
        session: owner.session.clone(),
        owner: owner.owner.clone(),
        mode: hold.mode,
        token: hold.token,
    });
    let queue = lock.queue.values().map(|waiter| WaiterInfo {
        session: waiter.owner.session.clone(),
        owner: waiter.owner.owner.clone(),
        mode: waiter.mode,
    });
    LockInfo {
        lock: name.clone(),
        mode: lock.mode(),
        holders: holders.collect(),
        queue: queue.collect(),
        token: lock.newest,
    }
}
