//! Whole clusters of the real cores in virtual time, under faults, checked after every step.
//!
//! A run is a function of its seed. `DSS_SEED=n` runs one seed, `DSS_SEEDS=n` that many, from
//! `DSS_FIRST_SEED=n` on.

mod check;
mod client;
mod history;
mod membership;
mod plan;
mod random;
mod storage;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::history::{Call, Entry};
use self::plan::Plan;
use self::random::Random;
use self::world::{Tally, World};
use crate::cache::Answer;
use crate::flaw::Flaw;

/// How many seeds a run of the tests tries, unless told.
const SEEDS: u64 = 1_000;

/// How many of clusters with many nodes and thousands of keys.
const WIDE_SEEDS: u64 = 16;

/// How often everything must have happened in all seeds.
const ENOUGH: u64 = 5;

/// In how many seeds a broken rule must show: the missing fence needs about 1,500, all others a
/// few hundred at most.
const SEEDS_TO_FIND: u64 = 4_000;

/// How long a cluster may take to become quiet once faults stop, in microseconds: leases of the
/// lost run out, views change, everybody surrenders, every repetition comes through.
const SETTLE: u64 = 4_000_000;

fn run(seed: u64, flaw: Option<Flaw>) -> Result<Tally, String> {
    run_plan(seed, |random| Plan::new(random, flaw))
}

fn run_wide(seed: u64) -> Result<Tally, String> {
    run_plan(seed, Plan::wide)
}

fn run_plan(seed: u64, plan: impl FnOnce(&mut Random) -> Plan) -> Result<Tally, String> {
    let mut random = Random::new(seed);
    let plan = plan(&mut random);
    let (trouble, keys, lossy) = (plan.trouble, plan.keys, plan.lossy);
    let mut world = World::new(random, plan);
    let result = drive(&mut world, trouble).and_then(|()| world.history.check(keys, lossy));
    for slot in 0..world.nodes.len() {
        world.crash(slot);
    }
    result.map(|()| world.tally).map_err(|error| format!("seed {seed}: {error}"))
}

fn drive(world: &mut World, trouble: u64) -> Result<(), String> {
    world.run_until(trouble + SETTLE)?;
    world.check_quiet()?;
    let slots = world.member_slots();
    if slots.len() != world.nodes.len() {
        return Err(format!("only {slots:?} came back by epoch {}", world.epoch()));
    }
    // One at a time or, of many, so many as a client might ask for at once.
    let keys: Vec<usize> = (0..world.plan.keys).collect();
    for keys in keys.chunks(if world.plan.is_wide() { 200 } else { 1 }) {
        for slot in &slots {
            let begun = world.history.entries.len();
            for key in keys {
                world.begin(*slot, *key, Call::Read)?;
            }
            world.run_until(world.now + 500_000)?;
            let mut reads = world.history.entries[begun..].iter();
            let answered = |it: &Entry| matches!(it.ended, Some((_, Answer::Read(_))));
            if let Some(entry) = reads.find(|entry| !answered(entry)) {
                return Err(format!("a read after all faults: {entry:?}"));
            }
        }
    }
    Ok(())
}

/// Runs the seeds that the environment asks for, or as many as by default; or only one of them.
fn run_seeds(seeds: u64, run: impl Fn(u64) -> Result<Tally, String>) {
    if let Some(seed) = number("DSS_SEED") {
        println!("{:#?}", run(seed));
        run(seed).unwrap();
        return;
    }
    let mut sum = Tally::default();
    let first = number("DSS_FIRST_SEED").unwrap_or(0);
    for seed in first..first + number("DSS_SEEDS").unwrap_or(seeds) {
        let tally = run(seed).unwrap_or_else(|error| panic!("DSS_SEED={seed}\n{error}"));
        sum.add(&tally);
    }
    println!("{sum:?}");
    // What never happened was not tested.
    assert!(sum.answered > 4 * sum.failed);
    for count in [
        sum.views,
        sum.recalls,
        sum.evictions,
        sum.write_backs,
        sum.grants_refused,
        sum.repeats,
        sum.lost,
        sum.pauses_past_lease,
        sum.one_way_cuts,
    ] {
        assert!(count >= ENOUGH, "{sum:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn clusters_under_faults_stay_coherent() {
    run_seeds(SEEDS, |seed| run(seed, None));
}

#[test]
fn many_nodes_with_thousands_of_keys_stay_coherent() {
    run_seeds(WIDE_SEEDS, run_wide);
}

/// Breaks one rule and runs seeds until a check fails; after how many.
fn found_after(flaw: Flaw) -> Option<u64> {
    (0..SEEDS_TO_FIND).find(|seed| {
        // A core that follows a broken rule may also trip over an assertion of its own.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(*seed, Some(flaw))));
        !matches!(outcome, Ok(Ok(_)))
    })
}

#[test]
fn every_broken_rule_is_found() {
    for flaw in [
        Flaw::NoRecallFloor,
        Flaw::AnyGrantAccepted,
        Flaw::WriteBackDroppedEarly,
        Flaw::GetDuringWriteBack,
        Flaw::WriteThroughCancelled,
        Flaw::StaleRecallObeyed,
        Flaw::GrantBeforeStore,
        Flaw::NoSurrenderWait,
        Flaw::LineKeptWhenHomeMoved,
        Flaw::NoEpochCheck,
        Flaw::DowngradeRepeatedAsPut,
        Flaw::ExclusiveTakenForClean,
        Flaw::PutAckedEarly,
        Flaw::RequestIdsIgnored,
        Flaw::NoLeaseWait,
        Flaw::NoLeaseCheck,
        Flaw::MemoryWithoutVersions,
        Flaw::MemoryWithoutFence,
    ] {
        let found = found_after(flaw);
        println!("{flaw:?}: {found:?}");
        assert!(found.is_some(), "{flaw:?} goes unnoticed");
    }
}
