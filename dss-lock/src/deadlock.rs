//! Whether a wait closes a cycle: exact, and without looking at a queue.
//!
//! In a first-come, first-served queue of shared and exclusive requests whoever is kept waiting
//! waits, by itself or through those ahead of it, for every holder of the lock but itself. And
//! those ahead, where they ask for this one lock alone, wait for nothing else. So owners reach
//! each other exactly by the steps owner, lock that it waits for, holders of that lock, and no
//! waiter needs to be enumerated: the cost is that of the locks on the way and of those of their
//! holders that wait themselves.
//!
//! Requests for several locks wait in one queue for what another is held by. Whoever is behind
//! such a request, and cannot be granted beside it, waits for it too: these places are walked,
//! each once per search, in the queues that have any.
//!
//! Asked whenever somebody comes to wait, this finds every cycle. Waiting adds edges from the
//! requester, and into it where an upgrade overtakes; a grant turns places ahead in a queue into
//! holds, which reach the same; and whatever ends a wait or a hold takes edges away. So every
//! cycle passes through the requester that closes it, and refusing that request leaves none. Only
//! an upgrade whose shared hold is taken away moves back in its queue, behind others; there the
//! search is made once more.

use crate::command::Mode;
use crate::limits::{CYCLE_REPORTED_MAX, DEADLOCKS_KEPT, HOLDS_LOOKED_AT};
use crate::lock::{Lock, Place};
use crate::names::SessionId;
use crate::reply::{DeadlockInfo, Event, Outcome, Resolution};
use crate::session::OwnerState;
use crate::slab::Id;
use crate::table::LockTable;

/// What a search for a cycle needs besides the table; kept, so that it costs no allocation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// Numbers the searches: what bears the number of this one has been visited.
    number: u64,
    steps: Vec<Step>,
}

/// One owner that the requester waits for, and the step that led to it.
#[derive(Debug, Clone, Copy)]
struct Step {
    owner: Id<OwnerState>,
    from: usize,
}

impl LockTable {
    /// Whether anybody may be waiting for `owner`. While nobody does, no cycle can pass through it.
    pub(crate) fn is_contested(&self, owner: Id<OwnerState>) -> bool {
        let holds = &self.owners[owner].holds;
        holds.len > HOLDS_LOOKED_AT
            || holds
                .iter(&self.holds, |hold| &hold.by_owner)
                .any(|(_, hold)| !self.locks[hold.lock].queue.is_empty())
    }

    /// The sessions of a cycle in the wait-for graph through `requester`, who waits: from it on,
    /// the shortest there is.
    pub(crate) fn find_cycle(&mut self, requester: Id<OwnerState>) -> Option<Vec<SessionId>> {
        self.search.number += 1;
        self.search.steps.clear();
        self.search.steps.push(Step { owner: requester, from: 0 });
        let mut step = 0;
        while step < self.search.steps.len() {
            if self.expand(step) {
                return Some(self.path(step));
            }
            step += 1;
        }
        None
    }

    /// Adds the owners that the one of this step waits for; `true` where the requester is one.
    fn expand(&mut self, step: usize) -> bool {
        let owner = self.search.steps[step].owner;
        if let Some(lock) = self.nodes[owner].awaits
            && self.locks[lock].joint == 0
        {
            return self.reach_holders(step, lock);
        }
        let mut number = 0;
        while let Some(place) =
            self.owners[owner].waiting.as_ref().and_then(|it| it.places().nth(number))
        {
            number += 1;
            if self.is_blocked(place)
                && (self.reach_holders(step, self.places[place].lock)
                    || self.reach_ahead(step, place))
            {
                return true;
            }
        }
        false
    }

    fn reach_holders(&mut self, step: usize, lock: Id<Lock>) -> bool {
        let lock = &mut self.locks[lock];
        if lock.mark == self.search.number {
            return false;
        }
        // The requester may hold the lock itself, shared. Its own hold does not keep it waiting,
        // but one that waits to upgrade there waits for the requester: the lock counts as visited
        // only when it is reached as somebody else's.
        if step > 0 {
            lock.mark = self.search.number;
        }
        let mut next = lock.waiting_holders.first;
        while let Some(hold) = next {
            let hold = &self.holds[hold];
            next = hold.by_waiting.behind;
            if self.reach(step, hold.owner) {
                return true;
            }
        }
        false
    }

    /// Adds the requests for several locks that are ahead of `place` and keep it waiting.
    fn reach_ahead(&mut self, step: usize, place: Id<Place>) -> bool {
        if self.locks[self.places[place].lock].joint == 0 {
            return false;
        }
        let mut blocks = self.places[place].mode == Mode::Exclusive;
        let mut next = self.places[place].by_queue.before;
        while let Some(id) = next {
            let ahead = &mut self.places[id];
            next = ahead.by_queue.before;
            // Readers pass readers, up to the first writer; that one waits for all ahead of it.
            blocks |= ahead.mode == Mode::Exclusive;
            if !blocks {
                continue;
            }
            if ahead.mark == self.search.number {
                return false;
            }
            ahead.mark = self.search.number;
            let (owner, joint) = (ahead.owner, ahead.joint);
            if (joint || owner == self.search.steps[0].owner) && self.reach(step, owner) {
                return true;
            }
        }
        false
    }

    /// Adds an owner that the one of `step` waits for; `true` where it is the requester.
    fn reach(&mut self, step: usize, owner: Id<OwnerState>) -> bool {
        if owner == self.search.steps[0].owner {
            return step > 0;
        }
        let node = &mut self.nodes[owner];
        if node.mark != self.search.number {
            node.mark = self.search.number;
            self.search.steps.push(Step { owner, from: step });
        }
        false
    }

    /// The sessions from the requester to the step at `last`.
    fn path(&self, last: usize) -> Vec<SessionId> {
        let mut steps = vec![last];
        let mut step = last;
        while step > 0 {
            step = self.search.steps[step].from;
            steps.push(step);
        }
        let owners = steps.into_iter().rev().map(|step| self.search.steps[step].owner);
        owners.take(CYCLE_REPORTED_MAX).map(|owner| self.session_name(owner).clone()).collect()
    }

    /// Remembers that a cycle was found.
    pub(crate) fn note_deadlock(
        &mut self,
        owner: Id<OwnerState>,
        lock: Id<Lock>,
        cycle: Vec<SessionId>,
        resolution: Resolution,
    ) {
        if self.deadlocks.len() >= DEADLOCKS_KEPT {
            self.deadlocks.pop_front();
        }
        self.deadlocks.push_back(DeadlockInfo {
            index: self.index,
            at: self.now,
            owner: self.name_of(owner),
            lock: self.locks[lock].name.clone(),
            cycle,
            resolution,
        });
    }

    /// Looks for a cycle through an owner that may have been put back in the queue of `lock`, and
    /// ends its wait where there is one. The caller has taken away all that the command takes away,
    /// settles the owner and grants the lock.
    #[inline]
    pub(crate) fn recheck(
        &mut self,
        lock: Id<Lock>,
        owner: Id<OwnerState>,
        events: &mut Vec<Event>,
    ) {
        // Those who wait for one lock alone it has waited for all along, through the holders.
        let waits_here = self.nodes[owner].awaits == Some(lock) && self.locks[lock].joint > 0;
        if waits_here && let Some(cycle) = self.find_cycle(owner) {
            self.note_deadlock(owner, lock, cycle.clone(), Resolution::Refused);
            let _ = self.end_wait(owner, Outcome::Deadlock { cycle }, events);
        }
    }
}
