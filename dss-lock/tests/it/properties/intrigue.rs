//! Commands that lead, one after the other, to an upgrade that closes a cycle when it is put back
//! in its queue. Chance alone takes too many commands to get there.

use dss_lock::Mode;

use super::entangled::{Random, Temper};
use super::pair::{LOCKS, Pair, Step};
use crate::model::{LockNo, OwnerNo};

/// The next of these commands: somebody holds a lock shared beside others, a request for several
/// locks waits there, whoever holds it upgrades, whoever the request waits for elsewhere comes to
/// wait behind the upgrade, and what was to be upgraded is lost.
pub(super) fn step(temper: &Temper, random: &mut Random, pair: &Pair) -> Step {
    let model = &pair.model;
    let mut upgrades = model.upgrades();
    upgrades.retain(|(_, lock)| !model.joint_waiters(*lock).is_empty());
    if let Some((owner, lock)) = random.of_these(&upgrades) {
        let in_the_way = in_the_way(pair, owner, lock);
        if let Some(other) = random.of_these(&in_the_way)
            && random.percent(80)
        {
            return acquire(other, lock, random.mode());
        }
        return lose(temper, random, pair, owner, lock);
    }
    let mut shared: Vec<LockNo> = (0..LOCKS).collect();
    shared.retain(|lock| is_shared(pair, *lock));
    let mut upgradable = idle_holders(pair, &shared);
    upgradable.retain(|(_, lock)| {
        model.holders(*lock).len() > 1 && !model.joint_waiters(*lock).is_empty()
    });
    // Of whoever has nothing else, nothing may be left in the end.
    let bare: Vec<_> =
        upgradable.iter().copied().filter(|(owner, _)| holds_of(pair, *owner) == 1).collect();
    if let Some((owner, lock)) = random.of_these(&bare).or(random.of_these(&upgradable)) {
        return acquire(owner, lock, Mode::Exclusive);
    }
    let crowded: Vec<LockNo> =
        shared.iter().copied().filter(|lock| model.holders(*lock).len() > 1).collect();
    let owner = temper.owner(random, pair);
    let held: Vec<LockNo> = (0..LOCKS).filter(|lock| !model.holders(*lock).is_empty()).collect();
    if let (Some(lock), Some(other)) = (random.of_these(&crowded), random.of_these(&held))
        && lock != other
    {
        let wanted = (lock, random.mode());
        let locks = [wanted, (other, Mode::Exclusive), (other, Mode::Exclusive)];
        return Step::AcquireAll { owner, locks, wait: Some(0), request: None };
    }
    let lock = random.of_these(&shared).unwrap_or_else(|| temper.lock(random));
    if random.percent(60) {
        acquire(owner, lock, Mode::Shared)
    } else {
        acquire(owner, temper.lock(random), Mode::Exclusive)
    }
}

fn acquire(owner: OwnerNo, lock: LockNo, mode: Mode) -> Step {
    Step::Acquire { owner, lock, mode, wait: Some(0), request: None, counted: false }
}

/// Takes from `owner` what it waits to upgrade, in one of the ways in which that can happen.
fn lose(temper: &Temper, random: &mut Random, pair: &Pair, owner: OwnerNo, lock: LockNo) -> Step {
    match random.below(3) {
        0 => Step::Release { owner, lock, token: None },
        1 => Step::Cancel { back: temper.attempt(random, pair, Some((owner, lock))) },
        _ => Step::ForceRelease { lock },
    }
}

/// Those who wait for nothing and hold what a request for several locks waits for, that waits for
/// `lock` too.
fn in_the_way(pair: &Pair, owner: OwnerNo, lock: LockNo) -> Vec<OwnerNo> {
    let model = &pair.model;
    let others = (0..LOCKS).filter(|other| *other != lock);
    let waited_for = others.filter(|other| {
        model.joint_waiters(*other).iter().any(|waiter| model.joint_waiters(lock).contains(waiter))
    });
    let holders = idle_holders(pair, &waited_for.collect::<Vec<_>>());
    holders.into_iter().map(|(other, _)| other).filter(|other| *other != owner).collect()
}

/// Those who hold one of these locks and wait for nothing.
fn idle_holders(pair: &Pair, locks: &[LockNo]) -> Vec<(OwnerNo, LockNo)> {
    let model = &pair.model;
    let holders = |lock: &LockNo| {
        let lock = *lock;
        model.holders(lock).into_iter().map(move |(owner, ..)| (owner, lock))
    };
    let holders = locks.iter().flat_map(holders);
    holders.filter(|(owner, _)| model.awaits(*owner).is_none()).collect()
}

fn is_shared(pair: &Pair, lock: LockNo) -> bool {
    let holders = pair.model.holders(lock);
    !holders.is_empty() && holders.iter().all(|(_, mode, _)| *mode == Mode::Shared)
}

fn holds_of(pair: &Pair, owner: OwnerNo) -> usize {
    let holders = |lock: LockNo| pair.model.holders(lock);
    (0..LOCKS).filter(|lock| holders(*lock).iter().any(|(holder, ..)| *holder == owner)).count()
}
