//! One session: its owners, what each holds and waits for, and the answers that each was given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits::{IDLE_OWNERS_MAX, RECORDS_PER_OWNER_MAX, TTL_MAX, TTL_MIN};
use crate::lock::Place;
use crate::names::{LockName, OwnerId, RequestId, SessionId};
use crate::numbers::FencingToken;
use crate::reply::{Outcome, SessionView};

/// A session that lives.
///
/// When it ends is not for the table to say: signs of life are kept by the leader, in memory, and
/// only the end of a session comes through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) ttl: Duration,
    /// The index of the newest command that was a sign of life. No other session, before or after
    /// it, ever has the same.
    pub(crate) renewal: u64,
    pub(crate) owners: BTreeMap<OwnerId, OwnerState>,
    /// The owners that neither hold nor wait, the longest idle first.
    idle: BTreeSet<(u64, OwnerId)>,
    /// How many locks all owners hold and wait for together.
    pub(crate) locks: usize,
}

/// What the table knows of one owner.
///
/// What it holds and waits for says the same as the locks do: each is written with the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OwnerState {
    /// The one lock that it waits for, and where in the queue.
    pub(crate) wait: Option<(LockName, Place)>,
    pub(crate) holds: BTreeSet<LockName>,
    /// How many of those it holds have a queue. While it is zero nobody waits for this owner, so
    /// no cycle can pass through it.
    pub(crate) contested: usize,
    /// Answers to requests with an id, the oldest first.
    pub(crate) records: VecDeque<Record>,
    /// Since which command it neither holds nor waits.
    idle_since: Option<u64>,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) request_id: RequestId,
    pub(crate) outcome: Outcome,
}

impl OwnerState {
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

    /// Forgets that this grant was an answer: whoever asked for it never got it.
    pub(crate) fn forget_grant(&mut self, token: FencingToken) {
        self.records.retain(
            |record| !matches!(&record.outcome, Outcome::Granted(grant) if grant.token == token),
        );
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.wait.is_none() && self.holds.is_empty()
    }

    pub(crate) fn idle_since(&self) -> Option<u64> {
        self.idle_since
    }
}

impl Session {
    pub(crate) fn new(ttl: Duration, renewal: u64) -> Self {
        Self {
            ttl: ttl.clamp(TTL_MIN, TTL_MAX),
            renewal,
            owners: BTreeMap::new(),
            idle: BTreeSet::new(),
            locks: 0,
        }
    }

    pub(crate) fn renew(&mut self, ttl: Option<Duration>, renewal: u64) {
        if let Some(ttl) = ttl {
            self.ttl = ttl.clamp(TTL_MIN, TTL_MAX);
        }
        self.renewal = renewal;
    }

    /// The state of `owner`, which is made where there is none. Followed, once the command is
    /// done, by [`Session::settle`].
    pub(crate) fn owner_mut(&mut self, owner: &OwnerId) -> &mut OwnerState {
        let state = self.owners.entry(owner.clone()).or_default();
        if let Some(since) = state.idle_since.take() {
            self.idle.remove(&(since, owner.clone()));
        }
        state
    }

    /// Forgets `owner` if there is nothing to remember, and sees to it that not too many are
    /// remembered for their answers alone.
    pub(crate) fn settle(&mut self, owner: &OwnerId, index: u64) {
        let Some(state) = self.owners.get_mut(owner) else { return };
        if !state.is_idle() || state.idle_since.is_some() {
            return;
        }
        if state.records.is_empty() {
            self.owners.remove(owner);
            return;
        }
        self.set_idle(owner.clone(), index);
        if self.idle.len() > IDLE_OWNERS_MAX {
            let (_, longest_idle) = self.idle.pop_first().expect("it has just been found long");
            self.owners.remove(&longest_idle);
        }
    }

    /// Marks `owner`, which is there and idle, as idle since `index`.
    pub(crate) fn set_idle(&mut self, owner: OwnerId, index: u64) {
        let state = self.owners.get_mut(&owner).expect("only an owner that is there goes idle");
        state.idle_since = Some(index);
        self.idle.insert((index, owner));
    }

    pub(crate) fn idle_owners(&self) -> usize {
        self.idle.len()
    }

    pub(crate) fn view(&self, session: &SessionId) -> SessionView {
        let holds: BTreeSet<_> = self.owners.values().flat_map(|owner| &owner.holds).collect();
        let waits_for: BTreeSet<_> =
            self.owners.values().filter_map(|owner| Some(&owner.wait.as_ref()?.0)).collect();
        SessionView {
            session: session.clone(),
            ttl: self.ttl,
            renewal: self.renewal,
            holds: holds.into_iter().cloned().collect(),
            waits_for: waits_for.into_iter().cloned().collect(),
        }
    }
}
