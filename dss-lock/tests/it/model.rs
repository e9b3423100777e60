//! A lock table as one would write it without a thought for speed, to compare the real one with.
//!
//! It shares no idea with it: lists instead of maps, and instead of a search for cycles it plays
//! the future: whoever waits for nothing gives up all that it holds, again and again, and a
//! deadlock is where somebody is still waiting at the end.

use std::collections::BTreeMap;

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
            let due = self.locks.iter().flat_map(|(no, lock)| {
                lock.queue.iter().filter_map(|w| Some((w.until?, w.arrived, w.owner, *no)))
            });
            match due.min() {
                Some((until, _, owner, lock)) if until <= self.now => {
                    self.end_wait(owner, lock, &End::TimedOut);
                    self.pump(lock);
                }
                _ => return,
            }
        }
    }

    fn end_wait(&mut self, owner: OwnerNo, lock: LockNo, end: &End) {
        let queue = &mut self.locks.get_mut(&lock).unwrap().queue;
        let place = queue.iter().position(|waiting| waiting.owner == owner).unwrap();
        let waiting = queue.remove(place);
        self.report(lock, &waiting, end);
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
        while let Some(lock) = self.locks.get_mut(&no)
            && let Some(first) = lock.queue.first()
            && lock.admits(first.owner, first.mode)
        {
            let waiting = lock.queue.remove(0);
            let end = self.grant(waiting.owner, no, waiting.mode, waiting.claims.clone());
            self.report(no, &waiting, &end);
        }
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
            for waiting in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
                if waiting.owner == ask.owner && waiting.request == Some(request) {
                    waiting.claims.push(ask.attempt);
                    return Answer::Waiting;
                }
            }
            let mut records = self.records.iter();
            let record = records.find(|(owner, id, _)| (*owner, *id) == (ask.owner, request));
            if let Some((_, _, end)) = record.cloned() {
                if let End::Granted(lock, _, token) = end {
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

    fn ask(&mut self, ask: Ask) -> Answer {
        let Ask { attempt, owner, lock: no, mode, .. } = ask;
        if self.awaits(owner).is_some() {
            return Answer::Ended(End::Busy);
        }
        let lock = self.locks.entry(no).or_default();
        let held = lock.holders.iter_mut().find(|(holder, _)| *holder == owner);
        let upgrade = held.is_some();
        if let Some(top) = held.and_then(|(_, levels)| levels.last_mut())
            && (top.mode == mode || top.mode == Mode::Exclusive)
        {
            top.claims.push(attempt);
            return Answer::Ended(End::Granted(no, top.mode, top.token));
        }
        let admitted = lock.admits(owner, mode);
        if admitted && (upgrade || lock.queue.is_empty()) {
            return Answer::Ended(self.grant(owner, no, mode, vec![attempt]));
        }
        let until = match ask.patience {
            Patience::Try => return Answer::Ended(End::Held),
            Patience::Until(until) => Some(until),
            Patience::Forever => None,
        };
        let (request, claims) = (ask.request, vec![attempt]);
        lock.queue.push(Waiting { owner, mode, upgrade, arrived: attempt, until, request, claims });
        lock.sort();
        if !self.is_stuck() {
            return Answer::Waiting;
        }
        let queue = &mut self.locks.get_mut(&no).unwrap().queue;
        queue.retain(|waiting| waiting.arrived != attempt);
        // Whoever closes a cycle is always enough to break it.
        assert!(!self.is_stuck());
        if mode == Mode::Shared && admitted {
            self.barges += 1;
            let end = self.grant(owner, no, mode, vec![attempt]);
            assert!(!self.is_stuck());
            return Answer::Ended(end);
        }
        self.deadlocks += 1;
        Answer::Ended(End::Deadlock)
    }

    /// Whether somebody waits for ever, though all that can give way do.
    fn is_stuck(&self) -> bool {
        let mut future = self.clone();
        loop {
            let waiting: Vec<OwnerNo> =
                future.locks.values().flat_map(|lock| &lock.queue).map(|w| w.owner).collect();
            let mut gave_way = false;
            let numbers: Vec<LockNo> = future.locks.keys().copied().collect();
            for no in numbers {
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

    pub(crate) fn cancel(&mut self, attempt: AttemptId, owner: OwnerNo, no: LockNo) {
        let Some(lock) = self.locks.get_mut(&no) else { return };
        if let Some(waiting) = lock.queue.iter_mut().find(|waiting| waiting.owner == owner)
            && waiting.claims.contains(&attempt)
        {
            if waiting.claims.len() > 1 {
                waiting.claims.retain(|claim| *claim != attempt);
            } else {
                self.end_wait(owner, no, &End::Cancelled);
                self.pump(no);
            }
            return;
        }
        let mut forgotten = Vec::new();
        for (_, levels) in lock.holders.iter_mut().filter(|(holder, _)| *holder == owner) {
            for level in levels.iter_mut() {
                level.claims.retain(|claim| *claim != attempt);
            }
            forgotten.extend(levels.extract_if(.., |level| level.claims.is_empty()));
        }
        lock.holders.retain(|(_, levels)| !levels.is_empty());
        for level in forgotten {
            self.records.retain(
                |(_, _, end)| !matches!(end, End::Granted(_, _, token) if *token == level.token),
            );
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
        self.pump(no);
        "released"
    }

    pub(crate) fn force_release(&mut self, no: LockNo) {
        self.locks.entry(no).or_default().holders.clear();
        self.pump(no);
    }

    pub(crate) fn end_sessions(&mut self, sessions: &[usize]) {
        let dead = |owner: OwnerNo| sessions.contains(&session_of(owner));
        let numbers: Vec<LockNo> = self.locks.keys().copied().collect();
        for no in &numbers {
            let lock = self.locks.get_mut(no).unwrap();
            lock.holders.retain(|(owner, _)| !dead(*owner));
            for waiting in lock.queue.extract_if(.., |w| dead(w.owner)).collect::<Vec<_>>() {
                self.report(*no, &waiting, &End::Expired);
            }
        }
        self.records.retain(|(owner, ..)| !dead(*owner));
        for no in numbers {
            self.pump(no);
        }
    }
}
