//! The load generator: clients that keep a cluster busy and measure what they get.
//!
//! ```text
//!   load --target http://127.0.0.1:8001,http://127.0.0.1:8002 --workload mixed --clients 64 --seconds 10
//! ```
//!
//! Each client has one request under way at a time, over a connection that it keeps; clients are
//! spread evenly over the targets. What is measured is therefore a closed loop: a cluster that
//! slows down is asked less often.

mod client;
mod histogram;
mod progress;
mod report;
mod work;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use axum::http::uri::{PathAndQuery, Scheme};
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::client::Client;
use self::progress::Progress;
use self::report::{Measurements, Report};
use self::work::Worker;

/// The options of `load`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Nodes to ask, as `http://HOST:PORT`.
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
    /// Write the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
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

/// A node to ask: `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target(Uri);

/// What is not a [`Target`].
#[derive(Debug, thiserror::Error)]
#[error("a target looks like http://127.0.0.1:8001")]
pub(crate) struct TargetError;

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse().map_err(|_| TargetError)?;
        let has_path = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        if uri.scheme() != Some(&Scheme::HTTP) || uri.authority().is_none() || has_path {
            return Err(TargetError);
        }
        Ok(Self(uri))
    }
}

impl Target {
    /// The address of `path`, which must begin with a slash and be encoded.
    fn at(&self, path: &str) -> Uri {
        let mut parts = self.0.clone().into_parts();
        let path = PathAndQuery::try_from(path).expect("a workload asks for encoded paths");
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("scheme, authority and path make an address")
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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
    let start = Instant::now();
    let until = start + Duration::from_secs(options.seconds.into());
    let progress = Arc::new(Progress::default());
    let client = Client::new();
    let mut clients = JoinSet::new();
    for number in 0..options.clients {
        let place = number as usize % options.targets.len();
        let target = options.targets[place].clone();
        let worker = Worker::new(number, options.clients, options.workload, target);
        clients.spawn(worker.run(client.clone(), until, Arc::clone(&progress)));
    }
    let shown = tokio::spawn(progress::show(Arc::clone(&progress), start, until));
    let mut measurements = Measurements::default();
    while let Some(finished) = clients.join_next().await {
        measurements.merge(&finished.expect("a client does not panic, and is not cancelled"));
    }
    shown.abort();
    progress::clear();
    if let Some(problem) = measurements.unanswered() {
        return Err(Error::NoAnswer(problem));
    }
    let report = Report::new(&options, start.elapsed(), &measurements);
    Ok(report.write(options.json)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_scheme_host_and_port() {
        for text in ["http://127.0.0.1:8001", "http://localhost:8001/", "http://[::1]:80"] {
            let target: Target = text.parse().unwrap();
            let expected = format!("{}/v1/locks", text.trim_end_matches('/'));
            assert_eq!(target.at("/v1/locks").to_string(), expected);
        }
        for text in ["", "127.0.0.1:8001", "https://a:1", "http://", "http://a:1/v1", "http://a?b"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
