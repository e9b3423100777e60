//! One lock: who holds it, and who waits for it in which order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::command::Mode;
use crate::limits::HOLDERS_REPORTED_MAX;
use crate::names::{Owner, RequestId, SessionId};
use crate::numbers::{ClusterTime, FencingToken};

/// A grant that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) mode: Mode,
    pub(crate) token: FencingToken,
    pub(crate) claims: Claims,
    /// Of an upgrade: the shared grant that it replaced, to which it falls back where it is taken
    /// back before anybody has heard of it.
    pub(crate) upgraded_from: Option<SharedHold>,
}

/// What an upgrade replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedHold {
    pub(crate) token: FencingToken,
    pub(crate) claims: Claims,
}

/// A place in the queue: upgrades in front of everybody, then first come, first served.
///
/// An upgrade must go first, since nobody behind it can be granted before it anyway but readers,
/// and those would keep it waiting for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) class: Class,
    /// The index of the command that came to wait.
    pub(crate) index: u64,
}

/// The order of derivation is the order in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Class {
    /// Its owner holds the lock shared. There is one at most: a second one would be a deadlock.
    Upgrade,
    /// Its owner does not hold the lock.
    Ordinary,
}

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) owner: Owner,
    pub(crate) mode: Mode,
    pub(crate) deadline: Option<ClusterTime>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) claims: Claims,
}

/// A lock that is held. One that nobody holds is not kept: nobody can be waiting for it.
///
/// Invariants, between commands: at least one holder; an exclusive holder is the only one; the
/// first in the queue cannot be granted; no owner waits in it twice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Lock {
    pub(crate) holders: BTreeMap<Owner, Hold>,
    pub(crate) queue: BTreeMap<Place, Waiter>,
    /// Of the newest grant, whether or not it is still in force.
    pub(crate) newest: FencingToken,
}

impl Lock {
    /// How it is held.
    pub(crate) fn mode(&self) -> Option<Mode> {
        // All holders are shared or there is only one.
        self.holders.values().next().map(|hold| hold.mode)
    }

    /// Whether `owner` could hold it in `mode` beside those who hold it, the queue left aside.
    pub(crate) fn is_compatible(&self, owner: &Owner, mode: Mode) -> bool {
        let alone = match self.holders.len() {
            0 => true,
            1 => self.holders.contains_key(owner),
            _ => false,
        };
        alone || (mode == Mode::Shared && self.mode() == Some(Mode::Shared))
    }

    /// The first in the queue, where it can be granted.
    pub(crate) fn grantable(&self) -> Option<Place> {
        let (place, waiter) = self.queue.first_key_value()?;
        self.is_compatible(&waiter.owner, waiter.mode).then_some(*place)
    }

    /// Sessions that hold it, without repeats, in order.
    pub(crate) fn holding_sessions(&self) -> Vec<SessionId> {
        let mut sessions: Vec<SessionId> = Vec::new();
        // The holders of one session are neighbours in the order of owners.
        for owner in self.holders.keys() {
            if sessions.last() != Some(&owner.session) {
                if sessions.len() == HOLDERS_REPORTED_MAX {
                    break;
                }
                sessions.push(owner.session.clone());
            }
        }
        sessions
    }
}
