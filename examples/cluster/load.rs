//! The load generator: clients that keep a cluster busy and measure what they get.
//!
//! ```text
//!   load --target http://127.0.0.1:8001,http://127.0.0.1:8002 --workload mixed --clients 64 --seconds 10
//! ```
//!
//! Each client has one request under way at a time, over a connection that it keeps; clients are
//! spread evenly over the targets. That is a closed loop: a cluster that slows down is asked less
//! often, and what it would have kept waiting is not seen. With `--rate` the loop is open: rounds
//! are due at fixed times, whatever has become of those before, and the latency of a round's first
//! request counts from when it was due.

mod histogram;
mod progress;
mod report;
mod schedule;
mod work;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::progress::Progress;
use self::report::{Measurements, Report};
use self::schedule::Schedule;
use self::work::Worker;
use crate::client::{Client, Credentials, CredentialsError, Target};

/// The options of `load`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Nodes to ask, as `http://HOST:PORT` or `https://HOST:PORT`.
    #[arg(long = "target", value_name = "URL[,URL…]", value_delimiter = ',', required = true)]
    pub(crate) targets: Vec<Target>,
    /// What to ask for.
    #[arg(long, value_enum)]
    pub(crate) workload: Workload,
    /// How many clients ask at the same time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) clients: u32,
    /// For how long.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// How many rounds to begin in a second, by all clients together, answered or not; as many as
    /// are answered, where left out.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,
    /// Write the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
}

/// What clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Acquire and release locks that others want too.
    Lock,
    /// Publish, receive and acknowledge messages.
    Queue,
    /// Read values, and write one time in ten.
    Cache,
    /// All of these by turns.
    Mixed,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no token to ask with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No target answered anything.
    #[error("no target answered: {0}")]
    NoAnswer(String),
    /// The result could not be written.
    #[error("the result cannot be written")]
    Output(#[from] std::io::Error),
}

/// Runs the load and writes the result to standard output.
///
/// # Errors
///
/// Where nothing was answered, or the result could not be written.
pub(crate) async fn run(options: Options) -> Result<(), Error> {
    let duration = Duration::from_secs(options.seconds.into());
    let schedule = Arc::new(Schedule::new(Instant::now(), duration, options.rate));
    let progress = Arc::new(Progress::default());
    let client = Client::with_credentials(&options.credentials)?;
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let place = number as usize % options.targets.len();
        let target = options.targets[place].clone();
        let worker = Worker::new(number, options.clients, options.workload, target);
        clients.spawn(worker.run(client.clone(), Arc::clone(&schedule), Arc::clone(&progress)));
    }
    let shown =
        tokio::spawn(progress::show(Arc::clone(&progress), schedule.start(), schedule.until()));
    let mut measurements = Measurements::default();
    while let Some(finished) = clients.join_next().await {
        measurements.merge(&finished.expect("a client does not panic, and is not cancelled"));
    }
    shown.abort();
    progress::clear();
    if let Some(problem) = measurements.unanswered() {
        return Err(Error::NoAnswer(problem));
    }
    let report =
        Report::new(&options, schedule.start().elapsed(), &measurements).missed(schedule.missed());
    Ok(report.write(options.json)?)
}
