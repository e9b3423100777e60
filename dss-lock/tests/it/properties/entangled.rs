//! Commands of whoever mostly waits and upgrades: many of them close a cycle.

use dss_lock::Mode;

use super::intrigue;
use super::pair::{LOCKS, OWNERS, Pair, SESSIONS, Step};
use crate::model::{LockNo, OwnerNo};

/// Numbers by splitmix64: enough to mix commands, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) >> 33).unwrap() % bound
    }

    fn small(&mut self, bound: u8) -> u8 {
        u8::try_from(self.below(bound.into())).expect("it is below what is one")
    }

    /// Whether what happens so many times in a hundred happens now.
    pub(super) fn percent(&mut self, times: usize) -> bool {
        self.below(100) < times
    }

    pub(super) fn of_these<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        (!things.is_empty()).then(|| things[self.below(things.len())])
    }

    pub(super) fn mode(&mut self) -> Mode {
        if self.percent(50) { Mode::Exclusive } else { Mode::Shared }
    }
}

/// What one seed does how often. Some of it never: a state that takes two rare things in a row,
/// and that a third kind of command would spoil, comes up where that kind is left out.
#[derive(Debug)]
pub(super) struct Temper {
    owners: usize,
    locks: usize,
    /// Of a hundred times that a lock is chosen: those that it is the first one.
    hot: usize,
    /// Of a hundred requests: those that have an id, count as a re-entry, wait for a time only,
    /// and upgrade on purpose.
    named: usize,
    counted: usize,
    hasty: usize,
    upgrading: usize,
    /// Of a hundred commands about what is held or waited for: those about an upgrade that waits.
    upgrades: usize,
    /// How often each kind of command comes, beside the others.
    weights: [(Kind, usize); 13],
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Acquire,
    AcquireAll,
    Release,
    Downgrade,
    Cancel,
    ForceRelease,
    End,
    Pass,
    Open,
    Renew,
    Restore,
    /// A release of all that one who waits for nothing holds, one by one.
    GiveUp,
    /// What leads to an upgrade that is put back into a deadlock.
    Intrigue,
}

impl Temper {
    pub(super) fn any(random: &mut Random) -> Self {
        let mut one_of = |choice: &[usize]| random.of_these(choice).unwrap();
        Self {
            owners: one_of(&[3, 4, 5, 6, OWNERS, OWNERS]),
            locks: one_of(&[2, 3, LOCKS, LOCKS]),
            hot: one_of(&[0, 30, 60]),
            named: one_of(&[0, 0, 20, 80]),
            counted: one_of(&[0, 0, 20]),
            hasty: one_of(&[0, 0, 20]),
            upgrading: one_of(&[0, 20, 50]),
            upgrades: one_of(&[0, 30, 80]),
            weights: [
                (Kind::Acquire, one_of(&[20, 40])),
                (Kind::AcquireAll, one_of(&[0, 10, 20])),
                (Kind::Release, one_of(&[4, 4, 20])),
                (Kind::Downgrade, one_of(&[0, 2])),
                (Kind::Cancel, one_of(&[0, 2, 10])),
                (Kind::ForceRelease, one_of(&[0, 2, 6])),
                (Kind::End, one_of(&[0, 0, 2])),
                (Kind::Pass, one_of(&[0, 2])),
                (Kind::Open, one_of(&[0, 0, 2])),
                (Kind::Renew, one_of(&[0, 0, 1])),
                (Kind::Restore, one_of(&[0, 1])),
                (Kind::GiveUp, one_of(&[0, 6])),
                (Kind::Intrigue, one_of(&[0, 20, 80])),
            ],
        }
    }

