//! What a history must look like.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// What clients did and were told, by one clock.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) grants: Vec<Grant>,
    pub(super) writes: Vec<Write>,
    /// For each lock, the token under which the value that it guards was written last.
    pub(super) last_values: Vec<Option<u64>>,
    /// How many signs of life were acknowledged to holders.
    pub(super) renewed: usize,
}

/// One grant of a lock.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) lock: usize,
    pub(super) is_shared: bool,
    pub(super) token: u64,
    /// When it was asked for, and when its client knew of it.
    pub(super) asked: Instant,
    pub(super) granted: Instant,
    /// Up to when its client believed to hold the lock: it then gave it back, or could not be
    /// certain any more that its session lives.
    pub(super) until: Instant,
}

/// One attempt to write the value that a lock guards, under a token of the lock.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) lock: usize,
    pub(super) token: u64,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) outcome: WriteOutcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    Done,
    /// The token was refused.
    Stale,
    Unknown,
}

/// How much there was to check.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) grants: usize,
    pub(super) writes: usize,
    pub(super) stale_refused: usize,
    pub(super) renewed: usize,
}

impl History {
    pub(super) fn merge(&mut self, other: Self) {
        self.grants.extend(other.grants);
        self.writes.extend(other.writes);
        self.renewed += other.renewed;
    }
}

/// Whether the clients' locks excluded each other, their tokens rose, and nothing was written
/// under a token that somebody else's had replaced.
pub(super) fn check(history: &History) -> Result<Seen, String> {
    tokens_rise(&history.grants)?;
    holders_exclude_each_other(&history.grants)?;
    stale_tokens_write_nothing(history)?;
    let with = |outcome| history.writes.iter().filter(|write| write.outcome == outcome).count();
    Ok(Seen {
        grants: history.grants.len(),
        writes: with(WriteOutcome::Done),
        stale_refused: with(WriteOutcome::Stale),
        renewed: history.renewed,
    })
}

/// Every grant has a token of its own, above those of all grants that were known before it was
/// asked for, whatever their lock.
fn tokens_rise(grants: &[Grant]) -> Result<(), String> {
    let mut by_token = BTreeMap::new();
    for grant in grants {
        if let Some(other) = by_token.insert(grant.token, grant) {
            return Err(format!("a token was given twice: {grant:?} {other:?}"));
        }
    }
    let mut earliest_after: Option<&Grant> = None;
    // From the greatest token down: none below may have been asked for after one above was known.
    for grant in by_token.into_values().rev() {
        if let Some(above) = earliest_after
            && above.granted < grant.asked
        {
            return Err(format!("a token did not rise: {above:?} came before {grant:?}"));
        }
        if earliest_after.is_none_or(|above| grant.granted < above.granted) {
            earliest_after = Some(grant);
        }
    }
    Ok(())
}

fn holders_exclude_each_other(grants: &[Grant]) -> Result<(), String> {
    for (place, one) in grants.iter().enumerate() {
        for other in &grants[place + 1..] {
            let together = one.granted < other.until && other.granted < one.until;
            let compatible = one.is_shared && other.is_shared;
            if one.lock == other.lock && together && !compatible {
                return Err(format!("two held one lock: {one:?} {other:?}"));
            }
        }
    }
    Ok(())
}

