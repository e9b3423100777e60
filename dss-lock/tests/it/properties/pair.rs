//! The table and the naive model, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use dss_lock::{
    AcquireAllRequest, AcquireRequest, AttemptId, ClusterTime, Command, DowngradeOutcome, Event,
    Expiry, FencingToken, LockName, LockTable, Mode, Outcome, Owner, OwnerId, ReleaseOutcome,
    ReleaseRequest, Reply, RequestId, SessionId, Wait,
};

use crate::model::{Answer, Ask, End, Ended, LockNo, Model, OwnerNo, Patience, session_of};

pub(super) const OWNERS: usize = 8;
pub(super) const SESSIONS: usize = OWNERS / 2;
pub(super) const LOCKS: usize = 5;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Acquire {
        owner: OwnerNo,
        lock: LockNo,
        mode: Mode,
        wait: Option<u8>,
        request: Option<u8>,
        counted: bool,
    },
    AcquireAll {
        owner: OwnerNo,
        locks: [(LockNo, Mode); 3],
        wait: Option<u8>,
        request: Option<u8>,
    },
    Cancel {
        back: usize,
    },
    Release {
        owner: OwnerNo,
        lock: LockNo,
        token: Option<bool>,
    },
    Downgrade {
        owner: OwnerNo,
        lock: LockNo,
        token: Option<bool>,
    },
    ForceRelease {
        lock: LockNo,
    },
    Open {
        session: usize,
        delay: Option<u8>,
    },
    Renew {
        session: usize,
    },
    End {
        sessions: Vec<usize>,
        closed: bool,
        seen: bool,
    },
    Pass {
        millis: u64,
    },
    Restore,
}

/// The two side by side.
#[derive(Default)]
pub(super) struct Pair {
    pub(super) table: LockTable,
    pub(super) model: Model,
    pub(super) index: u64,
    now: u64,
    pub(super) attempts: Vec<Ask>,
    /// Of each attempt, how it ended.
    ends: BTreeMap<AttemptId, End>,
    newest: u64,
    /// Whether a request for several locks has been made: cycles may then lead through queues.
    joint: bool,
}

fn lock_name(lock: LockNo) -> LockName {
    LockName::new(format!("lock {lock}")).unwrap()
}

fn session_id(session: usize) -> SessionId {
    SessionId::new(format!("session {session}")).unwrap()
}

fn owner_of(owner: OwnerNo) -> Owner {
    let name = OwnerId::new(if owner.is_multiple_of(2) { "" } else { "other" }).unwrap();
    Owner { session: session_id(session_of(owner)), owner: name }
}

fn number(name: &str) -> usize {
    name.rsplit(' ').next().unwrap().parse().unwrap()
}

fn owner_no(owner: &Owner) -> OwnerNo {
    number(owner.session.as_str()) * 2 + usize::from(!owner.owner.as_str().is_empty())
}

impl Pair {
    pub(super) fn step(&mut self, step: &Step) {
        self.index += 1;
        match step {
            Step::Acquire { owner, lock, mode, wait, request, counted } => {
                let attempt = AttemptId { term: 0, sequence: self.index };
                let patience = self.patience(*wait);
                let (owner, lock, mode, request) = (*owner, *lock, *mode, *request);
                let (counted, joint) = (*counted, None);
                let ask = Ask { attempt, owner, lock, mode, patience, request, counted, joint };
                self.acquire(ask, *wait);
            }
            Step::AcquireAll { owner, locks, wait, request } => {
                self.joint = true;
                let attempt = AttemptId { term: 0, sequence: self.index };
                let patience = self.patience(*wait);
                let (owner, request) = (*owner, *request);
                let [(lock, mode), joint @ ..] = *locks;
                let (counted, joint) = (false, Some(joint));
                let ask = Ask { attempt, owner, lock, mode, patience, request, counted, joint };
                self.acquire(ask, *wait);
            }
            Step::Cancel { back } => {
                let Some(place) = self.attempts.len().checked_sub(back + 1) else { return };
                let ask = self.attempts[place];
                let locks = ask.wants().into_iter().map(|(lock, _)| lock_name(lock)).collect();
                let (attempt, owner) = (ask.attempt, owner_of(ask.owner));
                let command = Command::Cancel { attempt, locks, owner };
                self.apply(command, |model| model.cancel(ask));
            }
            Step::Release { owner, lock, token } => self.release(*owner, *lock, *token),
            Step::Downgrade { owner, lock, token } => self.downgrade(*owner, *lock, *token),
            Step::Open { session, delay } => self.open(*session, *delay),
            Step::Renew { session } => {
                let command = Command::Renew { session: session_id(*session) };
                let (reply, lives) =
                    self.apply(command, |model| model.sessions.contains_key(session));
                let Reply::Renewed(view) = reply else { panic!("{reply:?}") };
                assert_eq!(view.map(|view| view.renewal), lives.then_some(self.index));
            }
            Step::ForceRelease { lock } => {
                let command = Command::ForceRelease { lock: lock_name(*lock) };
                self.apply(command, |model| model.force_release(*lock));
            }
            Step::End { sessions, closed, seen } => self.end_sessions(sessions, *closed, *seen),
            Step::Pass { millis } => {
                self.now += millis;
                self.apply(Command::Tick, |_| ());
            }
            Step::Restore => {
                self.table = LockTable::restore(&self.table.snapshot()).unwrap();
            }
        }
        self.check();
    }

