//! When requests are taken in: those that come together become one write.

use std::time::Duration;

use crate::types::Timestamp;

/// How long proposals wait for the ones before them to be committed. What comes in meanwhile becomes
/// one batch; with many clients, batches that are begun as soon as there is anything to put in them
/// shrink to a few entries each, and each costs every member a dozen wake-ups. Where a commit takes
/// longer (a slow disk, distant members), batches overtake each other this far apart.
const HOLDING_MAX: Duration = Duration::from_millis(1);

/// How long is waited at most, without sleeping, for clients that were just answered; and how many
/// times others are let run meanwhile, which bounds it where time stands still.
const LINGERING_MAX: Duration = Duration::from_micros(50);
const YIELDS_MAX: u32 = 64;

/// Gathers requests into batches.
///
/// Clients that write in a loop fall apart into cohorts if nothing is done about it: whoever asked
/// while a write was under way is taken in as soon as it ends, alone, and those that it answered
/// come too late and wait for that. Both cohorts then pay for both writes. So a batch is held back
/// for a moment, a quarter of what the last commit took at most, until as many are here as were
/// answered and as waited.
#[derive(Default)]
pub(super) struct Gathering {
    /// When the last batch was taken in.
    begun: Timestamp,
    /// How many requests the next batch may be expected to have, and until when.
    expected: usize,
    until: Timestamp,
    yields: u32,
}

impl Gathering {
    /// A batch is taken in.
    pub(super) fn begin(&mut self, now: Timestamp) {
        *self = Self { begun: now, ..Self::default() };
    }

    /// So many proposals were answered, while so many requests wait.
    pub(super) fn answered(&mut self, now: Timestamp, proposals: usize, waiting: usize) {
        let commit = now.since(self.begun);
        self.expected = proposals + waiting;
        self.until = now + (commit / 4).min(LINGERING_MAX);
        self.yields = 0;
    }

    /// Until when requests are held back while proposals are not committed.
    pub(super) fn held_until(&self) -> Timestamp {
        self.begun + HOLDING_MAX
    }

    /// Whether others are to be let run once more before the next batch, of which so many are here.
    pub(super) fn lingers(&mut self, now: Timestamp, here: usize) -> bool {
        self.yields += 1;
        here < self.expected && now < self.until && self.yields <= YIELDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_micros(10);

    fn at(moments: u32) -> Timestamp {
        Timestamp::ZERO + MOMENT * moments
    }

    #[test]
    fn those_who_were_answered_are_waited_for_with_those_who_wait_for_a_quarter_of_the_commit() {
        let mut gathering = Gathering::default();
        gathering.begin(at(0));
        gathering.answered(at(8), 60, 4);
        assert!(gathering.lingers(at(8), 4) && gathering.lingers(at(9), 63));
        assert!(!gathering.lingers(at(9), 64), "all are here");
        assert!(!gathering.lingers(at(10), 63), "time is over");
        gathering.begin(at(10));
        assert!(!gathering.lingers(at(10), 1), "nobody was answered since");
    }

    #[test]
    fn no_client_is_waited_for_long() {
        let mut gathering = Gathering::default();
        gathering.begin(at(0));
        gathering.answered(at(1_000), 2, 1);
        assert!(gathering.lingers(at(1_004), 1) && !gathering.lingers(at(1_005), 1));
        gathering.answered(at(2_000), 2, 1);
        let yields = (0..1_000).filter(|_| gathering.lingers(at(2_000), 1)).count();
        assert_eq!(yields, YIELDS_MAX as usize, "where time stands still");
    }
}
