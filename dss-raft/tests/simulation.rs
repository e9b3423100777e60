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

/// The first seed from `first` on that finds the bug, and what it finds: a lie told to a client or a
/// broken property of Raft, not a cluster that hangs, unless hanging is what the bug does.
fn first_to_find(bug: PlantedBug, first: u64) -> Option<Failure> {
    /// A change of the simulation changes what each seed does; then as many are tried.
    const SEEDS_MAX: u64 = 10_000;
    let hangs = bug == PlantedBug::PreVoteTouchesTimers;
    (first..first + SEEDS_MAX)
        .filter_map(|seed| run(Options::swarm(seed).with_bug(bug)).err())
        .find(|failure| hangs || !matches!(failure.violation, Violation::NotLive { .. }))
}

/// Every bug, and the first seed that finds it. `DSS_FROM_ZERO=1` looks for them anew.
const BUGS: &[(PlantedBug, u64)] = &[
    (PlantedBug::CommitOlderTermByCounting, 69),
    (PlantedBug::QuorumOfHalf, 1),
    (PlantedBug::VoteWithoutComparingLogs, 0),
    (PlantedBug::VoteNotPersisted, 0),
    (PlantedBug::AcknowledgeBeforeDurable, 187),
    (PlantedBug::KeepConflictingEntries, 0),
    (PlantedBug::TruncateOnMatch, 8),
    (PlantedBug::CommitWithoutMatch, 7),
    (PlantedBug::SnapshotWithoutConfiguration, 3),
    (PlantedBug::ReadWithoutRound, 77),
    (PlantedBug::LeaseDoubled, 5234),
    (PlantedBug::ObeyLowerTerms, 191),
    (PlantedBug::PreVoteTouchesTimers, 0),
    (PlantedBug::ReadNamesReused, 508),
    (PlantedBug::ChangeWithoutJoint, 8),
    (PlantedBug::KeepTruncatedConfiguration, 293),
    (PlantedBug::TrustAnyLog, 27),
    (PlantedBug::ApplyTwiceAfterRestart, 0),
];

/// Prints the table of bugs and seeds with `--nocapture`.
#[test]
fn every_planted_bug_is_found() {
    let from_zero = std::env::var_os("DSS_FROM_ZERO").is_some();
    let missed: Vec<PlantedBug> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|worker| {
                scope.spawn(move || {
                    let mut missed = Vec::new();
                    for (bug, known) in BUGS.iter().copied().skip(worker).step_by(2) {
                        let first = if from_zero { 0 } else { known };
                        match first_to_find(bug, first) {
                            Some(found) => {
                                let kind = format!("{:?}", found.violation);
                                let kind = kind.split([' ', '(']).next().unwrap_or_default();
                                println!("| `{bug:?}` | `{kind}` | {} |", found.seed);
                            }
                            None => missed.push(bug),
                        }
                    }
                    missed
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    assert_eq!(missed, []);
}

/// What stands in the README: bug, what it is found as, seed.
fn readme() -> Vec<(String, String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path).expect("the crate has one");
    let rows = text.lines().skip_while(|line| !line.starts_with("| planted bug |")).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim()).collect();
            let unquoted = |cell: &str| cell.trim_matches('`').to_owned();
            (unquoted(cells[1]), unquoted(cells[3]), cells[4].to_owned())
        })
        .collect()
}

/// The names in an enum of this crate, from its source: no list can fall behind it.
fn variants(file: &str, name: &str) -> Vec<String> {
    let path = format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("it is there");
    let body = text.split(&format!("pub enum {name} {{\n")).nth(1).expect("it is in there");
    let lines = body.lines().take_while(|line| *line != "}");
    lines
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.split([',', ' ', '(']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_readme_lists_every_planted_bug_with_its_seed() {
    let listed = readme();
    let names: Vec<&String> = listed.iter().map(|(bug, ..)| bug).collect();
    let planted = variants("core/planted.rs", "PlantedBug");
    assert!(planted.len() >= 15);
    assert_eq!(names, planted.iter().collect::<Vec<_>>());
    let violations = variants("testing/violation.rs", "Violation");
    for ((bug, violation, seed), (known, known_seed)) in listed.iter().zip(BUGS) {
        assert_eq!((bug, seed), (&format!("{known:?}"), &known_seed.to_string()));
        assert!(violations.contains(violation), "{bug} is found as {violation}");
    }
    assert_eq!(listed.len(), BUGS.len());
}
