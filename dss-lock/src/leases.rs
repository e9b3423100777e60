//! The leader's memory of who is alive: a core of its own, which is not replicated.
//!
//! Signs of life that reached the log are in the table; the many that did not are only here. A
//! new leader knows none of those, so it starts by giving every session its full time to live.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dss_raft::Timestamp;

use crate::command::Expiry;
use crate::names::SessionId;

/// How many sessions one command ends at most, so that none holds up the others: what they hold is
/// given up in portions, but all that they wait for ends at once.
const EXPIRIES_PER_COMMAND: usize = 64;

/// How long an expiry that could not be proposed waits for the next try.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Until when each session lives, in the leader's own time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Leases {
    /// Whether this node leads, so far as is known here: others keep nothing.
    active: bool,
    sessions: BTreeMap<SessionId, Lease>,
    /// Those that are not being ended already.
    deadlines: BTreeSet<(Timestamp, SessionId)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lease {
    ttl: Duration,
    /// The newest renewal of the session in the log.
    renewal: u64,
    deadline: Timestamp,
    /// The expiry is under way. From then on only the log can tell whether a sign of life came in
    /// time: to acknowledge one from memory could be a lie.
    expiring: bool,
}

impl Leases {
    /// This node leads, with these sessions: all of them have just been heard of.
    pub(crate) fn begin<'a>(
        &mut self,
        now: Timestamp,
        sessions: impl Iterator<Item = (&'a SessionId, Duration, u64)>,
    ) {
        *self = Self { active: true, ..Self::default() };
        for (session, ttl, renewal) in sessions {
            self.handle_renewed(now, session, ttl, renewal);
        }
    }

    /// This node leads no more.
    pub(crate) fn end(&mut self) {
        *self = Self::default();
    }

    /// A sign of life has come through the log.
    pub(crate) fn handle_renewed(
        &mut self,
        now: Timestamp,
        session: &SessionId,
        ttl: Duration,
        renewal: u64,
    ) {
        let known = self.sessions.get(session).map(|lease| lease.renewal);
        if self.active && known.is_none_or(|known| renewal > known) {
            self.forget_deadline(session);
            let lease = Lease { ttl, renewal, deadline: now + ttl, expiring: false };
            self.deadlines.insert((lease.deadline, session.clone()));
            self.sessions.insert(session.clone(), lease);
        }
    }

    /// The session whose newest renewal was this one has ended.
    pub(crate) fn handle_ended(&mut self, session: &SessionId, renewal: u64) {
        if self.sessions.get(session).is_some_and(|lease| lease.renewal <= renewal) {
            self.forget_deadline(session);
            self.sessions.remove(session);
        }
    }

    /// Notes a sign of life that need not go through the log; `false` where it must.
    pub(crate) fn keep_alive(
        &mut self,
        now: Timestamp,
        session: &SessionId,
        ttl: Duration,
    ) -> bool {
        let Some(lease) = self.sessions.get_mut(session) else { return false };
        if lease.expiring || lease.ttl != ttl {
            return false;
        }
        self.deadlines.remove(&(lease.deadline, session.clone()));
        lease.deadline = lease.deadline.max(now + ttl);
        self.deadlines.insert((lease.deadline, session.clone()));
        true
    }

    /// [`keep_alive`](Leases::keep_alive) for the time to live that the session has.
    pub(crate) fn keep_alive_as_is(&mut self, now: Timestamp, session: &SessionId) -> bool {
        let ttl = self.sessions.get(session).map(|lease| lease.ttl);
        ttl.is_some_and(|ttl| self.keep_alive(now, session, ttl))
    }

    /// How long the session lives without another sign of life, where that is known.
    pub(crate) fn expires_in(&self, now: Timestamp, session: &SessionId) -> Option<Duration> {
        self.sessions.get(session).map(|lease| lease.deadline.since(now))
    }

