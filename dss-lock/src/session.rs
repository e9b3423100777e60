//! One session: its owners, what each holds and waits for, and the answers that each was given.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::holds::Withdrawn;
use crate::limits::{LOCK_DELAY_MAX, RECORDS_PER_OWNER_MAX, TTL_MAX, TTL_MIN};
use crate::lock::{Hold, Lock, Waiting};
use crate::names::{OwnerId, RequestId, SessionId};
use crate::numbers::FencingToken;
use crate::reply::Outcome;
use crate::slab::{Id, Links, List};

/// A session that lives, or that has ended and has not yet given up all that it held.
///
/// When it ends is not for the table to say: signs of life are kept by the leader, in memory, and
/// only the end of a session comes through the log.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) name: SessionId,
    pub(crate) hash: u64,
    pub(crate) ttl: Duration,
    /// For how long its locks are granted to nobody after it has expired.
    pub(crate) lock_delay: Duration,
    /// The index of the newest command that was a sign of life. No other session, before or after
    /// it, ever has the same.
    pub(crate) renewal: u64,
    /// The index of the command that opened it.
    pub(crate) opened: u64,
    pub(crate) owners: List<OwnerState>,
    /// The owners that neither hold nor wait, the longest idle first.
    pub(crate) idle: List<OwnerState>,
    /// How many locks all owners hold and wait for together.
    pub(crate) locks: usize,
    /// The index of the command that ended it. Its name may then belong to another session.
    pub(crate) ended: Option<u64>,
    /// What it held when it ended and has not given up yet, in the order of tokens.
    pub(crate) estate: List<Hold>,
}

impl Session {
    pub(crate) fn new(name: SessionId, hash: u64, ttl: Duration, renewal: u64) -> Self {
        Self {
            name,
            hash,
            ttl: ttl.clamp(TTL_MIN, TTL_MAX),
            lock_delay: Duration::ZERO,
            renewal,
            opened: renewal,
            owners: List::default(),
            idle: List::default(),
            locks: 0,
            ended: None,
            estate: List::default(),
        }
    }

    pub(crate) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl.clamp(TTL_MIN, TTL_MAX);
    }

    pub(crate) fn set_lock_delay(&mut self, delay: Duration) {
        self.lock_delay = delay.min(LOCK_DELAY_MAX);
    }
}

/// What the table knows of one owner.
#[derive(Debug, Clone)]
pub(crate) struct OwnerState {
    /// The one request that it waits with.
    pub(crate) waiting: Option<Waiting>,
    pub(crate) session: Id<Session>,
    pub(crate) name: OwnerId,
    pub(crate) hash: u64,
    pub(crate) by_session: Links<OwnerState>,
    pub(crate) by_idling: Links<OwnerState>,
    pub(crate) holds: List<Hold>,
    /// Answers to requests with an id, the oldest first.
    pub(crate) records: VecDeque<Record>,
    /// Since which command it neither holds nor waits.
    pub(crate) idle_since: Option<u64>,
}

/// An owner as a node of the wait-for graph: all that a search comes by for of most owners, who
/// may be a hundred thousand, so that it is found in one place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// The lock that it waits for, where that is a request for one lock alone.
    pub(crate) awaits: Option<Id<Lock>>,
    /// The last search for a cycle that came by.
    pub(crate) mark: u64,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) request_id: RequestId,
    pub(crate) outcome: Outcome,
}

impl OwnerState {
    pub(crate) fn new(session: Id<Session>, name: OwnerId, hash: u64) -> Self {
        Self {
            waiting: None,
            session,
            name,
            hash,
            by_session: Links::default(),
            by_idling: Links::default(),
            holds: List::default(),
            records: VecDeque::new(),
            idle_since: None,
        }
    }

    pub(crate) fn recorded(&self, request_id: &RequestId) -> Option<&Outcome> {
        let record = self.records.iter().find(|record| record.request_id == *request_id);
        record.map(|record| &record.outcome)
    }

    pub(crate) fn record(&mut self, request_id: RequestId, outcome: Outcome) {
        if self.records.len() >= RECORDS_PER_OWNER_MAX {
            self.records.pop_front();
        }
        self.records.push_back(Record { request_id, outcome });
    }

    /// Forgets the answers that told of what was taken back of this grant: whoever asked for it
    /// never got it. A repeat of one, answered
    /// from memory, would take an entry for its own that is another's.
    pub(crate) fn forget_entry(&mut self, token: FencingToken, withdrawn: &Withdrawn) {
        match withdrawn {
            Withdrawn::Claim | Withdrawn::Reentry(None) => {}
            Withdrawn::All => self
                .records
                .retain(|record| !record.outcome.grants().any(|grant| grant.token == token)),
            Withdrawn::Reentry(Some(id)) => self.records.retain(|record| record.request_id != *id),
            Withdrawn::First { kept } => self.records.retain(|record| {
                kept.contains(&record.request_id)
                    || !record.outcome.grants().any(|grant| grant.token == token)
            }),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_none() && self.holds.is_empty()
    }
}
