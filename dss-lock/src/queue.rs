//! How waits come and go: the only code that changes queues.

use crate::claims::Claims;
use crate::command::Mode;
use crate::lock::{Hold, Lock, Place, Waiting};
use crate::names::RequestId;
use crate::numbers::ClusterTime;
use crate::reply::{Event, Grant, Outcome};
use crate::session::OwnerState;
use crate::slab::{Id, Links};
use crate::table::{LockTable, Timer};

/// One lock that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want {
    pub(crate) lock: Id<Lock>,
    pub(crate) mode: Mode,
    /// What the owner holds of it already.
    pub(crate) hold: Option<Id<Hold>>,
}

/// What a request that comes to wait is remembered by.
#[derive(Debug)]
pub(crate) struct NewWait {
    pub(crate) arrived: u64,
    pub(crate) deadline: Option<ClusterTime>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) claims: Claims,
    pub(crate) joint: bool,
    pub(crate) counted: bool,
}

/// A request that was taken out of its queues.
struct Dequeued {
    waiting: Waiting,
    first: (Id<Lock>, Mode),
    further: Vec<(Id<Lock>, Mode)>,
}

impl LockTable {
    /// Whether the request could be granted this lock at once.
    pub(crate) fn is_free_for(&self, owner: Id<OwnerState>, want: &Want) -> bool {
        let lock = &self.locks[want.lock];
        // What it conflicts with in the queue came first. An upgrade goes in front of all.
        let nobody_ahead = match want.mode {
            Mode::Exclusive => want.hold.is_some() || lock.queue.is_empty(),
            Mode::Shared => lock.writers == 0,
        };
        nobody_ahead && self.admits(want.lock, owner, want.mode)
    }

    /// Whether the lock could be granted to this place in its queue.
    fn is_open(&self, place: Id<Place>) -> bool {
        let Place { lock, owner, mode, .. } = self.places[place];
        let nobody_ahead = match mode {
            Mode::Exclusive => self.locks[lock].queue.first == Some(place),
            Mode::Shared => self.locks[lock].writers == 0 || self.writer_ahead(place).is_none(),
        };
        nobody_ahead && self.admits(lock, owner, mode)
    }

    /// The nearest exclusive request ahead of this place.
    fn writer_ahead(&self, place: Id<Place>) -> Option<Id<Place>> {
        let ahead = |id: &Id<Place>| self.places[*id].by_queue.before;
        std::iter::successors(ahead(&place), ahead)
            .find(|id| self.places[*id].mode == Mode::Exclusive)
    }

    /// Whether something is in the way of this place in the queue of its own lock. A request for
    /// one lock would have been granted otherwise.
    pub(crate) fn is_blocked(&self, place: Id<Place>) -> bool {
        !self.places[place].joint || !self.is_open(place)
    }

