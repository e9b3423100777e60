//! What the checker is run on.

use super::broadcast::{Broadcast, LookFor};
use super::cores::Cores;
use super::plan::{Fault, Plan};
use super::search::{Outcome, Violation, search};
use crate::flaw::Flaw;

/// How many states of each configuration are looked at, unless told: what takes seconds.
const STATES: usize = 100_000;

/// How many of each configuration a full search looks at: all of them, where they have an end.
const STATES_FULL: usize = 20_000_000;

/// How many states the search for a broken rule may take.
const STATES_TO_FIND: usize = 100_000;

/// Every configuration: its clients are those that find something, in as few states as possible.
fn plans() -> Vec<(String, Plan)> {
    let mut plans = Vec::new();
    for (policy, write_back) in [("write-back", true), ("write-through", false)] {
        let two = Plan::new(2, write_back);
        let few = two.clients(1, 1, 1);
        let three = Plan::new(3, write_back);
        for (name, plan) in [
            ("2 nodes", two),
            ("2 nodes, a duplicate", two.losing(0, 1, 0)),
            ("2 nodes, a loss", two.losing(1, 0, 1)),
            ("2 nodes, two repetitions", two.losing(0, 0, 2)),
            ("2 nodes, a crash", two.fault(Fault::Crash)),
            ("2 nodes, a partition", two.fault(Fault::Partition)),
            ("2 nodes, few clients, a crash, a loss", few.losing(1, 0, 1).fault(Fault::Crash)),
            (
                "2 nodes, few clients, a partition, a duplicate",
                few.losing(0, 1, 0).fault(Fault::Partition),
            ),
            (
                "2 nodes, few clients, a partition, a repetition",
                few.losing(0, 0, 1).fault(Fault::Partition),
            ),
            ("2 nodes, one of them joins", two.fault(Fault::Join)),
            ("3 nodes", three),
            ("3 nodes, 2 writes, 1 read, a crash", three.clients(2, 1, 0).fault(Fault::Crash)),
            (
                "3 nodes, 2 writes, 1 read, a partition",
                three.clients(2, 1, 0).fault(Fault::Partition),
            ),
            ("3 nodes, 1 write, 1 read, one joins", three.clients(1, 1, 0).fault(Fault::Join)),
        ] {
            plans.push((format!("{name}, {policy}"), plan));
        }
    }
    plans
}

fn states() -> usize {
    match std::env::var("DSS_CHECK") {
        Ok(full) if full == "full" => STATES_FULL,
        Ok(number) => number.parse().unwrap(),
        Err(_) => STATES,
    }
}

#[test]
fn every_order_of_events_is_coherent_and_comes_to_rest() {
    let only = std::env::var("DSS_PLAN").unwrap_or_default();
    for (name, plan) in plans().into_iter().filter(|(name, _)| name.contains(&only)) {
        let outcome = search(Cores::new(plan), states());
        let Outcome { states, steps, depth, complete, violation } = outcome;
        let all = if complete { "all" } else { "first" };
        println!("| {name} | {all} {states} | {steps} | {depth} |");
        assert!(violation.is_none(), "{name}: {violation:#?}");
    }
}

/// Each broken rule, with a small configuration that shows it.
fn broken() -> Vec<(Flaw, Plan)> {
    let (back, through) = (Plan::new(2, true), Plan::new(2, false));
    let few = back.clients(1, 1, 1);
    vec![
        (Flaw::NoRecallFloor, back),
        (Flaw::WriteBackDroppedEarly, back),
        (Flaw::AnyGrantAccepted, back.losing(0, 1, 0)),
        (Flaw::StaleRecallObeyed, back),
        (Flaw::MemoryWithoutVersions, back.clients(2, 1, 1).losing(0, 1, 0)),
        (Flaw::MemoryWithoutFence, few.fault(Fault::Crash)),
        (Flaw::NoLeaseWait, few.fault(Fault::Partition)),
        (Flaw::NoSurrenderWait, few.fault(Fault::Crash)),
        (Flaw::GrantBeforeStore, back),
        (Flaw::GetDuringWriteBack, back),
        (Flaw::NoEpochCheck, Plan::new(3, true).clients(2, 1, 0).fault(Fault::Crash)),
        (Flaw::RequestIdsIgnored, back.losing(0, 1, 0)),
        (Flaw::ExclusiveTakenForClean, back),
        (Flaw::PutAckedEarly, back),
        (Flaw::LineKeptWhenHomeMoved, few.fault(Fault::Crash)),
        (Flaw::WriteThroughCancelled, through),
        (Flaw::DowngradeRepeatedAsPut, back.losing(1, 0, 1)),
        (Flaw::NoLeaseCheck, few.fault(Fault::Partition)),
    ]
}

#[test]
fn every_broken_rule_is_found() {
    for (flaw, plan) in broken() {
        let outcome = search(Cores::new(plan.flaw(flaw)), STATES_TO_FIND);
        let Some(Violation { what, trace }) = outcome.violation else {
            panic!("{flaw:?} goes unnoticed in {} states", outcome.states);
        };
        println!("| {flaw:?} | {} | {} | {what} |", outcome.states, trace.len());
        if std::env::var("DSS_TRACES").is_ok() {
            println!("{trace:#?}");
        }
    }
}

#[test]
fn the_broadcast_protocol_has_stale_reads_and_two_writers() {
    for look_for in [LookFor::StaleRead, LookFor::TwoWriters] {
        let model = Broadcast { nodes: 2, writes: 2, reads: 2, look_for };
        let outcome = search(model, STATES_TO_FIND);
        let Violation { what, trace } = outcome.violation.expect("its races are known");
        println!("{what}, found in {} states:\n  {}", outcome.states, trace.join("\n  "));
        let expected = if look_for == LookFor::StaleRead { "stale read" } else { "two writers" };
        assert!(what.contains(expected), "{what}");
        assert!(trace.len() <= 8, "two nodes, no fault, and a handful of steps: {trace:#?}");
    }
}
