//! Random commands, applied to the table and to the naive model side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use dss_lock::{
    AcquireAllRequest, AcquireRequest, AttemptId, ClusterTime, Command, Event, Expiry, LockName,
    LockTable, Mode, Outcome, Owner, OwnerId, ReleaseOutcome, ReleaseRequest, Reply, RequestId,
    SessionId, Wait,
};
use proptest::prelude::*;

use crate::model::{Answer, Ask, End, Ended, LockNo, Model, OwnerNo, Patience, session_of};

const OWNERS: usize = 8;
const LOCKS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    Acquire { owner: OwnerNo, lock: LockNo, mode: Mode, wait: Option<u8>, request: Option<u8> },
    AcquireAll { owner: OwnerNo, locks: [(LockNo, Mode); 3], wait: Option<u8>, request: Option<u8> },
    Cancel { back: usize },
    Release { owner: OwnerNo, lock: LockNo, token: Option<bool> },
    ForceRelease { lock: LockNo },
    End { sessions: Vec<usize>, closed: bool, seen: bool },
    Pass { millis: u64 },
    Restore,
}

/// The two side by side.
#[derive(Default)]
struct Pair {
    table: LockTable,
    model: Model,
    index: u64,
    now: u64,
    attempts: Vec<Ask>,
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
    fn step(&mut self, step: &Step) {
        self.index += 1;
        match step {
            Step::Acquire { owner, lock, mode, wait, request } => {
                let attempt = AttemptId { term: 0, sequence: self.index };
                let patience = self.patience(*wait);
                let (owner, lock, mode, request) = (*owner, *lock, *mode, *request);
                let joint = None;
                self.acquire(Ask { attempt, owner, lock, mode, patience, request, joint }, *wait);
            }
            Step::AcquireAll { owner, locks, wait, request } => {
                self.joint = true;
                let attempt = AttemptId { term: 0, sequence: self.index };
                let patience = self.patience(*wait);
                let (owner, request) = (*owner, *request);
                let [(lock, mode), joint @ ..] = *locks;
                let joint = Some(joint);
                self.acquire(Ask { attempt, owner, lock, mode, patience, request, joint }, *wait);
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
            let reentrant = false;
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

    fn release(&mut self, owner: OwnerNo, lock: LockNo, right: Option<bool>) {
        let held = self.model.holders(lock);
        let held = held.iter().find(|(holder, ..)| *holder == owner).map(|(.., token)| *token);
        let token = right.map(|right| held.unwrap_or(0) + u64::from(!right));
        let Owner { session, owner: owner_id } = owner_of(owner);
        let request = ReleaseRequest {
            lock: lock_name(lock),
            session,
            owner: owner_id,
            token: token.map(dss_lock::FencingToken::new),
        };
        let (reply, answer) =
            self.apply(Command::Release(request), |model| model.release(owner, lock, token));
        let expected = match answer {
            "released" => ReleaseOutcome::Released,
            "stale" => ReleaseOutcome::StaleToken,
            _ => ReleaseOutcome::NotHolder,
        };
        assert_eq!(reply, Reply::Release(expected));
    }

    fn end_sessions(&mut self, sessions: &[usize], closed: bool, seen: bool) {
        if closed {
            let session = session_id(sessions[0]);
            let command = Command::CloseSession { session };
            self.apply(command, |model| model.end_sessions(&sessions[..1]));
            return;
        }
        let renewal = |session: &SessionId| self.table.session(session).map(|view| view.renewal);
        let expiries = sessions.iter().map(|session| {
            let session = session_id(*session);
            let renewal = renewal(&session).unwrap_or(0) + u64::from(!seen);
            Expiry { session, renewal }
        });
        let command = Command::Expire { sessions: expiries.collect() };
        self.apply(command, |model| model.end_sessions(if seen { sessions } else { &[] }));
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

fn steps(joint: u32) -> impl Strategy<Value = Step> {
    let (owner, lock) = (0..OWNERS, 0..LOCKS);
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)].boxed();
    let wait = prop_oneof![1 => Just(None), 4 => (0..6_u8).prop_map(Some)].boxed();
    let request = prop_oneof![4 => Just(None), 1 => (0..3_u8).prop_map(Some)].boxed();
    let sessions = prop::sample::subsequence(vec![0, 1, 2, 3], 1..3);
    let locks = prop::array::uniform3((lock.clone(), mode.clone()));
    let acquire_all = (owner.clone(), locks, wait.clone(), request.clone())
        .prop_map(|(owner, locks, wait, request)| Step::AcquireAll { owner, locks, wait, request });
    let acquire = (owner.clone(), lock.clone(), mode, wait, request).prop_map(
        |(owner, lock, mode, wait, request)| Step::Acquire { owner, lock, mode, wait, request },
    );
    let release = (owner, lock.clone(), any::<Option<bool>>())
        .prop_map(|(owner, lock, token)| Step::Release { owner, lock, token });
    let end = (sessions, any::<bool>(), any::<bool>())
        .prop_map(|(sessions, closed, seen)| Step::End { sessions, closed, seen });
    prop_oneof![
        12 - joint => acquire,
        joint => acquire_all,
        5 => release,
        2 => (0..6_usize).prop_map(|back| Step::Cancel { back }),
        1 => lock.prop_map(|lock| Step::ForceRelease { lock }),
        1 => end,
        2 => (0..4_u64).prop_map(|millis| Step::Pass { millis }),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_naive_model_does(steps in prop::collection::vec(steps(0), 1..80)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.step(step);
        }
    }

    #[test]
    fn requests_for_several_locks_do_too(steps in prop::collection::vec(steps(5), 1..80)) {
        let mut pair = Pair::default();
        for step in &steps {
            pair.step(step);
        }
    }

    #[test]
    fn a_replica_restored_anywhere_ends_in_the_same_state(
        steps in prop::collection::vec(steps(3), 1..60),
        at in any::<prop::sample::Index>(),
    ) {
        let (mut straight, mut restored) = (Pair::default(), Pair::default());
        for (place, step) in steps.iter().filter(|s| !matches!(s, Step::Restore)).enumerate() {
            straight.step(step);
            restored.step(step);
            if place == at.index(steps.len()) {
                restored.step(&Step::Restore);
                restored.index = straight.index;
            }
        }
        prop_assert_eq!(&straight.table, &restored.table);
        prop_assert_eq!(straight.table.snapshot(), restored.table.snapshot());
    }
}

/// Small steps of a linear congruential generator (Knuth's MMIX constants): enough to mix
/// commands, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Steps of whoever mostly waits, upgrades and gives up little: every other request or so closes a
/// cycle.
fn entangled_step(random: &mut Random, pair: &Pair, joint: bool) -> Step {
    let lock = random.below(LOCKS);
    let mut owner = random.below(OWNERS);
    // Whoever waits is seldom heard of, so that most requests are looked into.
    for _ in 0..4 {
        if pair.model.awaits(owner).is_some() {
            owner = random.below(OWNERS);
        }
    }
    let mut mode = || if random.below(2) == 0 { Mode::Exclusive } else { Mode::Shared };
    let (first, second, third) = (mode(), mode(), mode());
    match random.below(24) {
        0..7 if joint => {
            let locks =
                [(lock, first), (random.below(LOCKS), second), (random.below(LOCKS), third)];
            Step::AcquireAll { owner, locks, wait: Some(0), request: None }
        }
        0..20 => Step::Acquire { owner, lock, mode: first, wait: Some(0), request: None },
        20..22 => Step::Release { owner, lock, token: None },
        22 => Step::Cancel { back: random.below(5) },
        _ => Step::ForceRelease { lock },
    }
}

/// `DSS_COMMANDS` random commands, 240,000 where it is not set, half of them with requests for
/// several locks; or those of the seed `DSS_SEED`.
#[test]
fn deadlocks_are_found_exactly_when_there_is_one() {
    const COMMANDS_PER_SEED: u64 = 60;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("DSS_SEED");
    let commands_wanted = number("DSS_COMMANDS").unwrap_or(240_000);
    let seeds = seed.map_or(0..commands_wanted / COMMANDS_PER_SEED, |seed| seed..seed + 1);
    let (mut commands, mut deadlocks, mut barges) = (0_u64, 0, 0);
    for seed in seeds {
        let mut random = Random(seed);
        let mut pair = Pair::default();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..COMMANDS_PER_SEED {
                let step = entangled_step(&mut random, &pair, seed % 2 == 1);
                pair.step(&step);
                commands += 1;
            }
        }));
        if let Err(panic) = run {
            eprintln!("failed with DSS_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
        deadlocks += pair.model.deadlocks;
        barges += pair.model.barges;
    }
    println!("{commands} commands, {deadlocks} deadlocks, {barges} let past others that wait");
    if seed.is_none() {
        assert!(deadlocks as u64 > commands / 50, "{deadlocks} deadlocks");
        assert!(barges as u64 > commands / 3_000, "{barges} barges");
    }
}