    /// Whether `owner` waits, and all that it asks for could be granted.
    pub(crate) fn is_grantable(&self, owner: Id<OwnerState>) -> bool {
        let waiting = self.owners[owner].waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.places().all(|place| self.is_open(place)))
    }

    /// Puts the request of `owner` into the queues of all the locks that it wants.
    pub(crate) fn enqueue(&mut self, owner: Id<OwnerState>, new: NewWait, wants: &[Want]) {
        let NewWait { arrived, deadline, request_id, claims, joint, counted } = new;
        let (first, further) = wants.split_first().expect("a request asks for something");
        let place = self.add_place(owner, arrived, joint, first);
        let further = further.iter().map(|want| self.add_place(owner, arrived, joint, want));
        let further = further.collect();
        if let Some(deadline) = deadline {
            self.timers.insert((deadline, Timer::Wait { arrived, owner }));
        }
        let state = &mut self.owners[owner];
        assert!(state.waiting.is_none(), "an owner that waits twice");
        self.nodes[owner].awaits = (!joint).then_some(first.lock);
        state.waiting =
            Some(Waiting { arrived, deadline, request_id, claims, place, further, joint, counted });
        self.sessions[state.session].locks += wants.len();
        let mut next = state.holds.first;
        while let Some(hold) = next {
            next = self.holds[hold].by_owner.behind;
            let waiting = &mut self.locks[self.holds[hold].lock].waiting_holders;
            waiting.push_back(&mut self.holds, hold, |hold| &mut hold.by_waiting);
        }
    }

    fn add_place(
        &mut self,
        owner: Id<OwnerState>,
        arrived: u64,
        joint: bool,
        want: &Want,
    ) -> Id<Place> {
        let id = self.places.insert_with(|| Place {
            lock: want.lock,
            owner,
            mode: want.mode,
            upgrade: want.hold.is_some(),
            joint,
            arrived,
            by_queue: Links::default(),
            mark: 0,
        });
        self.link_place(id);
        id
    }

    fn link_place(&mut self, id: Id<Place>) {
        let Place { lock, mode, upgrade, joint, arrived, .. } = self.places[id];
        let lock = &mut self.locks[lock];
        lock.writers += u32::from(mode == Mode::Exclusive);
        lock.joint += u32::from(joint);
        let mut before = if upgrade { None } else { lock.queue.last };
        // Only who has been put back comes behind others that arrived later.
        while let Some(other) = before
            && !self.places[other].upgrade
            && self.places[other].arrived > arrived
        {
            before = self.places[other].by_queue.before;
        }
        lock.queue.insert_behind(&mut self.places, before, id, |place| &mut place.by_queue);
    }

    fn unlink_place(&mut self, id: Id<Place>) {
        let Place { lock, mode, joint, .. } = self.places[id];
        let lock = &mut self.locks[lock];
        lock.writers -= u32::from(mode == Mode::Exclusive);
        lock.joint -= u32::from(joint);
        lock.queue.remove(&mut self.places, id, |place| &mut place.by_queue);
    }

    /// Puts the upgrade of an owner that has lost its shared hold where it came in the order of
    /// arrival. Were it left in front, the next upgrade would queue behind it, and each would wait
    /// for the other.
    pub(crate) fn demote(&mut self, lock: Id<Lock>, owner: Id<OwnerState>) {
        let Some(waiting) = &self.owners[owner].waiting else { return };
        let place = waiting.place;
        if self.places[place].lock == lock && self.places[place].upgrade {
            self.unlink_place(place);
            self.places[place].upgrade = false;
            self.link_place(place);
        }
    }

    /// Takes the request of `owner`, who waits, out of all its queues; nothing is granted yet.
    fn dequeue(&mut self, owner: Id<OwnerState>) -> Dequeued {
        let state = &mut self.owners[owner];
        let waiting = state.waiting.take().expect("whoever is in a queue waits");
        self.nodes[owner].awaits = None;
        self.sessions[state.session].locks -= 1 + waiting.further.len();
        let mut next = state.holds.first;
        while let Some(hold) = next {
            next = self.holds[hold].by_owner.behind;
            let waiting = &mut self.locks[self.holds[hold].lock].waiting_holders;
            waiting.remove(&mut self.holds, hold, |hold| &mut hold.by_waiting);
        }
        if let Some(deadline) = waiting.deadline {
            self.timers.remove(&(deadline, Timer::Wait { arrived: waiting.arrived, owner }));
        }
        let first = self.remove_place(waiting.place);
        let further = waiting.further.iter().map(|place| self.remove_place(*place)).collect();
        Dequeued { waiting, first, further }
    }

    fn remove_place(&mut self, id: Id<Place>) -> (Id<Lock>, Mode) {
        self.unlink_place(id);
        let Place { lock, mode, .. } = self.places[id];
        self.places.remove(id);
        (lock, mode)
    }

    /// Takes back a request that came to wait in this very command.
    pub(crate) fn unenqueue(&mut self, owner: Id<OwnerState>) {
        self.dequeue(owner);
    }

    /// Ends the wait of `owner` without a grant; the locks that it waited for.
    ///
    /// To [`settle`](LockTable::settle) the owner is left to the caller, who may not be done with
    /// it, and so is what that makes grantable.
    pub(crate) fn end_wait(
        &mut self,
        owner: Id<OwnerState>,
        outcome: Outcome,
        events: &mut Vec<Event>,
    ) -> impl Iterator<Item = Id<Lock>> + use<> {
        let Dequeued { waiting, first, further } = self.dequeue(owner);
        self.conclude(owner, waiting, first.0, outcome, events);
        [first].into_iter().chain(further).map(|(lock, _)| lock)
    }

    /// Grants what can be granted to those that wait for the lock, and forgets it where nobody is
    /// left.
    pub(crate) fn grant_waiting(&mut self, lock: Id<Lock>, events: &mut Vec<Event>) {
        let mut next = self.locks[lock].queue.first;
        while let Some(id) = next {
            let Place { owner, mode, joint, by_queue, .. } = self.places[id];
            let writer = mode == Mode::Exclusive;
            if !self.admits(lock, owner, mode) || (writer && by_queue.before.is_some()) {
                break;
            }
            next = by_queue.behind;
            if !joint || self.is_grantable(owner) {
                self.grant(owner, events);
            } else if writer {
                break;
            }
        }
        self.forget_if_idle(lock);
    }

    fn grant(&mut self, owner: Id<OwnerState>, events: &mut Vec<Event>) {
        let Dequeued { waiting, first, further } = self.dequeue(owner);
        let mut add = |(lock, mode)| {
            self.add_hold(lock, owner, mode, waiting.claims.clone(), waiting.counted)
        };
        let grant: Grant = add(first);
        let outcome = if waiting.joint {
            Outcome::GrantedAll([grant].into_iter().chain(further.into_iter().map(add)).collect())
        } else {
            Outcome::Granted(grant)
        };
        self.conclude(owner, waiting, first.0, outcome, events);
    }

    /// Records and reports how a wait ended.
    fn conclude(
        &mut self,
        owner: Id<OwnerState>,
        waiting: Waiting,
        first: Id<Lock>,
        outcome: Outcome,
        events: &mut Vec<Event>,
    ) {
        // Whoever took a request back has had no answer that a repeat would have to agree with.
        if outcome != Outcome::Cancelled
            && let Some(request_id) = waiting.request_id
        {
            self.owners[owner].record(request_id, outcome.clone());
        }
        events.push(Event::WaitEnded {
            lock: self.locks[first].name.clone(),
            owner: self.name_of(owner),
            attempts: waiting.claims.attempts().to_vec(),
            outcome,
        });
    }
}
