//! A lock table as one would write it without a thought for speed, to compare the real one with.
//!
//! It shares no idea with it: lists instead of maps, and instead of a search for cycles it plays
//! the future: whoever waits for nothing gives up all that it holds, again and again, and a
//! deadlock is where somebody is still waiting at the end.

mod asking;
mod future;
mod giving;
mod level;
mod time;

use std::collections::BTreeMap;

use dss_lock::{AttemptId, Mode};
use level::{Claims, Level};

/// Owners 0 and 1 are of session 0, owners 2 and 3 of session 1, and so on.
pub(crate) type OwnerNo = usize;
pub(crate) type LockNo = usize;

pub(crate) fn session_of(owner: OwnerNo) -> usize {
    owner / 2
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Granted(LockNo, Mode, u64),
    GrantedAll(Vec<(LockNo, Mode, u64)>),
    AlreadyHolds(LockNo),
    Held,
    TimedOut,
    Deadlock,
    Busy,
    Expired,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Ended(End),
    Waiting,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    Try,
    Until(u64),
    Forever,
}

#[derive(Debug, Clone)]
struct Waiting {
    owner: OwnerNo,
    mode: Mode,
    upgrade: bool,
    arrived: AttemptId,
    until: Option<u64>,
    request: Option<u8>,
    claims: Claims,
    /// Whether it is one more entry into what it upgrades.
    counted: bool,
    /// Where it asks for several locks: all of them. It stands in the queue of each.
    joint: Option<Vec<(LockNo, Mode)>>,
}

#[derive(Debug, Clone, Default)]
struct ModelLock {
    holders: Vec<(OwnerNo, Vec<Level>)>,
    queue: Vec<Waiting>,
    /// Until when it is kept back.
    delayed: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) attempt: AttemptId,
    pub(crate) owner: OwnerNo,
    pub(crate) lock: LockNo,
    pub(crate) mode: Mode,
    pub(crate) patience: Patience,
    pub(crate) request: Option<u8>,
    pub(crate) counted: bool,
    /// Further locks of a request for several.
    pub(crate) joint: Option<[(LockNo, Mode); 2]>,
}

impl Ask {
    /// What it asks for, in order, each lock once.
    pub(crate) fn wants(&self) -> Vec<(LockNo, Mode)> {
        let mut wants = BTreeMap::from([(self.lock, self.mode)]);
        for (lock, mode) in self.joint.into_iter().flatten() {
            wants.entry(lock).and_modify(|other| *other = mode.min(*other)).or_insert(mode);
        }
        wants.into_iter().collect()
    }
}

/// A wait that has ended: whose, for what, for which attempts, and how.
pub(crate) type Ended = (OwnerNo, LockNo, Vec<AttemptId>, End);

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    now: u64,
    pub(crate) newest: u64,
    locks: BTreeMap<LockNo, ModelLock>,
    /// Those that live, and the delay of each.
    pub(super) sessions: BTreeMap<usize, u64>,
    records: Vec<(OwnerNo, u8, End)>,
    pub(crate) ended: Vec<Ended>,
    /// How many requests were refused for a deadlock, and how many were let past a writer.
    pub(crate) deadlocks: usize,
    /// How many upgrades closed a cycle by being put back in their queue.
    pub(crate) put_back: usize,
    /// How many of these were all that their owners had.
    pub(crate) bare: usize,
    pub(crate) barges: usize,
}

impl ModelLock {
    /// Whoever holds the lock and waits to upgrade comes first, everybody else in turn.
    fn sort(&mut self) {
        for waiting in &mut self.queue {
            waiting.upgrade = self.holders.iter().any(|(holder, _)| *holder == waiting.owner);
        }
        self.queue.sort_by_key(|waiting| (!waiting.upgrade, waiting.arrived));
    }

    /// Whether nothing that this place conflicts with is ahead of it or holds the lock.
    fn is_open(&self, place: usize) -> bool {
        let Waiting { owner, mode, .. } = self.queue[place];
        let passes = |ahead: &Waiting| ahead.mode == Mode::Shared && mode == Mode::Shared;
        self.queue[..place].iter().all(passes) && self.admits(owner, mode)
    }

    fn admits(&self, owner: OwnerNo, mode: Mode) -> bool {
        let shared = |levels: &Vec<Level>| levels.last().unwrap().mode == Mode::Shared;
        if self.delayed.is_some() {
            // Readers may join readers, and nobody may do anything else.
            return mode == Mode::Shared
                && !self.holders.is_empty()
                && self.holders.iter().all(|(_, levels)| shared(levels));
        }
        let mut others = self.holders.iter().filter(|(holder, _)| *holder != owner);
        others.all(|(_, levels)| mode == Mode::Shared && shared(levels))
    }
}

