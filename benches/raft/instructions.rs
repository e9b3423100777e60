//! Instructions per committed entry, all three nodes together, counted by valgrind: what a busy
//! machine cannot blur. Each figure is the difference of two runs, so that starting, electing and
//! warming up do not count.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod cluster;
#[cfg(feature = "peers")]
mod raft_rs;

use std::process::{Command, ExitCode};

use cluster::{Cluster, DssRaft};

/// The batches, with how many of them the longer run has.
const BATCHES: [(u64, u64); 3] = [(1, 4_000), (64, 1_000), (1024, 100)];
/// The first argument of a run under valgrind.
const RUN: &str = "--run";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, member, batch, batches] = &arguments[..]
        && first == RUN
    {
        let number = |text: &String| text.parse().expect("the other process passes numbers");
        run(member, number(batch), number(batches));
        return ExitCode::SUCCESS;
    }
    let members = [
        DssRaft::NAME,
        #[cfg(feature = "peers")]
        raft_rs::RaftRs::NAME,
    ];
    println!("instructions per committed entry, three nodes together");
    println!("{:>12} {:>10} {:>10} {:>10}", "batch", 1, 64, 1024);
    for member in members {
        let counts: Option<Vec<u64>> =
            BATCHES.iter().map(|&(batch, batches)| per_entry(member, batch, batches)).collect();
        let Some(counts) = counts else {
            println!("valgrind is needed for this; is it installed?");
            return ExitCode::SUCCESS;
        };
        println!("{member:>12} {:>10} {:>10} {:>10}", counts[0], counts[1], counts[2]);
    }
    ExitCode::SUCCESS
}

fn run(member: &str, batch: u64, batches: u64) {
    fn commit<C: Cluster>(batch: u64, batches: u64) {
        let mut cluster = C::start();
        for _ in 0..batches {
            cluster.commit(batch);
        }
    }
    match member {
        DssRaft::NAME => commit::<DssRaft>(batch, batches),
        #[cfg(feature = "peers")]
        raft_rs::RaftRs::NAME => commit::<raft_rs::RaftRs>(batch, batches),
        other => panic!("no member is called {other}"),
    }
}

fn per_entry(member: &str, batch: u64, batches: u64) -> Option<u64> {
    let short = batches / 4;
    let counted = count(member, batch, batches)? - count(member, batch, short)?;
    Some(counted / (batch * (batches - short)))
}

/// How many instructions such a run takes.
fn count(member: &str, batch: u64, batches: u64) -> Option<u64> {
    let program = std::env::current_exe().ok()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([RUN, member, &batch.to_string(), &batches.to_string()])
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the run failed: {said}");
    let count = said.lines().find_map(|line| line.split("Collected :").nth(1));
    let count = count.and_then(|count| count.trim().parse().ok());
    Some(count.expect("callgrind says how much it collected"))
}
