//! What is explored.

use super::cluster::Group;
use super::plan::Plan;
use super::search::{Outcome, Violation, search};
use crate::core::PlantedBug;

/// How many states of each plan are looked at, unless told: what takes seconds.
const STATES: usize = 20_000;

/// How many of each a full search looks at: all of them, where they have an end.
const STATES_FULL: usize = 30_000_000;

/// How many states the search for a planted bug may take.
const STATES_TO_FIND: usize = 1_000_000;

/// From the smallest to the one that has everything.
fn plans() -> Vec<(&'static str, Plan)> {
    vec![
        ("1 term, 1 command", Plan::new(1, 1)),
        ("1 term, 2 commands", Plan::new(1, 2)),
        ("1 term, 1 command, a duplicate", Plan::new(1, 1).duplicates(1)),
        ("1 term, 1 command, a tick", Plan::new(1, 1).ticks(1)),
        ("1 term, 1 command, a crash", Plan::new(1, 1).crashes(1)),
        ("1 term, 2 to 3 voters", Plan::new(1, 0).change(2, &[1, 2, 3])),
        ("1 term, 3 to 2 voters", Plan::new(1, 0).change(3, &[1, 2])),
        ("1 term, voters 1 2 to 1 3", Plan::new(1, 0).change(2, &[1, 3])),
        ("2 terms", Plan::new(2, 0)),
        ("2 terms, a crash", Plan::new(2, 0).crashes(1)),
        ("2 terms, 1 command", Plan::new(2, 1)),
        ("2 terms, 1 command, a crash", Plan::new(2, 1).crashes(1)),
        ("2 terms, 2 commands", Plan::new(2, 2)),
        ("2 terms, 2 to 3 voters", Plan::new(2, 0).change(2, &[1, 2, 3])),
        ("2 terms, voters 1 2 to 1 3", Plan::new(2, 0).change(2, &[1, 3])),
        (
            "2 terms, 2 commands, a crash, a duplicate, a tick, 2 to 3 voters",
            Plan::new(2, 2).crashes(1).duplicates(1).ticks(1).change(2, &[1, 2, 3]),
        ),
    ]
}

fn states() -> usize {
    match std::env::var("DSS_EXPLORE") {
        Ok(full) if full == "full" => STATES_FULL,
        Ok(number) => number.parse().unwrap(),
        Err(_) => STATES,
    }
}

#[test]
fn every_order_of_events_keeps_the_five_properties() {
    let only = std::env::var("DSS_PLAN").unwrap_or_default();
    for (name, plan) in plans().into_iter().filter(|(name, _)| name.contains(&only)) {
        let Outcome { states, steps, depth, complete, violation } = search(&Group(plan), states());
        let all = if complete { "all" } else { "first" };
        println!("| {name} | {all} {states} | {steps} | {depth} |");
        assert!(violation.is_none(), "{name}: {violation:#?}");
    }
}

/// Planted bugs, each with a small plan that shows it.
fn bugs() -> Vec<(PlantedBug, Plan)> {
    vec![
        (PlantedBug::QuorumOfHalf, Plan::new(1, 0)),
        (PlantedBug::AcknowledgeBeforeDurable, Plan::new(1, 0)),
        (PlantedBug::VoteNotPersisted, Plan::new(1, 0).crashes(1)),
        (PlantedBug::VoteWithoutComparingLogs, Plan::new(2, 0)),
        (PlantedBug::KeepConflictingEntries, Plan::new(2, 1)),
        (PlantedBug::TruncateOnMatch, Plan::new(1, 1).duplicates(1)),
        (PlantedBug::ObeyLowerTerms, Plan::new(2, 0)),
        (PlantedBug::ChangeWithoutJoint, Plan::new(2, 0).change(3, &[1])),
    ]
}

#[test]
fn planted_bugs_are_found() {
    for (bug, plan) in bugs() {
        find(bug, plan);
    }
}

#[test]
#[ignore = "takes half a million states"]
fn a_planted_bug_that_lies_deep_is_found() {
    find(PlantedBug::CommitWithoutMatch, Plan::new(2, 0).ticks(1));
}

/// Looks for the shortest way to what a bug breaks.
fn find(bug: PlantedBug, plan: Plan) {
    let outcome = search(&Group(plan.bug(bug)), STATES_TO_FIND);
    let Some(Violation { what, trace }) = outcome.violation else {
        panic!("{bug:?} goes unnoticed in {} states", outcome.states);
    };
    println!("| {bug:?} | {} | {} | {what} |", outcome.states, trace.len());
    if std::env::var("DSS_TRACES").is_ok() {
        println!("{trace:#?}");
    }
}
