//! What the load has shown.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::{Options, Workload};

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Measurements {
    operations: BTreeMap<&'static str, Operation>,
    /// How often each reason for no answer came up.
    unanswered: BTreeMap<String, u64>,
    answered: u64,
}

#[derive(Debug, Clone, Default)]
struct Operation {
    latencies: Histogram,
    /// How often it failed, by code or reason.
    failures: BTreeMap<String, u64>,
}

impl Measurements {
    /// An operation was done.
    pub(super) fn done(&mut self, operation: &'static str, latency: Duration) {
        self.answered += 1;
        self.operations.entry(operation).or_default().latencies.record(latency);
    }

    /// An operation was refused.
    pub(super) fn refused(&mut self, operation: &'static str, code: String) {
        self.answered += 1;
        *self.operations.entry(operation).or_default().failures.entry(code).or_default() += 1;
    }

    /// An operation got no answer.
    pub(super) fn not_answered(&mut self, operation: &'static str, reason: String) {
        *self.unanswered.entry(reason.clone()).or_default() += 1;
        *self.operations.entry(operation).or_default().failures.entry(reason).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (name, theirs) in &other.operations {
            let mine = self.operations.entry(name).or_default();
            mine.latencies.merge(&theirs.latencies);
            add(&mut mine.failures, &theirs.failures);
        }
        add(&mut self.unanswered, &other.unanswered);
        self.answered += other.answered;
    }

    /// How many requests have ended.
    pub(super) fn requests(&self) -> u64 {
        self.answered + self.unanswered.values().sum::<u64>()
    }

    /// Why no request at all was answered, if none was.
    pub(super) fn unanswered(&self) -> Option<String> {
        let reasons: Vec<_> = self.unanswered.keys().map(String::as_str).collect();
        (self.answered == 0).then(|| reasons.join(", "))
    }
}

fn add(mine: &mut BTreeMap<String, u64>, theirs: &BTreeMap<String, u64>) {
    for (name, count) in theirs {
        *mine.entry(name.clone()).or_default() += count;
    }
}

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    workload: &'static str,
    clients: u32,
    seconds: f64,
    /// How many rounds should have begun in a second, where that was given.
    rate: Option<u32>,
    /// How many of them were not begun, since all clients were waiting for answers.
    missed: u64,
    /// Requests that were done.
    done: u64,
    /// Requests that were refused or not answered.
    failed: u64,
    /// Requests done in a second.
    throughput: f64,
    operations: BTreeMap<&'static str, OperationReport>,
}

/// The result for one kind of request.
#[derive(Debug, Serialize)]
struct OperationReport {
    done: u64,
    throughput: f64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    /// How often it failed, by code.
    failures: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(options: &Options, elapsed: Duration, measurements: &Measurements) -> Self {
        let seconds = elapsed.as_secs_f64();
        let per_second = |count: u64| round(count as f64 / seconds);
        let operations: BTreeMap<_, _> = measurements
            .operations
            .iter()
            .map(|(name, operation)| {
                let latencies = &operation.latencies;
                let report = OperationReport {
                    done: latencies.count(),
                    throughput: per_second(latencies.count()),
                    mean_ms: millis(latencies.mean()),
                    p50_ms: millis(latencies.permille(500)),
                    p90_ms: millis(latencies.permille(900)),
                    p99_ms: millis(latencies.permille(990)),
                    p999_ms: millis(latencies.permille(999)),
                    max_ms: millis(latencies.longest()),
                    failures: operation.failures.clone(),
                };
                (*name, report)
            })
            .collect();
        let done = operations.values().map(|operation| operation.done).sum();
        Self {
            workload: match options.workload {
                Workload::Lock => "lock",
                Workload::Queue => "queue",
                Workload::Cache => "cache",
                Workload::Mixed => "mixed",
            },
            clients: options.clients,
            seconds: round(seconds),
            rate: options.rate,
            missed: 0,
            done,
            failed: measurements.requests() - done,
            throughput: per_second(done),
            operations,
        }
    }

