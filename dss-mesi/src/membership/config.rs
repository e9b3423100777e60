//! How long a lease is, and how much the clocks are trusted.

use std::time::Duration;

/// What granters and holders must agree about: every node of a cluster has the same. A
/// `LeaseConfig` that exists is valid; [why it is safe](super) uses what it insists on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseConfig {
    election_timeout: Duration,
    lease: Duration,
    drift_permille: u32,
    margin: Duration,
    patience: Duration,
}

impl LeaseConfig {
    /// The defaults for a view that is replicated by a Raft group with this election timeout (the
    /// shortest time for which its voters wait for a leader before they elect another).
    ///
    /// With an election timeout of one second: a lease of 800 ms, renewed every 266 ms, a member
    /// that acts for 752 ms after it sent the renewal, and a removal 1,208 ms after the last one
    /// arrived.
    ///
    /// # Errors
    ///
    /// Where the election timeout is so short that not a millisecond is left for the lease.
    pub fn for_election_timeout(election_timeout: Duration) -> Result<Self, LeaseConfigError> {
        // A fifth of slack; whole milliseconds, since that is what leases are sent in.
        let millis = election_timeout.as_millis() * 4 / 5;
        let lease = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        let config = Self {
            election_timeout,
            lease,
            drift_permille: 10,
            margin: lease / 20,
            patience: lease / 2,
        };
        config.validated()
    }

    /// How long a grant lasts. Default: 0.8 election timeouts, in whole milliseconds. A shorter one
    /// is sooner over when a member dies, and costs more renewals. Margin and patience stay as
    /// they are.
    ///
    /// # Errors
    ///
    /// Where it is zero, where with the drift it is longer than the election timeout, or where the
    /// margin leaves too little of it.
    pub fn with_lease(mut self, lease: Duration) -> Result<Self, LeaseConfigError> {
        self.lease = lease;
        self.validated()
    }

    /// By how many thousandths a clock may run too fast or too slow. Default: 10, which is 1 % and
    /// hundreds of times what healthy clocks do. A clock that is worse breaks the promise.
    ///
    /// # Errors
    ///
    /// Where the lease with this drift is longer than the election timeout, or where it leaves too
    /// little of it.
    pub fn with_drift_permille(mut self, drift: u32) -> Result<Self, LeaseConfigError> {
        self.drift_permille = drift;
        self.validated()
    }

    /// By how much a holder stops earlier than it must: at least the coarseness of the clock that
    /// it looks at and the time from a look to its effect. Default: a twentieth of the lease.
    ///
    /// # Errors
    ///
    /// Where what remains of the lease is not longer than the time between two renewals.
    pub fn with_margin(mut self, margin: Duration) -> Result<Self, LeaseConfigError> {
        self.margin = margin;
        self.validated()
    }

    /// How long a member may be without a lease before it is removed. Default: half a lease, more
    /// than the time between two renewals, so that each member gets to renew with a new leader.
    /// Longer forgives longer pauses, and blocks what a dead member owned for as long.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long a grant lasts.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long a member may be without a lease before it is removed.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// How long after sending one renewal a holder sends the next: a third of the lease, so that
    /// one may get lost.
    #[must_use]
    pub fn renewal_interval(&self) -> Duration {
        self.lease / 3
    }

    /// How long, on the holder's clock and from the sending of the renewal, a holder may act on a
    /// grant of `lease`: rounded down, nothing where the margin exceeds it.
    pub(super) fn holder_span(&self, lease: Duration) -> Duration {
        let slow = scale(lease, 1_000_u32.saturating_sub(self.drift_permille), 1_000);
        slow.saturating_sub(self.margin)
    }

    /// How long, on the granter's clock and from the receipt of the renewal, a lease may last:
    /// rounded up.
    pub(super) fn granter_span(&self) -> Duration {
        scale(self.lease, self.drift_permille.saturating_add(1_000), 1_000)
            .saturating_add(Duration::from_nanos(1))
    }

    fn validated(self) -> Result<Self, LeaseConfigError> {
        if self.lease.is_zero() {
            return Err(LeaseConfigError::Zero);
        }
        // Equality is refused with it, and so is a span that has saturated.
        if self.granter_span() >= self.election_timeout {
            return Err(LeaseConfigError::LongerThanElection);
        }
        if self.holder_span(self.lease) <= self.renewal_interval() {
            return Err(LeaseConfigError::NothingLeft);
        }
        Ok(self)
    }
}

