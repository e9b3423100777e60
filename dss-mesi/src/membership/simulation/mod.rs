//! Whole clusters in virtual time: members and leaders with clocks of different pace, messages that
//! are late, lost or repeated, leaders that are deposed without knowing it, drivers that hear of
//! it late, restarts. After every event nobody may act outside the view that is in force.
//!
//! Each seeded bug turns off one thing that the argument in [`membership`](super) needs, and must
//! be found: else the simulation would show nothing.

mod leaders;
mod machine;
mod raft;
mod random;
mod world;

use world::World;

const SEEDS: u64 = 1_000;

/// What is deliberately wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// The new leader does not wait for its predecessor's leases.
    TransferTakenForElection,
    /// Leases are granted when the renewal arrives.
    GrantWithoutConfirmation,
    /// A read is taken for a confirmation, whoever confirmed it.
    AnyLeaderConfirms,
    /// Removals count whichever leader says that a lease is over.
    RemovalsOutOfOffice,
    /// The holder counts from the arrival of the grant.
    LeaseCountedFromArrival,
    /// Clocks are worse than the config says.
    ClocksDriftMore,
    /// Somebody removes members without asking the granter.
    RemovedAtWill,
}

/// What must never happen.
#[derive(Debug)]
#[expect(dead_code, reason = "printed where a run fails")]
enum Violation {
    /// The leader in office has declared the lease over, and the member believes in it.
    DeclaredTooEarly { real: u64, node: usize },
    /// The member acts, and is not in the view.
    ActsOutsideView { real: u64, node: usize },
}

/// What has happened.
#[derive(Debug, Default)]
struct Statistics {
    /// How often, after an event, a member could act.
    acting: u64,
    grants: u64,
    removals: u64,
    elections: u64,
    transfers: u64,
    restarts: u64,
    rejoins: u64,
}

impl Statistics {
    fn add(&mut self, other: &Self) {
        self.acting += other.acting;
        self.grants += other.grants;
        self.removals += other.removals;
        self.elections += other.elections;
        self.transfers += other.transfers;
        self.restarts += other.restarts;
        self.rejoins += other.rejoins;
    }
}

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
    assert!(total.acting > 5_000_000, "{total:?}");
    assert!(total.grants > 50_000, "{total:?}");
    assert!(total.removals > 10_000, "{total:?}");
    assert!(total.rejoins > 10_000, "{total:?}");
    assert!(total.elections > 2_000, "{total:?}");
    assert!(total.transfers > 1_000, "{total:?}");
    assert!(total.restarts > 1_000, "{total:?}");
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
fn a_confirmation_by_another_leader_is_found() {
    assert_found(Bug::AnyLeaderConfirms);
}

#[test]
fn a_removal_by_a_leader_out_of_office_is_found() {
    assert_found(Bug::RemovalsOutOfOffice);
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