fn stale_tokens_write_nothing(history: &History) -> Result<(), String> {
    let done = || history.writes.iter().filter(|write| write.outcome == WriteOutcome::Done);
    for write in done() {
        let newer = history.grants.iter().find(|grant| {
            grant.lock == write.lock && grant.token > write.token && grant.granted < write.begun
        });
        if let Some(newer) = newer {
            return Err(format!("a stale token has written: {write:?} after {newer:?}"));
        }
        let overwritten = done().find(|other| {
            other.lock == write.lock && other.token > write.token && other.ended < write.begun
        });
        if let Some(newer) = overwritten {
            return Err(format!("an older token has overwritten: {write:?} after {newer:?}"));
        }
    }
    for (lock, last) in history.last_values.iter().enumerate() {
        let newest = done().filter(|write| write.lock == lock).map(|write| write.token).max();
        if *last < newest {
            return Err(format!("lock {lock}: {last:?} was written over {newest:?}"));
        }
        let written = history.writes.iter().any(|write| {
            write.lock == lock && Some(write.token) == *last && write.outcome != WriteOutcome::Stale
        });
        if last.is_some() && !written {
            return Err(format!("lock {lock}: nobody may have written {last:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Grants of lock 0, as (token, asked, granted, until).
    fn grants(rows: &[(u64, u64, u64, u64)]) -> Vec<Grant> {
        let origin = Instant::now();
        let at = |millis| origin + Duration::from_millis(millis);
        let grant = |&(token, asked, granted, until)| Grant {
            lock: 0,
            is_shared: false,
            token,
            asked: at(asked),
            granted: at(granted),
            until: at(until),
        };
        rows.iter().map(grant).collect()
    }

    fn write(grants: &[Grant], token: u64, after_millis: u64, outcome: WriteOutcome) -> Write {
        let begun = grants[0].asked + Duration::from_millis(after_millis);
        let ended = begun + Duration::from_millis(1);
        Write { lock: 0, token, begun, ended, outcome }
    }

    #[test]
    fn two_holders_at_a_time_are_found_unless_they_share() {
        let apart = grants(&[(1, 0, 1, 5), (2, 0, 5, 9)]);
        assert_eq!(holders_exclude_each_other(&apart), Ok(()));
        let mut together = grants(&[(1, 0, 1, 6), (2, 0, 5, 9)]);
        assert!(holders_exclude_each_other(&together).is_err());
        together[0].is_shared = true;
        assert!(holders_exclude_each_other(&together).is_err());
        together[1].is_shared = true;
        assert_eq!(holders_exclude_each_other(&together), Ok(()));
        together[1] = Grant { lock: 1, is_shared: false, ..together[1].clone() };
        assert_eq!(holders_exclude_each_other(&together), Ok(()));
    }

    #[test]
    fn tokens_that_repeat_or_fall_are_found() {
        assert_eq!(tokens_rise(&grants(&[(1, 0, 9, 9), (2, 5, 6, 7), (3, 8, 9, 9)])), Ok(()));
        assert!(tokens_rise(&grants(&[(1, 0, 1, 2), (1, 3, 4, 5)])).is_err());
        assert!(tokens_rise(&grants(&[(2, 0, 1, 2), (1, 3, 4, 5)])).is_err());
        assert!(tokens_rise(&grants(&[(3, 0, 9, 9), (2, 0, 1, 2), (1, 3, 4, 5)])).is_err());
    }

    #[test]
    fn writes_under_stale_tokens_are_found() {
        use WriteOutcome::{Done, Stale, Unknown};
        let grants = grants(&[(1, 0, 1, 2), (2, 3, 5, 9)]);
        let history = |rows: &[(u64, u64, WriteOutcome)], last| History {
            writes: rows
                .iter()
                .map(|(token, at, outcome)| write(&grants, *token, *at, *outcome))
                .collect(),
            grants: grants.clone(),
            last_values: vec![last],
            renewed: 0,
        };
        for (rows, last, is_good) in [
            (&[(1, 1, Done), (2, 6, Done), (1, 8, Stale)][..], Some(2), true),
            (&[(1, 1, Unknown), (2, 6, Unknown)], Some(1), true),
            (&[(1, 6, Done)], Some(1), false),
            (&[(1, 1, Done), (2, 6, Done)], Some(1), false),
            (&[(1, 1, Done), (2, 6, Done)], Some(3), false),
            (&[(1, 1, Done)], None, false),
            (&[(1, 6, Stale)], Some(1), false),
        ] {
            let found = stale_tokens_write_nothing(&history(rows, last));
            assert_eq!(found.is_ok(), is_good, "{rows:?} {last:?} {found:?}");
        }
    }
}