    /// The same where so many rounds were not begun.
    pub(super) fn missed(self, missed: u64) -> Self {
        Self { missed, ..self }
    }

    /// Writes the result to standard output.
    pub(super) fn write(&self, json: bool) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if json {
            serde_json::to_writer(&mut output, self)?;
            return writeln!(output);
        }
        self.write_table(&mut output)
    }

    fn write_table(&self, output: &mut impl Write) -> io::Result<()> {
        writeln!(
            output,
            "{} clients, {} workload, {:.1} s: {:.0} requests/s, {} done, {} failed",
            self.clients, self.workload, self.seconds, self.throughput, self.done, self.failed
        )?;
        if let Some(rate) = self.rate {
            writeln!(output, "{rate} rounds/s were due, {} were not begun in time", self.missed)?;
        }
        writeln!(
            output,
            "{:<10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "done", "per s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"
        )?;
        for (name, operation) in &self.operations {
            writeln!(
                output,
                "{name:<10}{:>10}{:>10.0}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>10.2}",
                operation.done,
                operation.throughput,
                operation.p50_ms,
                operation.p90_ms,
                operation.p99_ms,
                operation.p999_ms,
                operation.max_ms
            )?;
            for (code, count) in &operation.failures {
                writeln!(output, "{:<10}{count:>10} × {code}", "")?;
            }
        }
        Ok(())
    }
}

fn millis(latency: Duration) -> f64 {
    round(latency.as_secs_f64() * 1000.0)
}

/// To three decimals: more is noise.
fn round(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let targets = vec!["http://127.0.0.1:8001".parse().unwrap()];
        let (workload, rate) = (Workload::Mixed, None);
        Options {
            targets,
            workload,
            clients: 2,
            seconds: 2,
            rate,
            json: false,
            credentials: Default::default(),
        }
    }

    fn measurements() -> Measurements {
        let mut one = Measurements::default();
        one.done("acquire", Duration::from_millis(2));
        one.refused("acquire", "wait_timeout".to_owned());
        let mut other = Measurements::default();
        other.done("acquire", Duration::from_millis(4));
        other.done("get", Duration::from_millis(1));
        other.not_answered("get", "not_connected".to_owned());
        one.merge(&other);
        one
    }

    #[test]
    fn a_report_adds_up() {
        let report = Report::new(&options(), Duration::from_secs(2), &measurements());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["done"], 3);
        assert_eq!(json["failed"], 2);
        assert_eq!(json["throughput"], 1.5);
        let acquire = &json["operations"]["acquire"];
        assert_eq!((&acquire["done"], &acquire["max_ms"]), (&2.into(), &4.0.into()));
        assert_eq!(acquire["failures"], serde_json::json!({"wait_timeout": 1}));
        assert_eq!(json["operations"]["get"]["failures"]["not_connected"], 1);
    }

    #[test]
    fn the_table_has_a_line_for_each_operation_and_failure() {
        let mut table = Vec::new();
        let report = Report::new(&options(), Duration::from_secs(2), &measurements());
        report.write_table(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let starts: Vec<_> =
            table.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(starts, ["2", "done", "acquire", "1", "get", "1"], "{table}");
    }

    #[test]
    fn an_open_loop_says_what_it_could_not_begin() {
        let options = Options { rate: Some(50), ..options() };
        let report = Report::new(&options, Duration::from_secs(2), &measurements()).missed(7);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["rate"], &json["missed"]), (&50.into(), &7.into()));
        let mut table = Vec::new();
        report.write_table(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert!(table.contains("50 rounds/s were due, 7 were not begun in time\n"), "{table}");
    }

    #[test]
    fn a_run_without_any_answer_says_why() {
        let mut measurements = Measurements::default();
        measurements.not_answered("get", "not_connected".to_owned());
        assert_eq!(measurements.unanswered().as_deref(), Some("not_connected"));
        measurements.refused("get", "overloaded".to_owned());
        assert_eq!(measurements.unanswered(), None);
    }
}
