//! How far the load is, shown to whoever waits for it.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, interval};

/// How often the bar is drawn.
const PERIOD: Duration = Duration::from_millis(200);
/// How wide it is.
const WIDTH: usize = 40;

/// How many requests have ended.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    pub(super) fn add(&self, requests: u64) {
        self.0.fetch_add(requests, Ordering::Relaxed);
    }
}

/// Draws a bar on standard error while the load runs, where that is a terminal.
pub(super) async fn show(progress: Arc<Progress>, start: Instant, until: Instant) {
    if !stderr().is_terminal() {
        return;
    }
    let whole = until - start;
    let mut ticks = interval(PERIOD);
    loop {
        let now = ticks.tick().await;
        let line = bar(now - start, whole, progress.0.load(Ordering::Relaxed));
        // Nobody is worse off for a bar that is not drawn.
        let _ = write!(stderr(), "\r{line}");
    }
}

/// Takes the bar away.
pub(super) fn clear() {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[2K");
    }
}

fn bar(elapsed: Duration, whole: Duration, requests: u64) -> String {
    let part = (elapsed.as_secs_f64() / whole.as_secs_f64()).min(1.0);
    let filled = (0..WIDTH).filter(|place| (*place as f64) < part * WIDTH as f64).count();
    let bar = "#".repeat(filled) + &"-".repeat(WIDTH - filled);
    let rate = requests as f64 / elapsed.as_secs_f64().max(0.001);
    format!(
        "[{bar}] {:.0}/{:.0} s, {rate:.0} requests/s ",
        elapsed.as_secs_f64(),
        whole.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_with_the_time() {
        let whole = Duration::from_secs(10);
        let filled = |elapsed| bar(elapsed, whole, 0).matches('#').count();
        assert_eq!(filled(Duration::ZERO), 0);
        assert_eq!(filled(Duration::from_secs(5)), WIDTH / 2);
        assert_eq!(filled(Duration::from_secs(11)), WIDTH);
        assert!(bar(Duration::from_secs(2), whole, 500).ends_with("2/10 s, 250 requests/s "));
    }
}
