//! The member's side of a lease.

use std::time::Duration;

use super::config::LeaseConfig;
use crate::view::Timestamp;

/// How long this member may act, and when it should renew. One per life: a member that was removed
/// and joins anew starts another.
///
/// Whoever sends renewals keeps the time at which each was sent and returns it with the answer: a
/// lease counts from there, since the granter cannot have heard of it any earlier.
///
/// | time | what the driver does |
/// | --- | --- |
/// | [`poll_timeout`](Self::poll_timeout) | [`handle_sent`](Self::handle_sent), then sends a renewal |
/// | a grant arrives | [`handle_granted`](Self::handle_granted), and lets the cache act until the deadline |
/// | another leader is known | [`handle_leader_changed`](Self::handle_leader_changed) |
/// | the renewal is refused for good, or the member leaves | [`surrender`](Self::surrender) |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseHolder {
    config: LeaseConfig,
    next_renewal: Timestamp,
    /// When the last renewal was sent.
    last_sent: Option<Timestamp>,
    /// From here on the member must not act; it only rises, until the lease is surrendered.
    deadline: Option<Timestamp>,
    surrendered: bool,
}

impl LeaseHolder {
    /// A member that has no lease and should ask for one at once.
    #[must_use]
    pub fn new(config: LeaseConfig, now: Timestamp) -> Self {
        Self { config, next_renewal: now, last_sent: None, deadline: None, surrendered: false }
    }

    /// A renewal leaves. Called *before* it is given to the network.
    pub fn handle_sent(&mut self, now: Timestamp) {
        self.last_sent = self.last_sent.max(Some(now));
        self.next_renewal = now + self.config.renewal_interval();
    }

    /// The renewal sent at `sent_at` was answered with this lease. Returns the deadline that holds
    /// from now on: not the one of this grant, if one that was sent later is known already.
    ///
    /// An answer to what this holder never sent changes nothing, nor does one after it has
    /// surrendered; a lease longer than the configured one counts as that.
    pub fn handle_granted(&mut self, sent_at: Timestamp, lease: Duration) -> Option<Timestamp> {
        let sent = self.last_sent.is_some_and(|last_sent| sent_at <= last_sent);
        if sent && !self.surrendered {
            let span = self.config.holder_span(lease.min(self.config.lease()));
            self.deadline = self.deadline.max(Some(sent_at + span));
        }
        self.deadline
    }

    /// The group that grants leases has another leader: renew at once rather than at the usual
    /// time, since it knows nothing of this member's lease and has little patience.
    pub fn handle_leader_changed(&mut self, now: Timestamp) {
        self.next_renewal = self.next_renewal.min(now);
    }

    /// Ends the lease for good: the member no longer acts, whatever answers are still on their
    /// way. Comes before a member proposes to [leave](super::ViewCommand::Leave).
    pub fn surrender(&mut self) {
        self.surrendered = true;
        self.deadline = None;
    }

    /// Whether the member may act. Asked before a read is answered, and after a write was applied
    /// and before it is acknowledged.
    #[must_use]
    pub fn may_act(&self, now: Timestamp) -> bool {
        self.deadline.is_some_and(|deadline| now < deadline)
    }

    /// From when on the member must not act; `None` where it must not act at all.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    /// When to send the next renewal; `None` once the lease is surrendered.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        (!self.surrendered).then_some(self.next_renewal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::since_origin(Duration::from_millis(millis))
    }

    const LEASE: Duration = Duration::from_millis(800);

    /// Acts for 752 ms on a grant and renews every 266 ⅔ ms.
    fn holder() -> LeaseHolder {
        let config = LeaseConfig::for_election_timeout(Duration::from_secs(1)).unwrap();
        LeaseHolder::new(config, at(100))
    }

    #[test]
    fn a_lease_counts_from_the_sending_of_the_renewal() {
        let mut holder = holder();
        assert!(!holder.may_act(at(100)));
        holder.handle_sent(at(100));
        assert_eq!(holder.deadline(), None, "asking is not having");
        // However late the answer comes.
        assert_eq!(holder.handle_granted(at(100), LEASE), Some(at(852)));
        assert!(holder.may_act(at(851)));
        assert!(!holder.may_act(at(852)));
    }

    #[test]
    fn an_answer_that_was_overtaken_does_not_shorten_the_lease() {
        let mut holder = holder();
        holder.handle_sent(at(100));
        holder.handle_sent(at(300));
        assert_eq!(holder.handle_granted(at(300), LEASE), Some(at(1_052)));
        assert_eq!(holder.handle_granted(at(100), LEASE), Some(at(1_052)));
    }

    #[test]
    fn an_answer_to_what_was_never_sent_is_ignored() {
        let mut holder = holder();
        assert_eq!(holder.handle_granted(at(100), LEASE), None);
        holder.handle_sent(at(100));
        assert_eq!(holder.handle_granted(at(101), LEASE), None);
    }

    #[test]
    fn a_lease_beyond_all_bounds_is_cut_to_the_configured_one() {
        let mut holder = holder();
        holder.handle_sent(at(100));
        assert_eq!(holder.handle_granted(at(100), Duration::ZERO), Some(at(100)));
        assert!(!holder.may_act(at(100)));
        assert_eq!(holder.handle_granted(at(100), Duration::MAX), Some(at(852)));
    }

    #[test]
    fn renewals_go_out_at_a_third_of_the_lease_answered_or_not() {
        let mut holder = holder();
        assert_eq!(holder.poll_timeout(), Some(at(100)));
        holder.handle_sent(at(100));
        let next = at(100) + LEASE / 3;
        assert_eq!(holder.poll_timeout(), Some(next));
        holder.handle_granted(at(100), LEASE);
        assert_eq!(holder.poll_timeout(), Some(next));
    }

    #[test]
    fn a_new_leader_hears_from_the_member_at_once() {
        let mut holder = holder();
        holder.handle_sent(at(100));
        holder.handle_leader_changed(at(150));
        assert_eq!(holder.poll_timeout(), Some(at(150)));
        holder.handle_leader_changed(at(160));
        assert_eq!(holder.poll_timeout(), Some(at(150)), "it is due already");
    }

    #[test]
    fn what_was_surrendered_does_not_come_back() {
        let mut holder = holder();
        holder.handle_sent(at(100));
        holder.handle_granted(at(100), LEASE);
        holder.handle_sent(at(300));
        holder.surrender();
        assert!(!holder.may_act(at(301)));
        assert_eq!(holder.handle_granted(at(300), LEASE), None);
        assert_eq!((holder.deadline(), holder.poll_timeout()), (None, None));
    }
}
