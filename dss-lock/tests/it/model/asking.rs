//! How locks are asked for.

use dss_lock::Mode;

use super::{
    Answer, Ask, Claims, End, Level, LockNo, Model, OwnerNo, Patience, Waiting, session_of,
};

impl Model {
    pub(crate) fn acquire(&mut self, ask: Ask) -> Answer {
        self.sessions.entry(session_of(ask.owner)).or_default();
        if let Some(request) = ask.request {
            let mut joined = false;
            for waiting in self.locks.values_mut().flat_map(|lock| &mut lock.queue) {
                if waiting.owner == ask.owner && waiting.request == Some(request) {
                    waiting.claims.add(ask.attempt);
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
            level.repeat(ask.attempt, ask.request);
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
                let level = self.held(owner, *no).unwrap();
                if ask.counted {
                    level.enter(attempt, ask.request);
                } else {
                    level.repeat(attempt, None);
                }
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
            let (request, claims) = (ask.request, Claims::of(ask.attempt));
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
                counted: ask.counted,
                joint,
            });
            lock.sort();
        }
    }

    fn grant_asked(&mut self, ask: Ask) -> End {
        let claims = Claims::of(ask.attempt);
        match ask.joint {
            Some(_) => self.grant_all(ask.owner, &ask.wants(), &claims),
            None => self.grant(ask.owner, ask.lock, ask.mode, claims, ask.counted),
        }
    }
}
