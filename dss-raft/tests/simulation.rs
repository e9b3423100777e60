//! The simulation, over many seeds: `DSS_SEEDS=n` says how many, `DSS_SEED=n` replays one.

use dss_raft::testing::{
    Failure, HashChainWorkload, Options, PlantedBug, Report, Violation, check_seeds, seeds,
    simulate,
};

fn run(options: Options) -> Result<Report, Failure> {
    simulate(options, HashChainWorkload::default())
}

#[test]
fn safety_and_liveness_hold_under_every_mixture_of_faults() {
    let seeds = seeds(1000);
    let count = seeds.end - seeds.start;
    let report = check_seeds(seeds, |seed| run(Options::swarm(seed))).unwrap_or_else(|failure| {
        panic!("{failure} ({:?}); replay with DSS_SEED={}", failure.violation, failure.seed)
    });
    println!("{count} seeds: {report:?}");
    // A run in which nothing happens finds nothing.
    assert!(report.acknowledged >= count * 20, "{report:?}");
    assert!(report.reads >= count * 10, "{report:?}");
    assert!(report.elections >= count, "{report:?}");
}

/// The first of the seeds that finds the bug, and what it finds: a lie told to a client or a broken
/// property of Raft, not a cluster that hangs.
fn first_to_find(bug: PlantedBug, seeds_max: u64) -> Option<Failure> {
    let failure = (0..seeds_max)
        .filter_map(|seed| run(Options::swarm(seed).with_bug(bug)).err())
        .find(|failure| !matches!(failure.violation, Violation::NotLive { .. }));
    println!("{bug:?}: {failure:?}");
    failure
}

#[test]
fn a_vote_without_comparing_logs_is_found() {
    assert!(first_to_find(PlantedBug::VoteWithoutComparingLogs, 100).is_some());
}

#[test]
fn an_acknowledgement_before_it_is_durable_is_found() {
    assert!(first_to_find(PlantedBug::AcknowledgeBeforeDurable, 500).is_some());
}

#[test]
fn a_commit_of_an_older_term_by_counting_is_found() {
    assert!(first_to_find(PlantedBug::CommitOlderTermByCounting, 3000).is_some());
}
