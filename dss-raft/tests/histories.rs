//! Lies that no node notices, and that the clients' history shows.

use dss_raft::testing::{HashChainWorkload, Options, PlantedBug, Violation, simulate};

/// Each bug that breaks nothing but what readers are told, and the first seed that shows it.
const BUGS: &[(PlantedBug, u64)] = &[
    (PlantedBug::ReadWithoutRound, 77),
    (PlantedBug::LeaseDoubled, 797),
    (PlantedBug::ReadNamesReused, 508),
];

#[test]
fn stale_reads_are_found_in_what_clients_were_told() {
    /// A change of the simulation changes what each seed does; then as many are tried.
    const SEEDS_MAX: u64 = 10_000;
    for (bug, first) in BUGS.iter().copied() {
        let found = (first..first + SEEDS_MAX).find_map(|seed| {
            simulate(Options::swarm(seed).with_bug(bug), HashChainWorkload::default()).err()
        });
        let found = found.unwrap_or_else(|| panic!("{bug:?} goes unnoticed"));
        println!("| {bug:?} | {} | {} |", found.seed, found.violation);
        assert!(
            matches!(found.violation, Violation::NotLinearizable(_)),
            "{bug:?} harms nobody but readers: {found:?}"
        );
    }
}
