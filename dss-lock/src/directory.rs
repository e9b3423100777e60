//! Which locks there are: by name, in the order of names, and some that nobody needs just now.

use std::ops::Bound;

use crate::lock::Lock;
use crate::names::LockName;
use crate::numbers::FencingToken;
use crate::slab::Id;
use crate::table::LockTable;

/// How many idle locks keep their entries: a lock that was held once soon is again, and to forget
/// it and make it anew, in its place in the order of names, is most of what it costs to take one.
/// At about 250 bytes each these are 16 MiB.
pub(crate) const IDLE_LOCKS_KEPT: usize = 65_536;

impl LockTable {
    fn hash_of_lock(&self, lock: &LockName) -> u64 {
        lock.as_ref().hash(self.seed)
    }

    fn find_entry(&self, hash: u64, lock: &LockName) -> Option<Id<Lock>> {
        self.lock_index.find(hash, |id| self.locks[id].name == *lock)
    }

    /// The lock of this name, where it is held, waited for, or kept back.
    pub(crate) fn find_lock(&self, lock: &LockName) -> Option<Id<Lock>> {
        self.find_entry(self.hash_of_lock(lock), lock).filter(|id| !self.locks[*id].is_idle())
    }

    /// The lock of this name, which is made where there is none. Followed by a grant, a wait or
    /// [`forget_if_idle`](LockTable::forget_if_idle).
    pub(crate) fn make_lock(&mut self, lock: &LockName) -> Id<Lock> {
        let hash = self.hash_of_lock(lock);
        if let Some(found) = self.find_entry(hash, lock) {
            return found;
        }
        let id = self.locks.insert_with(|| Lock::new(lock.clone(), hash));
        self.lock_index.insert(hash, id);
        self.by_name.insert(lock.clone(), id);
        id
    }

    /// Forgets a lock that there is nothing to know of any more. Its entry stays for a while.
    #[inline]
    pub(crate) fn forget_if_idle(&mut self, id: Id<Lock>) {
        let lock = &mut self.locks[id];
        if !lock.is_idle() {
            return;
        }
        lock.newest = FencingToken::default();
        // One that was idle before and taken again since has kept its place.
        if !lock.parked {
            lock.parked = true;
            self.parked.push_back(id);
        }
    }

    /// Removes the entries of locks that have been idle, beyond those that are kept. Between
    /// commands, when nobody is about to use one of them.
    pub(crate) fn clear_parked(&mut self) {
        while self.parked.len() > IDLE_LOCKS_KEPT
            && let Some(id) = self.parked.pop_front()
        {
            let lock = &mut self.locks[id];
            lock.parked = false;
            if lock.is_idle() {
                self.lock_index.remove(lock.hash, id);
                self.by_name.remove(&lock.name);
                self.locks.remove(id);
            }
        }
    }

    /// The locks that there is something to know of, in the order of their names.
    pub(crate) fn locks_from(&self, first: Bound<&str>) -> impl Iterator<Item = (Id<Lock>, &Lock)> {
        let locks = self.by_name.range::<str, _>((first, Bound::Unbounded));
        locks.map(|(_, id)| (*id, &self.locks[*id])).filter(|(_, lock)| !lock.is_idle())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{AcquireRequest, Command, Mode, ReleaseRequest, Wait};
    use crate::names::{OwnerId, SessionId};
    use crate::numbers::{AttemptId, ClusterTime};

    fn take(table: &mut LockTable, number: usize) -> ReleaseRequest {
        let lock = LockName::new(format!("lock {number}")).unwrap();
        let (session, owner) = (SessionId::new("a").unwrap(), OwnerId::default());
        let request = AcquireRequest {
            lock: lock.clone(),
            session: session.clone(),
            owner: owner.clone(),
            mode: Mode::Exclusive,
            wait: Wait::Try,
            ttl: None,
            request_id: None,
            reentrant: false,
        };
        let acquire = Command::Acquire { attempt: AttemptId::default(), request };
        table.apply(table.index() + 1, ClusterTime::ZERO, acquire);
        ReleaseRequest { lock, session, owner, token: None }
    }

    fn take_and_give_back(table: &mut LockTable, number: usize) {
        let release = Command::Release(take(table, number));
        table.apply(table.index() + 1, ClusterTime::ZERO, release);
    }

    #[test]
    fn so_many_idle_locks_keep_their_entries_and_nobody_sees_them() {
        let mut table = LockTable::new();
        for number in 0..IDLE_LOCKS_KEPT + 100 {
            take_and_give_back(&mut table, number);
        }
        assert_eq!(table.locks.len(), IDLE_LOCKS_KEPT);
        assert_eq!(table.check(), Ok(()));
        assert_eq!(table.locks("", None, 10).locks, []);
        assert_eq!(table.lock(&LockName::new("lock 200").unwrap()), None);
        // The first hundred have gone, the last one is used again.
        take_and_give_back(&mut table, 0);
        take_and_give_back(&mut table, IDLE_LOCKS_KEPT);
        assert_eq!(table.locks.len(), IDLE_LOCKS_KEPT);
        assert_eq!(table.check(), Ok(()));
        let mut restored = LockTable::restore(&table.snapshot()).unwrap();
        assert_eq!((restored.locks.len(), &restored), (0, &table));
        take_and_give_back(&mut restored, 7);
        take_and_give_back(&mut table, 7);
        assert_eq!(restored, table);
    }

    #[test]
    fn a_lock_that_was_idle_and_is_held_again_stays() {
        let mut table = LockTable::new();
        take_and_give_back(&mut table, 0);
        let held = take(&mut table, 0);
        for number in 1..=IDLE_LOCKS_KEPT {
            take_and_give_back(&mut table, number);
        }
        assert!(table.lock(&held.lock).is_some());
        assert_eq!(table.check(), Ok(()));
        // It has lost its place among the idle ones, and comes last.
        let release = Command::Release(held);
        table.apply(table.index() + 1, ClusterTime::ZERO, release);
        assert_eq!(table.locks.len(), IDLE_LOCKS_KEPT);
        assert_eq!(table.check(), Ok(()));
    }
}