/// `span` × `numerator` / `denominator`, rounded down to a nanosecond.
fn scale(span: Duration, numerator: u32, denominator: u32) -> Duration {
    let nanos = span.as_nanos().saturating_mul(numerator.into()) / u128::from(denominator);
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

/// What a [`LeaseConfig`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseConfigError {
    /// No lease at all.
    #[error("the lease must be at least a millisecond, and the election timeout longer")]
    Zero,
    /// Another leader could be elected while a lease still runs.
    #[error("the lease and its drift must not be longer than the election timeout")]
    LongerThanElection,
    /// A holder would have to stop before it can renew.
    #[error("drift and margin leave less of the lease than the time between two renewals")]
    NothingLeft,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn default() -> LeaseConfig {
        LeaseConfig::for_election_timeout(millis(1_000)).unwrap()
    }

    #[test]
    fn the_defaults_are_those_that_are_documented() {
        let config = default();
        assert_eq!(config.lease(), millis(800));
        assert_eq!(config.renewal_interval().as_millis(), 266);
        assert_eq!(config.holder_span(config.lease()), millis(752));
        assert_eq!((config.granter_span() + config.patience()).as_millis(), 1_208);
        assert!(config.patience() > config.renewal_interval());
    }

    #[test]
    fn a_lease_that_outlives_an_election_is_refused() {
        let long = |lease| default().with_lease(millis(lease)).err();
        assert_eq!(long(990), None);
        assert_eq!(long(991), Some(LeaseConfigError::LongerThanElection));
        assert_eq!(default().with_drift_permille(249).err(), None);
        let drifting = default().with_drift_permille(251);
        assert_eq!(drifting, Err(LeaseConfigError::LongerThanElection));
        let never = default().with_lease(Duration::MAX);
        assert_eq!(never, Err(LeaseConfigError::LongerThanElection));
        assert!(default().with_drift_permille(u32::MAX).is_err());
    }

    #[test]
    fn a_lease_of_nothing_is_refused() {
        let zero = Some(LeaseConfigError::Zero);
        assert_eq!(LeaseConfig::for_election_timeout(Duration::ZERO).err(), zero);
        assert_eq!(LeaseConfig::for_election_timeout(millis(1)).err(), zero);
        assert_eq!(LeaseConfig::for_election_timeout(millis(2)).err(), None);
        assert_eq!(default().with_lease(Duration::ZERO).err(), zero);
    }

    #[test]
    fn a_margin_must_leave_time_to_renew() {
        assert_eq!(default().with_margin(millis(500)).err(), None);
        assert_eq!(default().with_margin(millis(526)).err(), Some(LeaseConfigError::NothingLeft));
        assert_eq!(default().with_lease(millis(55)), Err(LeaseConfigError::NothingLeft));
    }

    #[test]
    fn spans_are_rounded_to_the_safe_side() {
        let config = default().with_lease(Duration::from_nanos(799_999_999)).unwrap();
        assert_eq!(config.granter_span(), Duration::from_nanos(807_999_999));
        let margin = millis(40);
        assert_eq!(config.holder_span(config.lease()), Duration::from_nanos(791_999_999) - margin);
        assert_eq!(config.holder_span(millis(1)), Duration::ZERO);
    }

    /// How long a span on a clock of this rate is in real time: nanoseconds × 1,000.
    fn real(span: Duration, rate_permille: u32) -> u128 {
        span.as_nanos() * 1_000_000 / u128::from(rate_permille)
    }

    proptest! {
        #[test]
        fn no_pace_of_the_clocks_lets_a_holder_outlive_the_granter_or_an_election(
            election_timeout in 2_u64..100_000,
            drift in 0_u32..400,
            shortening in 1_u32..20,
            margin_nanos in 0_u64..5_000_000,
            [holder, granter, voter] in [-1_000_i32..=1_000, -1_000..=1_000, -1_000..=1_000],
        ) {
            let config = LeaseConfig::for_election_timeout(millis(election_timeout))
                .and_then(|config| config.with_lease(config.lease() / shortening))
                .and_then(|config| config.with_margin(Duration::from_nanos(margin_nanos)))
                .and_then(|config| config.with_drift_permille(drift));
            prop_assume!(config.is_ok());
            let config = config.unwrap();
            // A clock anywhere between the slowest and the fastest that the config allows.
            let rate = |pace: i32| {
                let drift = i32::try_from(drift).unwrap();
                u32::try_from(1_000 + drift * pace / 1_000).unwrap()
            };
            // All from one moment on: the renewal arrives as it is sent, the voter hears of the
            // leader as the renewal arrives. Anything later is safer.
            let acts = real(config.holder_span(config.lease()), rate(holder));
            let over = real(config.granter_span(), rate(granter));
            let elects = real(millis(election_timeout), rate(voter));
            prop_assert!(acts < over, "acts for {acts}, over after {over}");
            prop_assert!(acts < elects, "acts for {acts}, elects after {elects}");
            let least_margin = u128::from(margin_nanos) * 1_000_000 / u128::from(1_000 + drift);
            prop_assert!(acts + least_margin <= over, "the margin is what lies between");
        }
    }
}
