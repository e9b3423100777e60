//! Whether what a table derives agrees with what it is derived from.

use crate::command::Mode;
use crate::lock::{Lock, Place};
use crate::slab::Id;
use crate::table::LockTable;

impl LockTable {
    /// Looks through the whole table for a contradiction: a list that lacks an entry, a counter
    /// that is off, a request that could be granted and waits.
    ///
    /// For tests of whatever drives a table. The cost is that of the whole table.
    ///
    /// # Errors
    ///
    /// What contradicts what. That is a bug in this crate.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut parked = 0;
        for (name, id) in &self.by_name {
            let lock = &self.locks[*id];
            require(*name == lock.name, "a lock under another name")?;
            let found = self.find_lock(name);
            require(found == (!lock.is_idle()).then_some(*id), "a lock that is not found")?;
            require(!lock.is_idle() || lock.parked, "an idle lock that is kept for ever")?;
            parked += usize::from(lock.parked);
            self.check_lock(*id, lock)?;
        }
        require(parked == self.parked.len(), "a count of parked locks")?;
        require(self.parked.iter().all(|id| self.locks[*id].parked), "a lock parked twice")?;
        require(self.lock_index.len() == self.locks.len(), "a lock that is not found")?;
        require(self.by_name.len() == self.locks.len(), "a lock without a name")?;
        self.check_owners()?;
        let sum = |count: fn(&Lock) -> u32| -> usize {
            self.locks.iter().map(|(_, lock)| count(lock) as usize).sum()
        };
        require(sum(|lock| lock.holders.len) == self.holds.len(), "a hold of no lock")?;
        require(sum(|lock| lock.queue.len) == self.places.len(), "a place in no queue")?;
        require(self.owner_index.len() == self.owners.len(), "an owner that is not found")?;
        let living = self.sessions.len() - self.estates.len();
        require(self.session_index.len() == living, "a session that is not found")?;
        let waits = self.owners.iter().filter_map(|(_, owner)| owner.waiting.as_ref());
        let deadlines = waits.filter(|waiting| waiting.deadline.is_some());
        let delays = self.locks.iter().filter(|(_, lock)| lock.delayed_until.is_some());
        require(self.timers.len() == deadlines.count() + delays.count(), "a timer of nothing")
    }

    fn check_lock(&self, id: Id<Lock>, lock: &Lock) -> Result<(), &'static str> {
        let mut before = None;
        let (mut holders, mut exclusive, mut waiting) = (0, 0, 0);
        for (hold, entry) in lock.holders.iter(&self.holds, |hold| &hold.by_lock) {
            require(before < Some(entry.grant.token), "holders out of order")?;
            before = Some(entry.grant.token);
            require(entry.lock == id, "a holder of another lock")?;
            let lives = self.sessions[self.owners[entry.owner].session].ended.is_none();
            let found = lives.then(|| self.find_hold(id, entry.owner));
            require(found.is_none_or(|found| found == Some(hold)), "a hold that is not found")?;
            holders += 1;
            exclusive += u32::from(entry.grant.mode == Mode::Exclusive);
            waiting += u32::from(self.owners[entry.owner].waiting.is_some());
        }
        require(holders == lock.holders.len, "a count of holders")?;
        require(exclusive == 0 || holders == 1, "an exclusive holder beside others")?;
        require(waiting == lock.waiting_holders.len, "a count of holders that wait")?;
        let mut arrived = 0;
        for (_, hold) in lock.waiting_holders.iter(&self.holds, |hold| &hold.by_waiting) {
            let waiting = self.owners[hold.owner].waiting.as_ref();
            let waiting = waiting.ok_or("a holder that does not wait")?;
            require(hold.lock == id, "a waiting holder of another lock")?;
            require(waiting.arrived > arrived, "waiting holders out of order")?;
            arrived = waiting.arrived;
        }
        self.check_queue(id, lock)
    }

    fn check_queue(&self, id: Id<Lock>, lock: &Lock) -> Result<(), &'static str> {
        let (mut places, mut writers, mut joint) = (0, 0, 0);
        let mut before: Option<(bool, u64)> = None;
        for (number, place) in lock.queue.iter(&self.places, |place| &place.by_queue) {
            let Place { mode, upgrade, arrived, .. } = *place;
            require(before < Some((!upgrade, arrived)), "a queue out of order")?;
            before = Some((!upgrade, arrived));
            let holds = self.find_hold(id, place.owner).is_some();
            require(place.lock == id && upgrade == holds, "an upgrade of nothing")?;
            let waiting = self.owners[place.owner].waiting.as_ref();
            let waiting = waiting.ok_or("a place without a request")?;
            require(waiting.places().any(|other| other == number), "a place of another request")?;
            let same = (place.arrived, place.joint) == (waiting.arrived, waiting.joint);
            require(same, "a place unlike its request")?;
            require(!self.is_grantable(place.owner), "a request that could be granted")?;
            places += 1;
            writers += u32::from(mode == Mode::Exclusive);
            joint += u32::from(place.joint);
        }
        let counts = (lock.queue.len, lock.writers, lock.joint);
        require((places, writers, joint) == counts, "a count of waiters")
    }

    fn check_owners(&self) -> Result<(), &'static str> {
        let mut places = 0;
        for (_, session) in self.sessions.iter() {
            let mut locks = session.estate.len as usize;
            let mut idle = 0;
            for (id, owner) in session.owners.iter(&self.owners, |owner| &owner.by_session) {
                locks += owner.holds.len as usize;
                idle += u32::from(owner.idle_since.is_some());
                if let Some(waiting) = &owner.waiting {
                    locks += waiting.places().count();
                    places += waiting.places().count();
                }
                let awaits = owner.waiting.as_ref().filter(|waiting| !waiting.joint);
                let lock = awaits.map(|waiting| self.places[waiting.place].lock);
                require(self.nodes[id].awaits == lock, "an owner that waits for another lock")?;
                if session.ended.is_none() {
                    let found = self.find_owner_of(owner.session, &owner.name);
                    require(found == Some(id), "an owner that is not found")?;
                    let purpose = !owner.is_idle() || !owner.records.is_empty();
                    require(purpose, "an owner without purpose")?;
                    let marked = owner.idle_since.is_some();
                    require(owner.is_idle() == marked, "an owner idle and not")?;
                }
            }
            require(locks == session.locks, "a count of locks")?;
            require(session.ended.is_some() || idle == session.idle.len, "a count of idle")?;
        }
        require(places == self.places.len(), "a place of nobody")
    }
}

fn require(holds: bool, otherwise: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(otherwise) }
}
