//! A table as bytes.
//!
//! Only what cannot be derived is written: what owners hold and wait for, who waits in which
//! queue where and what comes due when follow from the holds and the waits, and are built from
//! them again. So a snapshot that contradicts itself cannot be written, and one that was damaged
//! is noticed.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::command::{DecodeError, Mode, decode, encode};
use crate::lock::{Granted, Lock};
use crate::names::{LockName, OwnerId, RequestId, SessionId};
use crate::numbers::{ClusterTime, FencingToken};
use crate::reply::DeadlockInfo;
use crate::session::{OwnerState, Record};
use crate::slab::Id;
use crate::table::LockTable;

/// Stands first in every snapshot; another layout gets another number.
const SNAPSHOT_VERSION: u8 = 3;

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

/// What there is to know of a table. Owners and locks are referred to by their place in it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredTable {
    pub(crate) index: u64,
    pub(crate) now: ClusterTime,
    pub(crate) newest_token: FencingToken,
    /// Those that live, by name, and then those that have ended, the first one first.
    pub(crate) sessions: Vec<StoredSession>,
    /// By name.
    pub(crate) locks: Vec<StoredLock>,
    /// In order of arrival.
    pub(crate) waits: Vec<StoredWait>,
    pub(crate) deadlocks: Vec<DeadlockInfo>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSession {
    pub(crate) session: SessionId,
    pub(crate) ttl: Duration,
    pub(crate) lock_delay: Duration,
    pub(crate) renewal: u64,
    pub(crate) opened: u64,
    pub(crate) ended: Option<u64>,
    /// By name. Of a session that has ended only those that still hold something.
    pub(crate) owners: Vec<StoredOwner>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredOwner {
    pub(crate) owner: OwnerId,
    pub(crate) records: VecDeque<Record>,
    pub(crate) idle_since: Option<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLock {
    pub(crate) lock: LockName,
    pub(crate) newest: FencingToken,
    pub(crate) delayed_until: Option<ClusterTime>,
    /// In the order of tokens.
    pub(crate) holders: Vec<StoredHold>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredHold {
    pub(crate) owner: u32,
    pub(crate) grant: Granted,
    pub(crate) upgraded_from: Option<Granted>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredWait {
    pub(crate) owner: u32,
    pub(crate) arrived: u64,
    pub(crate) deadline: Option<ClusterTime>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) claims: Claims,
    pub(crate) joint: bool,
    pub(crate) counted: bool,
    pub(crate) places: Vec<(u32, Mode)>,
}

impl LockTable {
    /// The whole table. Equal tables give equal bytes.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        encode(SNAPSHOT_VERSION, &self.stored())
    }

    /// The table that gave these bytes.
    ///
    /// # Errors
    ///
    /// Where none did.
    pub fn restore(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        Self::restore_seeded(snapshot, 0)
    }

    /// [`restore`](LockTable::restore), with the seed of the new table's hashes.
    pub(crate) fn restore_seeded(snapshot: &[u8], seed: u64) -> Result<Self, SnapshotError> {
        Self::rebuild(decode(SNAPSHOT_VERSION, snapshot)?, seed)
    }

    /// What there is to know of this table.
    pub(crate) fn stored(&self) -> StoredTable {
        let mut owner_numbers = BTreeMap::new();
        let sessions = self.stored_sessions(&mut owner_numbers);
        let mut lock_numbers = BTreeMap::new();
        let locks = self.locks_from(Bound::Unbounded).map(|(id, lock)| {
            lock_numbers.insert(id, number(lock_numbers.len()));
            self.stored_lock(lock, &owner_numbers)
        });
        let locks = locks.collect();
        let owners = self.owners.iter();
        let waits = owners.filter_map(|(id, owner)| Some((id, owner.waiting.as_ref()?)));
        let mut waits: Vec<_> = waits.collect();
        waits.sort_unstable_by_key(|(_, waiting)| waiting.arrived);
        let waits = waits.into_iter().map(|(owner, waiting)| {
            let places = waiting.places().map(|place| &self.places[place]);
            StoredWait {
                owner: owner_numbers[&owner],
                arrived: waiting.arrived,
                deadline: waiting.deadline,
                request_id: waiting.request_id.clone(),
                claims: waiting.claims.clone(),
                joint: waiting.joint,
                counted: waiting.counted,
                places: places.map(|place| (lock_numbers[&place.lock], place.mode)).collect(),
            }
        });
        StoredTable {
            index: self.index,
            now: self.now,
            newest_token: self.newest_token,
            sessions,
            locks,
            waits: waits.collect(),
            deadlocks: self.deadlocks.iter().cloned().collect(),
        }
    }

    fn stored_sessions(
        &self,
        owner_numbers: &mut BTreeMap<Id<OwnerState>, u32>,
    ) -> Vec<StoredSession> {
        let living = self.sessions.iter().filter(|(_, session)| session.ended.is_none());
        let mut living: Vec<_> = living.map(|(_, session)| session).collect();
        living.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let ended = self.estates.iter().map(|id| &self.sessions[*id]);
        let sessions = living.into_iter().chain(ended).map(|session| {
            let estate = session.estate.iter(&self.holds, |hold| &hold.by_owner);
            let mut owners: Vec<_> = match session.ended {
                None => session.owners.iter(&self.owners, |owner| &owner.by_session).collect(),
                Some(_) => estate.map(|(_, h)| (h.owner, &self.owners[h.owner])).collect(),
            };
            owners.sort_unstable_by(|(_, a), (_, b)| a.name.cmp(&b.name));
            owners.dedup_by_key(|(id, _)| *id);
            let owners = owners.into_iter().map(|(id, owner)| {
                owner_numbers.insert(id, number(owner_numbers.len()));
                let lives = session.ended.is_none();
                StoredOwner {
                    owner: owner.name.clone(),
                    records: if lives { owner.records.clone() } else { VecDeque::new() },
                    idle_since: owner.idle_since,
                }
            });
            StoredSession {
                session: session.name.clone(),
                ttl: session.ttl,
                lock_delay: session.lock_delay,
                renewal: session.renewal,
                opened: session.opened,
                ended: session.ended,
                owners: owners.collect(),
            }
        });
        sessions.collect()
    }

    fn stored_lock(
        &self,
        lock: &Lock,
        owner_numbers: &BTreeMap<Id<OwnerState>, u32>,
    ) -> StoredLock {
        let holders = lock.holders.iter(&self.holds, |hold| &hold.by_lock);
        let holders = holders.map(|(_, hold)| StoredHold {
            owner: owner_numbers[&hold.owner],
            grant: hold.grant.clone(),
            upgraded_from: hold.upgraded_from.as_deref().cloned(),
        });
        StoredLock {
            lock: lock.name.clone(),
            newest: lock.newest,
            delayed_until: lock.delayed_until,
            holders: holders.collect(),
        }
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("the limits keep every slab far below 2^32 entries")
}
