//! Instructions per command of the lock table, counted by valgrind: what a busy machine cannot
//! blur. Counted is what happens within `LockTable::apply_into`, and each figure is the difference
//! of two runs, so that filling the table does not count.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod workload;

use std::process::{Command, ExitCode};

use dss_lock::{LockName, Owner, Wait};
use workload::{Bench, acquire, cancel, locks, owners, release};

/// The first argument of a run under valgrind.
const RUN: &str = "--run";
/// Rounds of the longer run, and of the one that is taken off.
const ROUNDS: (u64, u64) = (3, 1);
/// Of one round.
const OWNERS: usize = 10_000;

/// What is counted: each a thing done once by each owner.
#[derive(Clone, Copy)]
struct Workload {
    name: &'static str,
    /// Whether each owner holds a lock of its own.
    holding: bool,
    once: fn(&mut Bench, &Owner, &LockName, &LockName),
}

/// The third argument is a lock for each owner alone, the fourth is held by somebody else.
const WORKLOADS: [Workload; 4] = [
    Workload {
        name: "acquire and release",
        holding: false,
        once: |bench, owner, own, _| {
            bench.apply(acquire(owner, own, Wait::Try));
            bench.apply(release(owner, own));
        },
    },
    Workload {
        name: "acquire and release, holding another",
        holding: true,
        once: |bench, owner, own, _| {
            bench.apply(acquire(owner, own, Wait::Try));
            bench.apply(release(owner, own));
        },
    },
    Workload {
        name: "enqueue and cancel",
        holding: false,
        once: |bench, owner, _, hot| {
            bench.wait(owner, hot);
            bench.apply(cancel(owner, hot));
        },
    },
    Workload {
        name: "enqueue and cancel, holding another",
        holding: true,
        once: |bench, owner, _, hot| {
            bench.wait(owner, hot);
            bench.apply(cancel(owner, hot));
        },
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, workload, rounds] = &arguments[..]
        && first == RUN
    {
        let number = |text: &String| text.parse().expect("the other process passes numbers");
        let workload = usize::try_from(number(workload)).expect("a workload has a small number");
        run(WORKLOADS[workload], number(rounds));
        return ExitCode::SUCCESS;
    }
    println!("instructions within the table, both commands together");
    for (number, workload) in WORKLOADS.iter().enumerate() {
        let (long, short) = (count(number, ROUNDS.0), count(number, ROUNDS.1));
        let (Some(long), Some(short)) = (long, short) else {
            println!("valgrind is needed for this; is it installed?");
            return ExitCode::SUCCESS;
        };
        let each = (long - short) / ((ROUNDS.0 - ROUNDS.1) * OWNERS as u64);
        println!("{:>40} {each:>8}", workload.name);
    }
    ExitCode::SUCCESS
}

fn run(workload: Workload, rounds: u64) {
    let mut bench = Bench::default();
    let (owners, locks) = (owners(OWNERS + 1), locks(2 * OWNERS + 1));
    let hot = &locks[2 * OWNERS];
    bench.take(&owners[OWNERS], hot);
    if workload.holding {
        for (owner, lock) in owners[..OWNERS].iter().zip(&locks) {
            bench.take(owner, lock);
        }
    }
    for _ in 0..rounds {
        for (owner, own) in owners[..OWNERS].iter().zip(&locks[OWNERS..]) {
            (workload.once)(&mut bench, owner, own, hot);
        }
    }
}

/// How many instructions such a run takes.
fn count(workload: usize, rounds: u64) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=dss_lock::table::LockTable::apply_into")
        .arg(program)
        .args([RUN, &workload.to_string(), &rounds.to_string()])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the run failed: {said}");
    let count = said.lines().find_map(|line| line.split("Collected :").nth(1));
    let count = count.and_then(|count| count.trim().parse().ok());
    Some(count.expect("callgrind says how much it collected"))
}