    /// The sessions to propose an end for. Those that are not proposed after all come back by
    /// [`handle_not_proposed`](Leases::handle_not_proposed).
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> Vec<Expiry> {
        let mut expired = Vec::new();
        while expired.len() < EXPIRIES_PER_COMMAND
            && let Some((deadline, _)) = self.deadlines.first()
            && *deadline <= now
        {
            let (_, session) = self.deadlines.pop_first().expect("it has just been looked at");
            let lease = self.sessions.get_mut(&session).expect("a deadline is that of a lease");
            lease.expiring = true;
            expired.push(Expiry { session, renewal: lease.renewal });
        }
        expired
    }

    /// These expiries are surely not in the log.
    pub(crate) fn handle_not_proposed(&mut self, now: Timestamp, expiries: Vec<Expiry>) {
        for Expiry { session, renewal } in expiries {
            if let Some(lease) = self.sessions.get_mut(&session)
                && lease.expiring
                && lease.renewal == renewal
            {
                lease.expiring = false;
                lease.deadline = now + RETRY_AFTER;
                self.deadlines.insert((lease.deadline, session));
            }
        }
    }

    /// When [`take_expired`](Leases::take_expired) will next find something.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn forget_deadline(&mut self, session: &SessionId) {
        if let Some(lease) = self.sessions.get(session) {
            self.deadlines.remove(&(lease.deadline, session.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::since_origin(Duration::from_secs(seconds))
    }

    fn session() -> SessionId {
        SessionId::new("a").unwrap()
    }

    fn leases() -> Leases {
        let mut leases = Leases::default();
        leases.begin(at(0), [(&session(), TTL, 7)].into_iter());
        leases
    }

    fn expiry(renewal: u64) -> Vec<Expiry> {
        vec![Expiry { session: session(), renewal }]
    }

    #[test]
    fn a_session_expires_its_time_to_live_after_the_last_sign_of_life() {
        let mut leases = leases();
        assert!(leases.keep_alive(at(6), &session(), TTL));
        assert_eq!(leases.poll_timeout(), Some(at(16)));
        assert_eq!(leases.expires_in(at(10), &session()), Some(Duration::from_secs(6)));
        assert_eq!(leases.take_expired(at(15)), []);
        assert_eq!(leases.take_expired(at(16)), expiry(7));
        assert_eq!(leases.poll_timeout(), None);
    }

    #[test]
    fn a_sign_of_life_during_the_expiry_goes_through_the_log() {
        let mut leases = leases();
        let expired = leases.take_expired(at(10));
        assert!(!leases.keep_alive(at(10), &session(), TTL));
        leases.handle_not_proposed(at(10), expired);
        assert!(leases.keep_alive(at(10), &session(), TTL));
    }

    #[test]
    fn a_renewal_in_the_log_ends_the_expiry_that_it_voids() {
        let mut leases = leases();
        leases.take_expired(at(10));
        leases.handle_renewed(at(10), &session(), TTL, 7);
        assert!(!leases.keep_alive(at(10), &session(), TTL));
        leases.handle_renewed(at(11), &session(), TTL, 8);
        assert!(leases.keep_alive(at(11), &session(), TTL));
        assert_eq!(leases.take_expired(at(21)), expiry(8));
    }

    #[test]
    fn the_end_of_an_earlier_session_of_the_same_name_is_not_its_own() {
        let mut leases = leases();
        leases.handle_ended(&session(), 6);
        assert!(leases.keep_alive(at(1), &session(), TTL));
        leases.handle_ended(&session(), 7);
        assert!(!leases.keep_alive(at(1), &session(), TTL));
        assert_eq!(leases.poll_timeout(), None);
    }

    #[test]
    fn another_time_to_live_goes_through_the_log() {
        assert!(!leases().keep_alive(at(1), &session(), TTL * 2));
    }

    #[test]
    fn only_a_leader_keeps_leases() {
        let mut leases = leases();
        leases.end();
        leases.handle_renewed(at(1), &session(), TTL, 9);
        assert_eq!(leases, Leases::default());
    }

    #[test]
    fn a_new_leader_gives_every_session_its_full_time_to_live() {
        let mut leases = leases();
        leases.take_expired(at(10));
        leases.end();
        leases.begin(at(12), [(&session(), TTL, 7)].into_iter());
        assert_eq!(leases.poll_timeout(), Some(at(22)));
    }
}