    /// Applies to both, and compares what has ended by it.
    fn apply<T>(&mut self, command: Command, naive: impl FnOnce(&mut Model) -> T) -> (Reply, T) {
        let now = ClusterTime::from_millis(self.now);
        let (reply, events) = self.table.apply(self.index, now, command);
        self.model.pass_time(self.now);
        let answer = naive(&mut self.model);
        let mut ended: Vec<Ended> = events.iter().filter_map(wait_ended).collect();
        let mut expected = std::mem::take(&mut self.model.ended);
        // Sessions are ended, and their locks granted anew, in an order that promises nothing.
        ended.sort_by_key(|(owner, ..)| *owner);
        expected.sort_by_key(|(owner, ..)| *owner);
        for (.., attempts, end) in &ended {
            for attempt in attempts {
                assert_eq!(
                    self.ends.insert(*attempt, end.clone()),
                    None,
                    "{attempt:?} ended twice"
                );
            }
        }
        assert_eq!(ended, expected);
        (reply, answer)
    }

    fn patience(&self, wait: Option<u8>) -> Patience {
        match wait {
            None => Patience::Try,
            Some(0) => Patience::Forever,
            Some(millis) => Patience::Until(self.now + u64::from(millis)),
        }
    }

    fn acquire(&mut self, ask: Ask, wait: Option<u8>) {
        let Owner { session, owner } = owner_of(ask.owner);
        let wait = match wait {
            None => Wait::Try,
            Some(0) => Wait::Forever,
            Some(millis) => Wait::For(Duration::from_millis(millis.into())),
        };
        let request_id = ask.request.map(|id| RequestId::new(id.to_string()).unwrap());
        self.attempts.push(ask);
        let attempt = ask.attempt;
        let (lock, mode, ttl) = (lock_name(ask.lock), ask.mode, None);
        let command = if let Some(further) = ask.joint {
            let further = further.iter().map(|(lock, mode)| (lock_name(*lock), *mode));
            let locks = [(lock, mode)].into_iter().chain(further).collect();
            let request = AcquireAllRequest { locks, session, owner, wait, ttl, request_id };
            Command::AcquireAll { attempt, request }
        } else {
            let reentrant = ask.counted;
            let request =
                AcquireRequest { lock, session, owner, mode, wait, ttl, request_id, reentrant };
            Command::Acquire { attempt, request }
        };
        let (reply, answer) = self.apply(command, |model| model.acquire(ask));
        match reply {
            Reply::Waiting => assert_eq!(answer, Answer::Waiting),
            Reply::Ended(outcome) => {
                if let Outcome::Deadlock { cycle } = &outcome
                    && ask.request.is_none()
                    && !self.joint
                {
                    let cycle: Vec<_> = cycle.iter().map(|name| number(name.as_str())).collect();
                    assert!(self.model.is_cycle(ask, &cycle), "{cycle:?} is no cycle of {ask:?}");
                }
                let end = end_of(&outcome);
                assert_eq!(answer, Answer::Ended(end.clone()));
                assert_eq!(self.ends.insert(attempt, end), None, "{attempt:?} ended twice");
            }
            reply => panic!("an acquire was answered {reply:?}"),
        }
    }

    /// A request about what `owner` holds, with the token that it holds it by or with another.
    fn about(
        &self,
        owner: OwnerNo,
        lock: LockNo,
        right: Option<bool>,
    ) -> (ReleaseRequest, Option<u64>) {
        let held = self.model.holders(lock);
        let held = held.iter().find(|(holder, ..)| *holder == owner).map(|(.., token)| *token);
        let named = right.map(|right| held.unwrap_or(0) + u64::from(!right));
        let Owner { session, owner } = owner_of(owner);
        let token = named.map(FencingToken::new);
        (ReleaseRequest { lock: lock_name(lock), session, owner, token }, named)
    }

    fn release(&mut self, owner: OwnerNo, lock: LockNo, right: Option<bool>) {
        let (request, token) = self.about(owner, lock, right);
        let (reply, expected) =
            self.apply(Command::Release(request), |model| model.release(owner, lock, token));
        assert_eq!(reply, Reply::Release(expected));
    }

