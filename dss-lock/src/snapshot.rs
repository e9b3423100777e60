//! A table as bytes.
//!
//! Only what cannot be derived is written: what owners hold and wait for, who is contested and
//! which deadline comes next follow from the locks, and are built from them again. So a snapshot
//! that contradicts itself cannot be written, and one that was damaged is noticed.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::command::{DecodeError, Mode, decode, encode};
use crate::limits::{IDLE_OWNERS_MAX, RECORDS_PER_OWNER_MAX, TTL_MAX, TTL_MIN};
use crate::lock::{Class, Hold, Lock, Place, Waiter};
use crate::names::{LockName, Owner, OwnerId, SessionId};
use crate::numbers::{ClusterTime, FencingToken};
use crate::session::{Record, Session};
use crate::table::LockTable;

/// Stands first in every snapshot; another layout gets another number.
const SNAPSHOT_VERSION: u8 = 1;

/// No cluster comes so far: a counter above it can only be damage, and would overflow.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// Bytes that are no snapshot of a lock table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// They cannot be read.
    #[error("snapshot {0}")]
    Decode(#[from] DecodeError),
    /// They say what no table could have said.
    #[error("{0}")]
    Inconsistent(&'static str),
}

#[derive(Serialize, Deserialize)]
struct TableV1 {
    index: u64,
    now: ClusterTime,
    newest_token: FencingToken,
    sessions: Vec<SessionV1>,
    locks: Vec<LockV1>,
}

#[derive(Serialize, Deserialize)]
struct SessionV1 {
    session: SessionId,
    ttl: Duration,
    renewal: u64,
    owners: Vec<OwnerV1>,
}

#[derive(Serialize, Deserialize)]
struct OwnerV1 {
    owner: OwnerId,
    records: Vec<Record>,
    idle_since: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct LockV1 {
    lock: LockName,
    newest: FencingToken,
    holders: Vec<(Owner, Hold)>,
    queue: Vec<(Place, Waiter)>,
}

impl LockTable {
    /// The whole table. Equal tables give equal bytes.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let sessions = self.sessions.iter().map(|(session, state)| SessionV1 {
            session: session.clone(),
            ttl: state.ttl,
            renewal: state.renewal,
            owners: owners(state),
        });
        let locks = self.locks.iter().map(|(name, lock)| LockV1 {
            lock: name.clone(),
            newest: lock.newest,
            holders: lock.holders.iter().map(|(o, hold)| (o.clone(), hold.clone())).collect(),
            queue: lock.queue.iter().map(|(place, waiter)| (*place, waiter.clone())).collect(),
        });
        let table = TableV1 {
            index: self.index,
            now: self.now,
            newest_token: self.newest_token,
            sessions: sessions.collect(),
            locks: locks.collect(),
        };
        encode(SNAPSHOT_VERSION, &table)
    }

    /// The table that gave these bytes.
    ///
    /// # Errors
    ///
    /// Where none did.
    pub fn restore(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let stored: TableV1 = decode(SNAPSHOT_VERSION, snapshot)?;
        require(stored.newest_token.get() <= COUNTER_MAX, "a fencing token out of range")?;
        require(stored.index <= COUNTER_MAX, "an index out of range")?;
        let mut table = Self {
            index: stored.index,
            now: stored.now,
            newest_token: stored.newest_token,
            ..Self::default()
        };
        for session in stored.sessions {
            table.restore_session(session)?;
        }
        for lock in stored.locks {
            table.restore_lock(lock)?;
        }
        for session in table.sessions.values() {
            check_owners(session)?;
        }
        Ok(table)
    }

    fn restore_session(&mut self, stored: SessionV1) -> Result<(), SnapshotError> {
        require((TTL_MIN..=TTL_MAX).contains(&stored.ttl), "a time to live out of range")?;
        require(stored.renewal <= self.index, "a session renewed in the future")?;
        let mut session = Session::new(stored.ttl, stored.renewal);
        for OwnerV1 { owner, records, idle_since } in stored.owners {
            require(!session.owners.contains_key(&owner), "an owner twice")?;
            require(records.len() <= RECORDS_PER_OWNER_MAX, "too many answers of an owner")?;
            session.owner_mut(&owner).records = records.into();
            if let Some(since) = idle_since {
                require(since <= self.index, "an owner idle since the future")?;
                session.set_idle(owner, since);
            }
        }
        require(session.idle_owners() <= IDLE_OWNERS_MAX, "too many idle owners")?;
        let twice = self.sessions.insert(stored.session, session).is_some();
        require(!twice, "a session twice")
    }

    fn restore_lock(&mut self, stored: LockV1) -> Result<(), SnapshotError> {
        let LockV1 { lock: name, newest, holders, queue } = stored;
        require(!self.locks.contains_key(&name), "a lock twice")?;
        require(newest <= self.newest_token, "a lock's token above the newest")?;
        let mut lock = Lock { newest, ..Lock::default() };
        for (owner, hold) in holders {
            require(hold.token <= newest, "a holder's token above the lock's newest")?;
            let earlier = hold.upgraded_from.as_ref();
            require(
                earlier.is_none_or(|shared| {
                    shared.claims.is_valid()
                        && shared.token < hold.token
                        && hold.mode == Mode::Exclusive
                }),
                "an upgrade of something later",
            )?;
            require(hold.claims.is_valid(), "a hold without claims")?;
            self.restore_owner(&owner, |state| state.holds.insert(name.clone()))?;
            let excluded = !lock.is_compatible(&owner, hold.mode);
            let twice = lock.holders.insert(owner, hold).is_some();
            require(!excluded && !twice, "holders that exclude each other")?;
        }
        require(!lock.holders.is_empty(), "a lock without holders")?;
        for (place, waiter) in queue {
            require(place.index <= self.index, "a waiter from the future")?;
            require(waiter.claims.is_valid(), "a waiter without claims")?;
            let holds = lock.holders.contains_key(&waiter.owner);
            require(holds == (place.class == Class::Upgrade), "an upgrade of nothing")?;
            self.restore_owner(&waiter.owner, |state| {
                state.wait.replace((name.clone(), place)).is_none()
            })?;
            if let Some(deadline) = waiter.deadline {
                self.deadlines.insert((deadline, waiter.owner.clone()));
            }
            require(lock.queue.insert(place, waiter).is_none(), "two waiters in one place")?;
        }
        require(lock.grantable().is_none(), "a waiter that should have been granted")?;
        if !lock.queue.is_empty() {
            for holder in lock.holders.keys() {
                self.active_owner(holder).contested += 1;
            }
        }
        self.locks.insert(name, lock);
        Ok(())
    }

    /// Notes a hold or a wait of `owner`, which must be there; `note` is `false` where it already
    /// has one.
    fn restore_owner(
        &mut self,
        owner: &Owner,
        note: impl FnOnce(&mut crate::session::OwnerState) -> bool,
    ) -> Result<(), SnapshotError> {
        let session = self.sessions.get_mut(&owner.session);
        let session = session.ok_or(SnapshotError::Inconsistent("an owner without session"))?;
        session.locks += 1;
        let state = session.owners.get_mut(&owner.owner);
        let state = state.ok_or(SnapshotError::Inconsistent("an owner that its session lacks"))?;
        require(note(state), "an owner that holds or waits twice")
    }
}

fn owners(session: &Session) -> Vec<OwnerV1> {
    let owners = session.owners.iter().map(|(owner, state)| OwnerV1 {
        owner: owner.clone(),
        records: state.records.iter().cloned().collect(),
        idle_since: state.idle_since(),
    });
    owners.collect()
}

/// An owner is idle exactly where it neither holds nor waits, and then there is an answer to keep.
fn check_owners(session: &Session) -> Result<(), SnapshotError> {
    for state in session.owners.values() {
        require(state.is_idle() == state.idle_since().is_some(), "an owner idle and not")?;
        require(!state.is_idle() || !state.records.is_empty(), "an owner without purpose")?;
    }
    Ok(())
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), SnapshotError> {
    if holds { Ok(()) } else { Err(SnapshotError::Inconsistent(otherwise)) }
}