impl Model {
    pub(crate) fn holders(&self, lock: LockNo) -> Vec<(OwnerNo, Mode, u64)> {
        let lock = self.locks.get(&lock).cloned().unwrap_or_default();
        let top = |levels: &Vec<Level>| levels.last().cloned().unwrap();
        let mut holders: Vec<_> = lock
            .holders
            .iter()
            .map(|(owner, levels)| (*owner, top(levels).mode, top(levels).token))
            .collect();
        holders.sort_by_key(|(owner, ..)| *owner);
        holders
    }

    pub(crate) fn queue(&self, lock: LockNo) -> Vec<(OwnerNo, Mode)> {
        let lock = self.locks.get(&lock).cloned().unwrap_or_default();
        lock.queue.iter().map(|waiting| (waiting.owner, waiting.mode)).collect()
    }

    pub(crate) fn awaits(&self, owner: OwnerNo) -> Option<LockNo> {
        let mut locks = self.locks.iter();
        locks.find(|(_, lock)| lock.queue.iter().any(|w| w.owner == owner)).map(|(no, _)| *no)
    }

    /// Whose requests for several locks wait for this one.
    pub(crate) fn joint_waiters(&self, lock: LockNo) -> Vec<OwnerNo> {
        let queue = self.locks.get(&lock).into_iter().flat_map(|lock| &lock.queue);
        queue.filter(|waiting| waiting.joint.is_some()).map(|waiting| waiting.owner).collect()
    }

    /// Who holds a lock and waits to hold it alone.
    pub(crate) fn upgrades(&self) -> Vec<(OwnerNo, LockNo)> {
        let locks = self.locks.iter();
        let upgrades = locks
            .flat_map(|(no, lock)| lock.queue.iter().filter(|w| w.upgrade).map(|w| (w.owner, *no)));
        upgrades.collect()
    }

    /// Takes the owner's request out of all queues; the locks it was for, and the request.
    fn unqueue(&mut self, owner: OwnerNo) -> (Vec<LockNo>, Waiting) {
        let mut removed = Vec::new();
        for (no, lock) in &mut self.locks {
            removed.extend(lock.queue.extract_if(.., |w| w.owner == owner).map(|w| (*no, w)));
        }
        let waiting = removed[0].1.clone();
        (removed.into_iter().map(|(no, _)| no).collect(), waiting)
    }

    fn end_wait(&mut self, owner: OwnerNo, end: &End) {
        let (locks, waiting) = self.unqueue(owner);
        self.report(locks[0], &waiting, end);
        for lock in locks {
            self.pump(lock);
        }
    }

    fn report(&mut self, lock: LockNo, waiting: &Waiting, end: &End) {
        if let Some(request) = waiting.request
            && *end != End::Cancelled
        {
            self.records.push((waiting.owner, request, end.clone()));
        }
        self.ended.push((waiting.owner, lock, waiting.claims.attempts.clone(), end.clone()));
    }

    fn pump(&mut self, no: LockNo) {
        if let Some(lock) = self.locks.get_mut(&no) {
            lock.sort();
        }
        while let Some(owner) = self.next_of(no) {
            let (locks, waiting) = self.unqueue(owner);
            let end = match &waiting.joint {
                None => {
                    let Waiting { mode, counted, .. } = waiting;
                    self.grant(owner, no, mode, waiting.claims.clone(), counted)
                }
                Some(wants) => self.grant_all(owner, wants, &waiting.claims),
            };
            self.report(locks[0], &waiting, &end);
        }
    }

    /// The first in the queue that nothing is in the way of, there and wherever else it waits.
    fn next_of(&self, no: LockNo) -> Option<OwnerNo> {
        let queue = &self.locks.get(&no)?.queue;
        let mut owners = queue.iter().map(|waiting| waiting.owner);
        owners.find(|owner| {
            self.locks.values().all(|lock| {
                let place = lock.queue.iter().position(|waiting| waiting.owner == *owner);
                place.is_none_or(|place| lock.is_open(place))
            })
        })
    }

    fn grant_all(&mut self, owner: OwnerNo, wants: &[(LockNo, Mode)], claims: &Claims) -> End {
        let mut grants = Vec::new();
        for (no, mode) in wants {
            self.grant(owner, *no, *mode, claims.clone(), false);
            grants.push((*no, *mode, self.newest));
        }
        End::GrantedAll(grants)
    }

    fn grant(
        &mut self,
        owner: OwnerNo,
        no: LockNo,
        mode: Mode,
        claims: Claims,
        counted: bool,
    ) -> End {
        self.newest += 1;
        let mut level =
            Level { mode, token: self.newest, claims, entries: 1, reentries: Vec::new() };
        let lock = self.locks.entry(no).or_default();
        match lock.holders.iter_mut().find(|(holder, _)| *holder == owner) {
            Some((_, levels)) => {
                level.entries = levels.last().unwrap().entries + u32::from(counted);
                levels.push(level);
            }
            None => lock.holders.push((owner, vec![level])),
        }
        End::Granted(no, mode, self.newest)
    }
}
