//! A table from what was stored of it: everything is checked, since what is damaged must not
//! become a table that grants.

use crate::claims::Claims;
use crate::command::Mode;
use crate::limits::{
    CLAIMS_MAX, DEADLOCKS_KEPT, IDLE_OWNERS_MAX, LOCK_DELAY_MAX, LOCKS_PER_REQUEST_MAX,
    RECORDS_PER_OWNER_MAX, TTL_MAX, TTL_MIN,
};
use crate::lock::{Granted, Hold, Lock};
use crate::queue::{NewWait, Want};
use crate::session::{OwnerState, Session};
use crate::slab::{Id, Links};
use crate::snapshot::{
    SnapshotError, StoredHold, StoredLock, StoredSession, StoredTable, StoredWait,
};
use crate::table::{LockTable, Timer};

/// No cluster comes so far: a counter above it can only be damage, and would overflow.
const COUNTER_MAX: u64 = u64::MAX / 2;

/// What the numbers in a snapshot refer to.
#[derive(Default)]
struct Numbers {
    owners: Vec<Id<OwnerState>>,
    locks: Vec<Id<Lock>>,
}

impl LockTable {
    /// The table that this was stored of.
    pub(crate) fn rebuild(stored: StoredTable, seed: u64) -> Result<Self, SnapshotError> {
        require(stored.newest_token.get() <= COUNTER_MAX, "a fencing token out of range")?;
        require(stored.index <= COUNTER_MAX, "an index out of range")?;
        require(stored.deadlocks.len() <= DEADLOCKS_KEPT, "too many deadlocks")?;
        let mut table = Self {
            index: stored.index,
            now: stored.now,
            newest_token: stored.newest_token,
            deadlocks: stored.deadlocks.into(),
            seed,
            ..Self::default()
        };
        let mut numbers = Numbers::default();
        for session in stored.sessions {
            table.rebuild_session(session, &mut numbers)?;
        }
        for lock in stored.locks {
            table.rebuild_lock(lock, &mut numbers)?;
        }
        let mut arrived = 0;
        for waiting in stored.waits {
            require(waiting.arrived > arrived, "waits out of order")?;
            arrived = waiting.arrived;
            table.rebuild_wait(waiting, &numbers)?;
        }
        table.check_whole()?;
        for session in table.estates.clone() {
            table.make_estate(session);
        }
        Ok(table)
    }

    fn rebuild_session(
        &mut self,
        stored: StoredSession,
        numbers: &mut Numbers,
    ) -> Result<(), SnapshotError> {
        require((TTL_MIN..=TTL_MAX).contains(&stored.ttl), "a time to live out of range")?;
        require(stored.lock_delay <= LOCK_DELAY_MAX, "a lock delay out of range")?;
        require(stored.renewal <= self.index, "a session renewed in the future")?;
        let hash = self.hash_of_session(&stored.session);
        let mut session = Session::new(stored.session, hash, stored.ttl, stored.renewal);
        session.lock_delay = stored.lock_delay;
        require(stored.opened <= stored.renewal, "a session renewed before it was opened")?;
        session.opened = stored.opened;
        session.ended = stored.ended;
        let lives = stored.ended.is_none();
        if lives {
            require(self.estates.is_empty(), "a session that lives among the dead")?;
            require(self.find_session(&session.name).is_none(), "a session twice")?;
        }
        let ended_before = self.estates.back().map(|id| self.sessions[*id].ended);
        require(ended_before.is_none_or(|before| before <= stored.ended), "ends out of order")?;
        require(stored.ended <= Some(self.index), "a session that ends in the future")?;
        let id = self.sessions.insert_with(|| session);
        if lives {
            self.session_index.insert(hash, id);
        } else {
            self.estates.push_back(id);
        }
        for owner in stored.owners {
            require(self.find_owner_of(id, &owner.owner).is_none(), "an owner twice")?;
            require(owner.records.len() <= RECORDS_PER_OWNER_MAX, "too many answers")?;
            require(lives || owner.records.is_empty(), "answers of a session that has ended")?;
            let new = self.make_owner(id, &owner.owner);
            self.owners[new].records = owner.records;
            if let Some(since) = owner.idle_since {
                require(since <= self.index, "an owner idle since the future")?;
                self.set_idle(new, since);
            }
            numbers.owners.push(new);
        }
        require(self.sessions[id].idle.len <= IDLE_OWNERS_MAX, "too many idle owners")
    }

