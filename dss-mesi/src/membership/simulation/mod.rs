//! Whole clusters in virtual time: members and leaders with clocks of different pace, messages that
//! are late, lost or repeated, leaders that are deposed without knowing it, restarts. After every
//! event nobody may act outside the view that is in force.
//!
//! Each seeded bug turns off one thing that the argument in [`membership`](super) needs, and must
//! be found: else the simulation would show nothing.

mod raft;
mod random;
mod world;

use world::{Bug, Statistics, Violation, World};

const SEEDS: u64 = 400;

fn run(bug: Option<Bug>) -> Result<Statistics, (u64, Violation)> {
    let mut total = Statistics::default();
    for seed in 0..SEEDS {
        let statistics = World::new(seed, bug).run().map_err(|violation| (seed, violation))?;
        total.add(&statistics);
    }
    Ok(total)
}

#[test]
fn nobody_acts_outside_the_view() {
    let total = run(None).unwrap_or_else(|(seed, violation)| panic!("seed {seed}: {violation:?}"));
    // All of this must have happened often, or the runs were too tame to show anything.
    assert!(total.acting > 100_000, "{total:?}");
    assert!(total.grants > 10_000, "{total:?}");
    assert!(total.removals > 500, "{total:?}");
    assert!(total.elections > 500, "{total:?}");
    assert!(total.transfers > 500, "{total:?}");
    assert!(total.restarts > 500, "{total:?}");
}

fn assert_found(bug: Bug) {
    let found = run(Some(bug));
    assert!(found.is_err(), "{bug:?} went unnoticed: {found:?}");
}

#[test]
fn a_transfer_taken_for_an_election_is_found() {
    assert_found(Bug::TransferTakenForElection);
}

#[test]
fn a_grant_without_confirmed_leadership_is_found() {
    assert_found(Bug::GrantWithoutConfirmation);
}

#[test]
fn a_read_begun_before_the_renewal_is_found() {
    assert_found(Bug::StaleView);
}

#[test]
fn a_lease_counted_from_its_arrival_is_found() {
    assert_found(Bug::LeaseCountedFromArrival);
}

#[test]
fn clocks_that_drift_more_than_assumed_are_found() {
    assert_found(Bug::ClocksDriftMore);
}

#[test]
fn a_removal_before_the_lease_is_over_is_found() {
    assert_found(Bug::RemovedAtWill);
}