    pub(super) fn step(&self, random: &mut Random, pair: &Pair) -> Step {
        let mut left = random.below(self.weights.iter().map(|(_, weight)| weight).sum());
        let chosen = self.weights.iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let token = None;
        match chosen.expect("it was below their sum").0 {
            Kind::Acquire => self.acquire(random, pair),
            Kind::AcquireAll => self.acquire_all(random, pair),
            Kind::Release => {
                let (owner, lock) = self.held(random, pair);
                Step::Release { owner, lock, token }
            }
            Kind::Downgrade => {
                let (owner, lock) = self.held(random, pair);
                Step::Downgrade { owner, lock, token }
            }
            Kind::Cancel => {
                let upgrades = pair.model.upgrades();
                let upgrade = random.of_these(&upgrades).filter(|_| random.percent(self.upgrades));
                Step::Cancel { back: self.attempt(random, pair, upgrade) }
            }
            Kind::ForceRelease => Step::ForceRelease { lock: self.held(random, pair).1 },
            Kind::End => {
                let sessions = vec![random.below(SESSIONS), random.below(SESSIONS)];
                Step::End { sessions, closed: random.percent(50), seen: random.percent(80) }
            }
            Kind::Pass => Step::Pass { millis: random.below(4) as u64 },
            Kind::Open => {
                let delay = random.percent(80).then(|| random.small(5));
                Step::Open { session: random.below(SESSIONS), delay }
            }
            Kind::Renew => Step::Renew { session: random.below(SESSIONS) },
            Kind::Restore => Step::Restore,
            Kind::Intrigue => intrigue::step(self, random, pair),
            Kind::GiveUp => {
                let mut held = holds(pair);
                held.retain(|(owner, _)| pair.model.awaits(*owner).is_none());
                let (owner, lock) = random.of_these(&held).unwrap_or((0, 0));
                Step::Release { owner, lock, token }
            }
        }
    }

    /// Whoever waits is seldom heard of, so that most requests are looked into.
    pub(super) fn owner(&self, random: &mut Random, pair: &Pair) -> OwnerNo {
        let mut owner = random.below(self.owners);
        for _ in 0..4 {
            if pair.model.awaits(owner).is_some() {
                owner = random.below(self.owners);
            }
        }
        owner
    }

    pub(super) fn lock(&self, random: &mut Random) -> LockNo {
        if random.percent(self.hot) { 0 } else { random.below(self.locks) }
    }

    fn wait(&self, random: &mut Random) -> Option<u8> {
        match random.percent(self.hasty) {
            true if random.percent(20) => None,
            true => Some(1 + random.small(4)),
            false => Some(0),
        }
    }

    fn request(&self, random: &mut Random) -> Option<u8> {
        random.percent(self.named).then(|| random.small(4))
    }

    fn acquire(&self, random: &mut Random, pair: &Pair) -> Step {
        let (mut owner, mut lock) = (self.owner(random, pair), self.lock(random));
        let mut mode = random.mode();
        if random.percent(self.upgrading) {
            let mut held = holds(pair);
            held.retain(|(owner, _)| pair.model.awaits(*owner).is_none());
            if let Some(upgrade) = random.of_these(&held) {
                ((owner, lock), mode) = (upgrade, Mode::Exclusive);
            }
        }
        let (wait, request) = (self.wait(random), self.request(random));
        Step::Acquire { owner, lock, mode, wait, request, counted: random.percent(self.counted) }
    }

    fn acquire_all(&self, random: &mut Random, pair: &Pair) -> Step {
        let owner = self.owner(random, pair);
        let locks = std::array::from_fn(|_| (self.lock(random), random.mode()));
        Step::AcquireAll { owner, locks, wait: self.wait(random), request: self.request(random) }
    }

    /// Somebody and what it holds, mostly.
    fn held(&self, random: &mut Random, pair: &Pair) -> (OwnerNo, LockNo) {
        if random.percent(self.upgrades)
            && let Some(upgrade) = random.of_these(&pair.model.upgrades())
        {
            return upgrade;
        }
        let any = (random.below(self.owners), self.lock(random));
        if random.percent(20) { any } else { random.of_these(&holds(pair)).unwrap_or(any) }
    }

    /// How many attempts back there is one to cancel.
    pub(super) fn attempt(
        &self,
        random: &mut Random,
        pair: &Pair,
        upgrade: Option<(OwnerNo, LockNo)>,
    ) -> usize {
        if let Some((owner, lock)) = upgrade {
            // Of the upgrade, of what it would upgrade, or of repeats of one of these.
            let asks = pair.attempts.iter().rev().enumerate();
            let asks = asks.filter(|(_, ask)| ask.owner == owner);
            let asks = asks.filter(|(_, ask)| ask.wants().iter().any(|(no, _)| *no == lock));
            let backs: Vec<usize> = asks.take(4).map(|(back, _)| back).collect();
            if let Some(back) = random.of_these(&backs) {
                return back;
            }
        }
        random.below(12)
    }
}

fn holds(pair: &Pair) -> Vec<(OwnerNo, LockNo)> {
    let holders = |lock| pair.model.holders(lock).into_iter().map(move |(owner, ..)| (owner, lock));
    (0..LOCKS).flat_map(holders).collect()
}
