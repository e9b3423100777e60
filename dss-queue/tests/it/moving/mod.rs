//! Topics that move from shard to shard while producers and consumers go on, as a seed decides.
//!
//! Shards crash and are cut off, every message may be late, doubled or lost on its way there or
//! back, and every second another placement is asked for. What moves topics has no memory: it
//! looks at two shards and sends the next step, which may arrive epochs later, so that every step
//! is begun, interrupted and repeated in every state of the others. Two of them work for each
//! shard. `DSS_SEED=…` runs one seed again, `DSS_SEEDS=…` more of them.

mod clients;
mod ledger;
mod mover;
mod world;

use dss_raft::testing::seeds;

use ledger::Counts;
use world::World;

/// A bug that is planted around a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// A topic arrives without its groups: a drain without a cursor.
    DrainsWithoutTheCursor,
    /// The source forgets a topic before the target has it.
    ForgetsBeforeItIsTaken,
    /// The target does not wait for what the source has.
    ServesBeforeAllHasCome,
}

#[test]
fn nothing_is_lost_and_nothing_acknowledged_comes_back_while_topics_move() {
    let seeds = seeds(60);
    let runs = seeds.end - seeds.start;
    let mut counts = Counts::default();
    for seed in seeds {
        let seen = World::new(seed, None).run().unwrap_or_else(|it| panic!("seed {seed}: {it}"));
        counts.add(&seen);
    }
    println!("{runs} seeds: {counts:?}");
    assert_eq!(counts.lost, 0);
    // A run in which little happened has proven little.
    if runs >= 60 {
        assert!(counts.placements > 300 && counts.moved > 500, "{counts:?}");
        assert!(counts.refused > 1_000 && counts.crashes > 300, "{counts:?}");
        assert!(counts.published > 10_000 && counts.duplicates > 2_000, "{counts:?}");
        assert!(counts.republished > 300 && counts.carried_receipts > 300, "{counts:?}");
    }
}

#[test]
fn a_bug_in_a_move_is_found_in_one_of_the_first_seeds() {
    let flaws =
        [Flaw::DrainsWithoutTheCursor, Flaw::ForgetsBeforeItIsTaken, Flaw::ServesBeforeAllHasCome];
    for flaw in flaws {
        let found = (0..20).find_map(|seed| World::new(seed, Some(flaw)).run().err());
        println!("{flaw:?}: {}", found.unwrap_or_else(|| panic!("{flaw:?} is not found")));
    }
}
