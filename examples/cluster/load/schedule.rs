//! When clients begin.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{Duration, Instant, sleep_until};

/// What all clients of a run begin by.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    until: Instant,
    /// How many rounds are begun in a second, by all clients together; as many as there are
    /// answers, where there is none.
    rate: Option<u32>,
    begun: AtomicU64,
}

/// When a round should have begun, where that is for the schedule to say.
pub(super) type Due = Option<Instant>;

impl Schedule {
    pub(super) fn new(start: Instant, duration: Duration, rate: Option<u32>) -> Self {
        Self { start, until: start + duration, rate, begun: AtomicU64::new(0) }
    }

    pub(super) fn start(&self) -> Instant {
        self.start
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// Waits for the time of the next round, which may have been a while ago; none where the run
    /// is over.
    pub(super) async fn next(&self) -> Option<Due> {
        if Instant::now() >= self.until {
            return None;
        }
        let Some(rate) = self.rate else { return Some(None) };
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let due = self.start + due_after(number, rate);
        if due >= self.until {
            return None;
        }
        sleep_until(due).await;
        Some(Some(due))
    }

    /// How many rounds should have begun and did not, since every client was waiting for answers.
    pub(super) fn missed(&self) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let span = self.until - self.start;
        let planned = u64::from(rate) * span.as_secs();
        planned.saturating_sub(self.begun.load(Ordering::Relaxed))
    }
}

/// How long after the start a round is due.
fn due_after(number: u64, rate: u32) -> Duration {
    const NANOS: u64 = 1_000_000_000;
    let rate = u64::from(rate);
    Duration::from_secs(number / rate) + Duration::from_nanos(number % rate * NANOS / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rounds_are_due_at_their_rate_whenever_they_are_asked_for() {
        let start = Instant::now();
        let schedule = Schedule::new(start, Duration::from_secs(2), Some(4));
        let due = |millis| Some(Some(start + Duration::from_millis(millis)));
        assert_eq!(schedule.next().await, due(0));
        assert_eq!(schedule.next().await, due(250));
        assert_eq!(start.elapsed(), Duration::from_millis(250));
        // A stall: what was due meanwhile is begun at once, and is late.
        tokio::time::advance(Duration::from_secs(1)).await;
        for millis in [500, 750, 1000, 1250] {
            assert_eq!(schedule.next().await, due(millis));
        }
        assert_eq!(start.elapsed(), Duration::from_millis(1250));
        assert_eq!(schedule.missed(), 2);
        assert_eq!(schedule.next().await, due(1500));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(schedule.next().await, None);
        assert_eq!(schedule.missed(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_every_round_is_begun_at_once() {
        let schedule = Schedule::new(Instant::now(), Duration::from_secs(1), None);
        assert_eq!(schedule.next().await, Some(None));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((schedule.next().await, schedule.missed()), (None, 0));
    }

    #[test]
    fn no_round_is_lost_to_rounding() {
        assert_eq!(due_after(3_000_000_000, 3), Duration::from_secs(1_000_000_000));
        assert_eq!(due_after(1, 3), Duration::from_nanos(333_333_333));
    }
}
