//! Which seeds a test runs.

use std::ops::Range;

use super::violation::Failure;
use super::world::Report;

/// The seeds that a test should run: the one in the environment variable `DSS_SEED`, or
/// `DSS_SEEDS` of them (`usually`, where that is not set) from `DSS_FIRST_SEED` (0) on.
#[must_use]
pub fn seeds(usually: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.trim().parse().ok());
    match number("DSS_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => {
            let first = number("DSS_FIRST_SEED").unwrap_or(0);
            first..first.saturating_add(number("DSS_SEEDS").unwrap_or(usually))
        }
    }
}

/// Runs every seed, on all processors, and returns what happened in all of them together.
///
/// # Errors
///
/// The failure of the lowest seed that failed; `DSS_SEED` set to that seed replays it.
pub fn check_seeds(
    seeds: Range<u64>,
    run: impl Fn(u64) -> Result<Report, Failure> + Sync,
) -> Result<Report, Failure> {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let run = &run;
    let worker = |nth: u64| {
        let mut sum = Report::default();
        for seed in seeds
            .clone()
            .skip(usize::try_from(nth).unwrap_or(0))
            .step_by(usize::try_from(workers).unwrap_or(1))
        {
            sum.add(&run(seed)?);
        }
        Ok(sum)
    };
    let worker = &worker;
    let results: Vec<Result<Report, Failure>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|nth| scope.spawn(move || worker(nth))).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, _>| match handle.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        handles.into_iter().map(join).collect()
    });
    let mut sum = Report::default();
    let mut failure: Option<Failure> = None;
    for result in results {
        match result {
            Ok(report) => sum.add(&report),
            Err(found) => {
                if failure.as_ref().is_none_or(|earlier| found.seed < earlier.seed) {
                    failure = Some(found);
                }
            }
        }
    }
    failure.map_or(Ok(sum), Err)
}