    fn downgrade(&mut self, owner: OwnerNo, lock: LockNo, right: Option<bool>) {
        let (request, token) = self.about(owner, lock, right);
        let (reply, expected) =
            self.apply(Command::Downgrade(request), |model| model.downgrade(owner, lock, token));
        let Reply::Downgrade(outcome) = reply else { panic!("{reply:?}") };
        let outcome = match outcome {
            DowngradeOutcome::Downgraded(grant) => {
                assert_eq!(grant.mode, Mode::Shared);
                Ok(grant.token.get())
            }
            DowngradeOutcome::StaleToken => Err(ReleaseOutcome::StaleToken),
            DowngradeOutcome::NotHolder => Err(ReleaseOutcome::NotHolder),
        };
        assert_eq!(outcome, expected);
    }

    fn open(&mut self, session: usize, delay: Option<u8>) {
        let lock_delay = delay.map(|millis| Duration::from_millis(millis.into()));
        let ttl = Duration::from_secs(9);
        let command = Command::OpenSession { session: session_id(session), ttl, lock_delay };
        let (reply, delay) = self.apply(command, |model| {
            let known = model.sessions.entry(session).or_default();
            *known = delay.map_or(*known, u64::from);
            *known
        });
        let Reply::Session(Ok(view)) = reply else { panic!("{reply:?}") };
        assert_eq!(view.lock_delay, Duration::from_millis(delay));
    }

    fn end_sessions(&mut self, sessions: &[usize], closed: bool, seen: bool) {
        if closed {
            let session = session_id(sessions[0]);
            let command = Command::CloseSession { session };
            let (reply, lived) = self.apply(command, |model| {
                let lived = model.sessions.contains_key(&sessions[0]);
                model.end_sessions(&sessions[..1], closed);
                lived
            });
            assert_eq!(reply, Reply::Closed(lived));
            return;
        }
        let renewal = |session: &SessionId| self.table.session(session).map(|view| view.renewal);
        let expiries = sessions.iter().map(|session| {
            let session = session_id(*session);
            let renewal = renewal(&session).unwrap_or(0) + u64::from(!seen);
            Expiry { session, renewal }
        });
        let command = Command::Expire { sessions: expiries.collect() };
        self.apply(command, |model| model.end_sessions(if seen { sessions } else { &[] }, closed));
    }

    fn check(&mut self) {
        assert_eq!(self.table.check(), Ok(()));
        for lock in 0..LOCKS {
            let info = self.table.lock(&lock_name(lock));
            let name = |session: &SessionId, owner: &OwnerId| {
                owner_no(&Owner { session: session.clone(), owner: owner.clone() })
            };
            let holders = info.iter().flat_map(|info| &info.holders);
            let mut holders: Vec<_> =
                holders.map(|h| (name(&h.session, &h.owner), h.mode, h.token.get())).collect();
            assert!(holders.is_sorted_by_key(|(.., token)| *token), "not by their grants");
            holders.sort_by_key(|(owner, ..)| *owner);
            assert_eq!(holders, self.model.holders(lock));
            let exclusive = holders.iter().any(|(_, mode, _)| *mode == Mode::Exclusive);
            assert!(!exclusive || holders.len() == 1, "exclusive beside others: {holders:?}");
            let queue = info.iter().flat_map(|info| &info.queue);
            let queue: Vec<_> = queue.map(|w| (name(&w.session, &w.owner), w.mode)).collect();
            assert_eq!(queue, self.model.queue(lock));
        }
        let newest = self.table.newest_token().get();
        assert!(newest >= self.newest, "a token came twice");
        assert_eq!(newest, self.model.newest);
        self.newest = newest;
    }
}

fn wait_ended(event: &Event) -> Option<Ended> {
    match event {
        Event::WaitEnded { lock, owner, attempts, outcome } => {
            let lock = number(lock.as_str());
            Some((owner_no(owner), lock, attempts.clone(), end_of(outcome)))
        }
        _ => None,
    }
}

fn end_of(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Granted(grant) => {
            End::Granted(number(grant.lock.as_str()), grant.mode, grant.token.get())
        }
        Outcome::Held { .. } => End::Held,
        Outcome::TimedOut => End::TimedOut,
        Outcome::Deadlock { .. } => End::Deadlock,
        Outcome::OwnerBusy => End::Busy,
        Outcome::SessionExpired => End::Expired,
        Outcome::Cancelled => End::Cancelled,
        Outcome::GrantedAll(grants) => {
            let grants = grants.iter();
            let grants = grants.map(|g| (number(g.lock.as_str()), g.mode, g.token.get()));
            End::GrantedAll(grants.collect())
        }
        Outcome::AlreadyHolds { lock } => End::AlreadyHolds(number(lock.as_str())),
        Outcome::Refused(limit) => panic!("{limit:?} reached by so little"),
    }
}
