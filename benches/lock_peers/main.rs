//! Locks: ours beside etcd's and ZooKeeper's, three processes each, on this machine and its disk.
//!
//! ```text
//! cargo build --release --example cluster
//! cargo bench -p dss-benches --bench lock_peers [-- --seconds 5] [-- --only dss]
//! ```
//!
//! All are asked by the same code: one kept-open connection and one session (at etcd a lease) per
//! client, and the clients spread over the three nodes. A pair takes a lock and gives it back:
//! two requests over HTTP to us and to etcd, three in ZooKeeper's own protocol. The services run
//! one after the other, each for all workloads, with their defaults: they sync what they confirm.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::disallowed_methods, reason = "real servers are measured in real time")]

mod client;
mod http;
mod service;
mod zookeeper;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use client::Client;
use service::{Kind, Service};

/// Not counted: connections, caches and logs warm up.
const WARM_UP: Duration = Duration::from_secs(2);

/// So many clients, on a lock of each or on one of all, and how many times the rates of etcd and of
/// ZooKeeper are wanted.
const WORKLOADS: [(&str, usize, bool, [u32; 2]); 4] = [
    ("1 client", 1, true, [3, 1]),
    ("16 clients, each its own lock", 16, true, [3, 1]),
    ("64 clients, each its own lock", 64, true, [3, 1]),
    ("16 clients, one lock", 16, false, [20, 2]),
];

/// In the order of what is wanted.
const PEERS: [Kind; 2] = [Kind::Etcd, Kind::ZooKeeper];

/// What one workload came to.
struct Measured {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)
    };
    let seconds = option("--seconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    let only = option("--only");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime needs nothing that could be missing");
    let mut columns = Vec::new();
    for kind in PEERS.into_iter().chain([Kind::Dss]) {
        if only.is_some_and(|only| only != kind.name()) {
            continue;
        }
        let Some(program) = kind.program() else {
            println!("{} is left out: its program was not found, see the first lines", kind.name());
            continue;
        };
        match runtime.block_on(measure_all(kind, &program, Duration::from_secs(seconds))) {
            Ok(measured) => columns.push((kind, measured)),
            Err(error) => {
                println!("{}: {error}", kind.name());
                return ExitCode::FAILURE;
            }
        }
    }
    print(&columns);
    ExitCode::SUCCESS
}

async fn measure_all(
    kind: Kind,
    program: &std::path::Path,
    span: Duration,
) -> io::Result<Vec<Measured>> {
    let service = kind.start(program).await?;
    let mut measured = Vec::new();
    for (_, clients, apart, _) in WORKLOADS {
        measured.push(measure(kind, &service, clients, apart, span).await?);
    }
    Ok(measured)
}

async fn measure(
    kind: Kind,
    service: &Service,
    clients: usize,
    apart: bool,
    span: Duration,
) -> io::Result<Measured> {
    let mut workers = Vec::new();
    let begin = Instant::now() + WARM_UP;
    let end = begin + span;
    for number in 0..clients {
        let to = service.clients[number % service.clients.len()];
        let mut client = Client::open(kind, to, number).await?;
        let lock = if apart { format!("lock-{number}") } else { "lock".to_owned() };
        workers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let begun = Instant::now();
                if begun >= end {
                    return io::Result::Ok(taken);
                }
                client.pair(&lock).await?;
                let now = Instant::now();
                if now >= begin && now < end {
                    taken.push(now - begun);
                }
            }
        }));
    }
    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await.map_err(io::Error::other)??);
    }
    taken.sort_unstable();
    let at = |permille: usize| {
        let place = taken.len() * permille / 1_000;
        taken.get(place).copied().unwrap_or_default()
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
    let per_second = taken.len() as f64 / span.as_secs_f64();
    Ok(Measured { per_second, p50: at(500), p99: at(990) })
}

fn print(columns: &[(Kind, Vec<Measured>)]) {
    print!("{:30}", "pairs per second (p50, p99)");
    for (kind, _) in columns {
        print!(" {:>26}", kind.name());
    }
    for (kind, _) in columns.iter().filter(|(kind, _)| *kind != Kind::Dss) {
        print!(" {:>20}", format!("to {} (wanted)", kind.name()));
    }
    println!();
    let ours = columns.iter().find(|(kind, _)| *kind == Kind::Dss);
    for (row, (name, _, _, wanted)) in WORKLOADS.iter().enumerate() {
        print!("{name:30}");
        for (_, measured) in columns {
            let Measured { per_second, p50, p99 } = &measured[row];
            print!(" {:>26}", format!("{per_second:.0} ({p50:.2?}, {p99:.2?})"));
        }
        for (peer, wanted) in PEERS.iter().zip(wanted) {
            let theirs = columns.iter().find(|(kind, _)| kind == peer);
            if let (Some((_, ours)), Some((_, theirs))) = (ours, theirs) {
                let ratio = ours[row].per_second / theirs[row].per_second;
                print!(" {:>20}", format!("{ratio:.1} ({wanted})"));
            }
        }
        println!();
    }
}
