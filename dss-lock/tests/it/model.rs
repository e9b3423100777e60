//! A lock table as one would write it without a thought for speed, to compare the real one with.
//!
//! It shares no idea with it: lists instead of maps, and instead of a search for cycles it plays
//! the future: whoever waits for nothing gives up all that it holds, again and again, and a
//! deadlock is where somebody is still waiting at the end.

use std::collections::{BTreeMap, BTreeSet};

use dss_lock::{AttemptId, Mode};

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

/// One level of a hold: a shared grant may have its upgrade on top.
#[derive(Debug, Clone)]
struct Level {
    mode: Mode,
    token: u64,
    claims: Vec<AttemptId>,
}

#[derive(Debug, Clone)]
struct Waiting {
    owner: OwnerNo,
    mode: Mode,
    upgrade: bool,
    arrived: AttemptId,
    until: Option<u64>,
    request: Option<u8>,
    claims: Vec<AttemptId>,
    /// Where it asks for several locks: all of them. It stands in the queue of each.
    joint: Option<Vec<(LockNo, Mode)>>,
}

#[derive(Debug, Clone, Default)]
struct ModelLock {
    holders: Vec<(OwnerNo, Vec<Level>)>,
    queue: Vec<Waiting>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) attempt: AttemptId,
    pub(crate) owner: OwnerNo,
    pub(crate) lock: LockNo,
    pub(crate) mode: Mode,
    pub(crate) patience: Patience,
    pub(crate) request: Option<u8>,
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
    records: Vec<(OwnerNo, u8, End)>,
    pub(crate) ended: Vec<Ended>,
    /// How many requests were refused for a deadlock, and how many were let past a writer.
    pub(crate) deadlocks: usize,
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
        self.holders.iter().all(|(holder, levels)| {
            *holder == owner || (mode == Mode::Shared && levels.last().unwrap().mode == mode)
        })
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

    pub(crate) fn pass_time(&mut self, now: u64) {
        self.now = self.now.max(now);
        loop {
            let due = self.locks.values().flat_map(|lock| {
                lock.queue.iter().filter_map(|w| Some((w.until?, w.arrived, w.owner)))
            });
            match due.min() {
                Some((until, _, owner)) if until <= self.now => {
                    self.end_wait(owner, &End::TimedOut);
                }
                _ => return,
            }
        }
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
        self.ended.push((waiting.owner, lock, waiting.claims.clone(), end.clone()));
    }

    fn pump(&mut self, no: LockNo) {
        if let Some(lock) = self.locks.get_mut(&no) {
            lock.sort();
        }
        while let Some(owner) = self.next_of(no) {
            let (locks, waiting) = self.unqueue(owner);
            let end = match &waiting.joint {
                None => self.grant(owner, no, waiting.mode, waiting.claims.clone()),
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

    fn grant_all(&mut self, owner: OwnerNo, wants: &[(LockNo, Mode)], claims: &[AttemptId]) -> End {
        let mut grants = Vec::new();
        for (no, mode) in wants {
            self.grant(owner, *no, *mode, claims.to_vec());
            grants.push((*no, *mode, self.newest));
        }
        End::GrantedAll(grants)
    }

    fn grant(&mut self, owner: OwnerNo, no: LockNo, mode: Mode, claims: Vec<AttemptId>) -> End {
        self.newest += 1;
        let level = Level { mode, token: self.newest, claims };
        let lock = self.locks.entry(no).or_default();
        match lock.holders.iter_mut().find(|(holder, _)| *holder == owner) {
            Some((_, levels)) => levels.push(level),
            None => lock.holders.push((owner, vec![level])),
        }
        End::Granted(no, mode, self.newest)
    }

    pub(crate) fn acquire(&mut self, ask: Ask) -> Answer {
        if let Some(request) = ask.request {
            let mut joined = false;
            for waiting in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
                if waiting.owner == ask.owner && waiting.request == Some(request) {
                    waiting.claims.push(ask.attempt);
                    joined = true;
                }
            }
            if joined {
                return Answer::Waiting;
            }
            let mut records = self.records.iter();
            let record = records.find(|(owner, id, _)| (*owner, *id) == (ask.owner, request));
            if let Some((_, _, end)) = record.cloned() {
                let granted = match &end {
                    End::Granted(lock, mode, token) => vec![(*lock, *mode, *token)],
                    End::GrantedAll(grants) => grants.clone(),
                    _ => Vec::new(),
                };
                for (lock, _, token) in granted {
                    self.claim(ask, lock, token);
                }
                return Answer::Ended(end);
            }
        }
        let answer = self.ask(ask);
        if let (Some(request), Answer::Ended(end)) = (ask.request, &answer) {
            self.records.push((ask.owner, request, end.clone()));
        }
        answer
    }

    fn claim(&mut self, ask: Ask, lock: LockNo, token: u64) {
        let holders = self.locks.get_mut(&lock).map(|lock| &mut lock.holders);
        let levels = holders.into_iter().flatten().filter(|(owner, _)| *owner == ask.owner);
        for level in levels.flat_map(|(_, levels)| levels).filter(|level| level.token == token) {
            level.claims.push(ask.attempt);
        }
    }

    /// What the owner holds of the lock.
    fn held(&mut self, owner: OwnerNo, no: LockNo) -> Option<&mut Level> {
        let holders = &mut self.locks.entry(no).or_default().holders;
        let held = holders.iter_mut().find(|(holder, _)| *holder == owner);
        held.and_then(|(_, levels)| levels.last_mut())
    }

    fn ask(&mut self, ask: Ask) -> Answer {
        let Ask { attempt, owner, .. } = ask;
        if self.awaits(owner).is_some() {
            return Answer::Ended(End::Busy);
        }
        let wants = ask.wants();
        let mut held = Vec::new();
        for (no, mode) in &wants {
            if let Some(level) = self.held(owner, *no) {
                held.push((
                    *no,
                    level.mode,
                    level.token,
                    level.mode == *mode || *mode == Mode::Shared,
                ));
            }
        }
        if held.len() == wants.len() && held.iter().all(|(.., covered)| *covered) {
            for (no, ..) in &held {
                self.held(owner, *no).unwrap().claims.push(attempt);
            }
            let mut grants = held.into_iter().map(|(no, mode, token, _)| (no, mode, token));
            return Answer::Ended(match ask.joint {
                Some(_) => End::GrantedAll(grants.collect()),
                None => {
                    grants.next().map(|(no, mode, token)| End::Granted(no, mode, token)).unwrap()
                }
            });
        }
        if ask.joint.is_some()
            && let Some((no, ..)) = held.first()
        {
            return Answer::Ended(End::AlreadyHolds(*no));
        }
        let upgrade = !held.is_empty();
        let free = |model: &Self, (no, mode): &(LockNo, Mode)| {
            let lock = &model.locks[no];
            let passes = |ahead: &Waiting| ahead.mode == Mode::Shared && *mode == Mode::Shared;
            lock.admits(owner, *mode) && (upgrade || lock.queue.iter().all(passes))
        };
        if wants.iter().all(|want| free(self, want)) {
            return Answer::Ended(self.grant_asked(ask));
        }
        let until = match ask.patience {
            Patience::Try => return Answer::Ended(End::Held),
            Patience::Until(until) => Some(until),
            Patience::Forever => None,
        };
        self.queue_up(ask, &wants, upgrade, until);
        if !self.is_stuck() {
            return Answer::Waiting;
        }
        self.unqueue(owner);
        // Whoever closes a cycle is always enough to break it.
        assert!(!self.is_stuck());
        if wants.iter().all(|(no, mode)| self.locks[no].admits(owner, *mode)) {
            self.barges += 1;
            let end = self.grant_asked(ask);
            assert!(!self.is_stuck());
            return Answer::Ended(end);
        }
        self.deadlocks += 1;
        Answer::Ended(End::Deadlock)
    }

    fn queue_up(&mut self, ask: Ask, wants: &[(LockNo, Mode)], upgrade: bool, until: Option<u64>) {
        for (no, mode) in wants {
            let (request, claims) = (ask.request, vec![ask.attempt]);
            let joint = ask.joint.map(|_| wants.to_vec());
            let lock = self.locks.get_mut(no).unwrap();
            let mode = *mode;
            let (owner, arrived) = (ask.owner, ask.attempt);
            lock.queue.push(Waiting {
                owner,
                mode,
                upgrade,
                arrived,
                until,
                request,
                claims,
                joint,
            });
            lock.sort();
        }
    }

    fn grant_asked(&mut self, ask: Ask) -> End {
        match ask.joint {
            Some(_) => self.grant_all(ask.owner, &ask.wants(), &[ask.attempt]),
            None => self.grant(ask.owner, ask.lock, ask.mode, vec![ask.attempt]),
        }
    }

    /// Whether somebody waits for ever, though all that can give way do.
    fn is_stuck(&self) -> bool {
        let mut future = self.clone();
        let numbers: Vec<LockNo> = future.locks.keys().copied().collect();
        for no in &numbers {
            future.pump(*no);
        }
        loop {
            let waiting: Vec<OwnerNo> =
                future.locks.values().flat_map(|lock| &lock.queue).map(|w| w.owner).collect();
            let mut gave_way = false;
            for no in numbers.iter().copied() {
                let holders = &mut future.locks.get_mut(&no).unwrap().holders;
                let before = holders.len();
                holders.retain(|(owner, _)| waiting.contains(owner));
                gave_way |= holders.len() < before;
                future.pump(no);
            }
            if !gave_way {
                return !waiting.is_empty();
            }
        }
    }

    /// Whether each of these sessions waits for the next, and the last for the first, once
    /// `ask` waits too.
    pub(crate) fn is_cycle(&self, ask: Ask, sessions: &[usize]) -> bool {
        let next = |place: usize| sessions[(place + 1) % sessions.len()];
        let holds = |lock: LockNo, session: usize, waiter: OwnerNo| {
            let holders = self.holders(lock);
            holders.iter().any(|(owner, ..)| *owner != waiter && session_of(*owner) == session)
        };
        let waits = |place: usize, session: usize| {
            let owners = [session * 2, session * 2 + 1];
            owners.into_iter().any(|owner| {
                let lock = match place == 0 {
                    true if owner == ask.owner => Some(ask.lock),
                    true => None,
                    false => self.awaits(owner),
                };
                lock.is_some_and(|lock| holds(lock, next(place), owner))
            })
        };
        sessions.first() == Some(&session_of(ask.owner))
            && sessions.iter().enumerate().all(|(place, session)| waits(place, *session))
    }

    pub(crate) fn cancel(&mut self, ask: Ask) {
        let Ask { attempt, owner, .. } = ask;
        let locks: Vec<LockNo> = ask.wants().into_iter().map(|(no, _)| no).collect();
        // A repeat joins the wait of its request id, whatever locks it names itself.
        let named = self.awaits(owner).is_some_and(|first| locks.contains(&first));
        let queues = self.locks.values_mut().flat_map(|lock| &mut lock.queue);
        let mut queues = queues.filter(|_| named);
        if let Some(waiting) = queues.find(|w| w.owner == owner && w.claims.contains(&attempt)) {
            if waiting.claims.len() == 1 {
                self.end_wait(owner, &End::Cancelled);
                return;
            }
            for waiting in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
                waiting.claims.retain(|claim| *claim != attempt);
            }
            return;
        }
        let mut forgotten = Vec::new();
        for no in &locks {
            let Some(lock) = self.locks.get_mut(no) else { continue };
            for (_, levels) in lock.holders.iter_mut().filter(|(holder, _)| *holder == owner) {
                for level in levels.iter_mut() {
                    level.claims.retain(|claim| *claim != attempt);
                }
                forgotten.extend(levels.extract_if(.., |level| level.claims.is_empty()));
            }
            lock.holders.retain(|(_, levels)| !levels.is_empty());
        }
        for level in forgotten {
            self.records.retain(|(_, _, end)| match end {
                End::Granted(_, _, token) => *token != level.token,
                End::GrantedAll(grants) => grants.iter().all(|(.., token)| *token != level.token),
                _ => true,
            });
        }
        for no in locks {
            self.settle(owner, no);
        }
    }

    /// An owner that waits to upgrade what it has lost goes back in the queue. There it may come
    /// to wait for requests that it was ahead of.
    fn settle(&mut self, owner: OwnerNo, no: LockNo) {
        if let Some(lock) = self.locks.get_mut(&no) {
            lock.sort();
        }
        if self.awaits(owner) == Some(no) && self.is_stuck() {
            self.deadlocks += 1;
            self.end_wait(owner, &End::Deadlock);
        }
        self.pump(no);
    }

    pub(crate) fn release(
        &mut self,
        owner: OwnerNo,
        no: LockNo,
        token: Option<u64>,
    ) -> &'static str {
        let lock = self.locks.entry(no).or_default();
        let Some(place) = lock.holders.iter().position(|(holder, _)| *holder == owner) else {
            return "not holder";
        };
        if token.is_some_and(|token| token != lock.holders[place].1.last().unwrap().token) {
            return "stale";
        }
        lock.holders.remove(place);
        self.settle(owner, no);
        "released"
    }

    pub(crate) fn force_release(&mut self, no: LockNo) {
        let mut holders = std::mem::take(&mut self.locks.entry(no).or_default().holders);
        holders.sort_by_key(|(_, levels)| levels.last().unwrap().token);
        self.locks.get_mut(&no).unwrap().sort();
        for (owner, _) in holders {
            if self.awaits(owner) == Some(no) && self.is_stuck() {
                self.end_wait_quietly(owner);
            }
        }
        self.pump(no);
    }

    fn end_wait_quietly(&mut self, owner: OwnerNo) {
        self.deadlocks += 1;
        let (locks, waiting) = self.unqueue(owner);
        self.report(locks[0], &waiting, &End::Deadlock);
    }

    pub(crate) fn end_sessions(&mut self, sessions: &[usize]) {
        let dead = |owner: OwnerNo| sessions.contains(&session_of(owner));
        let mut touched = BTreeSet::new();
        for (no, lock) in &mut self.locks {
            let holders = lock.holders.len();
            lock.holders.retain(|(owner, _)| !dead(*owner));
            if lock.holders.len() < holders {
                touched.insert(*no);
            }
        }
        for owner in sessions.iter().flat_map(|session| [session * 2, session * 2 + 1]) {
            if self.awaits(owner).is_some() {
                let (locks, waiting) = self.unqueue(owner);
                self.report(locks[0], &waiting, &End::Expired);
                touched.extend(locks);
            }
        }
        self.records.retain(|(owner, ..)| !dead(*owner));
        for no in touched {
            self.pump(no);
        }
    }
}