    fn rebuild_lock(
        &mut self,
        stored: StoredLock,
        numbers: &mut Numbers,
    ) -> Result<(), SnapshotError> {
        let StoredLock { lock: name, newest, delayed_until, holders } = stored;
        require(newest <= self.newest_token, "a lock's token above the newest")?;
        let last = self.by_name.last_key_value().map(|(last, _)| last);
        require(last.is_none_or(|last| *last < name), "locks out of order")?;
        let id = self.make_lock(&name);
        numbers.locks.push(id);
        self.locks[id].newest = newest;
        if let Some(until) = delayed_until {
            require(until > self.now, "a delay that is over")?;
            self.locks[id].delayed_until = Some(until);
            self.timers.insert((until, Timer::Delay { lock: id }));
        }
        let exclusive = holders.iter().any(|hold| hold.grant.mode == Mode::Exclusive);
        require(
            !exclusive || (holders.len() == 1 && delayed_until.is_none()),
            "holders that exclude each other",
        )?;
        let mut before = None;
        for StoredHold { owner, grant, upgraded_from } in holders {
            require(before < Some(grant.token), "holders out of order")?;
            before = Some(grant.token);
            require(grant.token <= newest, "a holder's token above the lock's newest")?;
            check_grant(&grant)?;
            if let Some(shared) = &upgraded_from {
                check_grant(shared)?;
                let plausible = shared.token < grant.token
                    && (grant.mode, shared.mode) == (Mode::Exclusive, Mode::Shared);
                require(plausible, "an upgrade of something else")?;
            }
            let owner = refer(&numbers.owners, owner)?;
            require(self.find_hold(id, owner).is_none(), "an owner that holds twice")?;
            let hold = self.holds.insert_with(|| Hold {
                lock: id,
                owner,
                by_waiting: Links::default(),
                by_lock: Links::default(),
                by_owner: Links::default(),
                grant,
                upgraded_from: upgraded_from.map(Box::new),
            });
            self.link_hold(hold);
        }
        Ok(())
    }

    fn rebuild_wait(&mut self, stored: StoredWait, numbers: &Numbers) -> Result<(), SnapshotError> {
        let StoredWait { arrived, deadline, request_id, claims, joint, counted, .. } = stored;
        require(arrived <= self.index, "a waiter from the future")?;
        require(deadline.is_none_or(|deadline| deadline > self.now), "a wait that is over")?;
        require(claims.is_valid(), "a waiter without claims")?;
        let owner = refer(&numbers.owners, stored.owner)?;
        let lives = self.sessions[self.owners[owner].session].ended.is_none();
        require(lives, "a wait of a session that has ended")?;
        require(self.owners[owner].waiting.is_none(), "an owner that waits twice")?;
        let most = if joint { LOCKS_PER_REQUEST_MAX } else { 1 };
        require((1..=most).contains(&stored.places.len()), "a wait for no lock or too many")?;
        let mut wants: Vec<Want> = Vec::new();
        for (lock, mode) in stored.places {
            let lock = refer(&numbers.locks, lock)?;
            require(wants.iter().all(|other| other.lock != lock), "a lock awaited twice")?;
            let hold = self.find_hold(lock, owner);
            if let Some(hold) = hold {
                let upgrade = self.holds[hold].grant.mode == Mode::Shared
                    && mode == Mode::Exclusive
                    && !joint;
                require(upgrade, "a wait for what is held")?;
                let first = self.locks[lock].queue.first;
                let another = first.is_some_and(|first| self.places[first].upgrade);
                require(!another, "two upgrades of one lock")?;
            }
            wants.push(Want { lock, mode, hold });
        }
        let new = NewWait { arrived, deadline, request_id, claims, joint, counted };
        self.enqueue(owner, new, &wants);
        Ok(())
    }

    /// What can only be seen once everything is there.
    fn check_whole(&self) -> Result<(), SnapshotError> {
        for (_, lock) in self.locks.iter() {
            require(!lock.is_idle(), "a lock without purpose")?;
        }
        for (id, owner) in self.owners.iter() {
            require(!self.is_grantable(id), "a waiter that should have been granted")?;
            if self.sessions[owner.session].ended.is_some() {
                require(!owner.holds.is_empty(), "a dead owner without purpose")?;
            }
            require(owner.is_idle() == owner.idle_since.is_some(), "an owner idle and not")?;
            require(!owner.is_idle() || !owner.records.is_empty(), "an owner without purpose")?;
        }
        for session in &self.estates {
            require(self.sessions[*session].locks > 0, "a dead session without purpose")?;
        }
        Ok(())
    }
}

fn check_grant(grant: &Granted) -> Result<(), SnapshotError> {
    let claims: &Claims = &grant.claims;
    require(claims.is_valid(), "a hold without claims")?;
    require(grant.entries > 0, "a hold that was released")?;
    require(grant.entries <= u32::MAX / 2, "entries out of range")?;
    let valid = grant.reentries.iter().all(|entry| entry.claims.is_valid());
    require(valid, "an entry without claims")?;
    require(grant.reentries.len() <= CLAIMS_MAX, "too many entries to take back")
}

fn refer<T>(numbers: &[Id<T>], number: u32) -> Result<Id<T>, SnapshotError> {
    numbers.get(number as usize).copied().ok_or(SnapshotError::Inconsistent("a loose end"))
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), SnapshotError> {
    if holds { Ok(()) } else { Err(SnapshotError::Inconsistent(otherwise)) }
}
