//! One lock: who holds it, and who waits for it in which order.

use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::command::Mode;
use crate::names::{LockName, RequestId};
use crate::numbers::{ClusterTime, FencingToken};
use crate::session::OwnerState;
use crate::slab::{Id, Links, List};

/// A lock that somebody holds or waits for, or that is kept back after an expiry.
///
/// Invariants, between commands: an exclusive holder is the only one; no request in the queue
/// could be granted; a lock that none of this is true of is not there.
#[derive(Debug, Clone)]
pub(crate) struct Lock {
    pub(crate) name: LockName,
    /// Of the newest grant, whether or not it is still in force.
    pub(crate) newest: FencingToken,
    /// In the order of their grants, which is that of their tokens.
    pub(crate) holders: List<Hold>,
    /// Those holders that wait for something, in the order in which they came to.
    pub(crate) waiting_holders: List<Hold>,
    pub(crate) queue: List<Place>,
    /// How many places in the queue are exclusive.
    pub(crate) writers: u32,
    /// How many places in the queue are of requests for several locks.
    pub(crate) joint: u32,
    /// It is granted to nobody before: its last holder has expired, and may not know it yet.
    pub(crate) delayed_until: Option<ClusterTime>,
    /// The last search for a cycle that came by.
    pub(crate) mark: u64,
    pub(crate) hash: u64,
    /// It is among those that have been idle.
    pub(crate) parked: bool,
}

impl Lock {
    pub(crate) fn new(name: LockName, hash: u64) -> Self {
        Self {
            name,
            newest: FencingToken::default(),
            holders: List::default(),
            waiting_holders: List::default(),
            queue: List::default(),
            writers: 0,
            joint: 0,
            delayed_until: None,
            mark: 0,
            hash,
            parked: false,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty() && self.delayed_until.is_none()
    }
}

/// A grant that is in force.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) lock: Id<Lock>,
    pub(crate) owner: Id<OwnerState>,
    pub(crate) by_waiting: Links<Hold>,
    pub(crate) by_lock: Links<Hold>,
    pub(crate) by_owner: Links<Hold>,
    pub(crate) grant: Granted,
    /// Of an upgrade: the shared grant that it replaced, to which it falls back where it is taken
    /// back before anybody has heard of it.
    pub(crate) upgraded_from: Option<Box<Granted>>,
}

/// What a hold was granted as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) mode: Mode,
    pub(crate) token: FencingToken,
    pub(crate) claims: Claims,
    /// How many releases it takes: one, and one for each re-entry.
    pub(crate) entries: u32,
    /// The re-entries that can still be taken back, the oldest first.
    pub(crate) reentries: Vec<Reentry>,
}

/// One more entry into a hold, and the acquires that stand for it: the first and its repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reentry {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) claims: Claims,
}

/// A request that waits. It is kept with its owner, who waits with no other.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// The index of the command that came to wait; no other has the same.
    pub(crate) arrived: u64,
    pub(crate) deadline: Option<ClusterTime>,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) claims: Claims,
    /// Its place in the queue of the lock that it asks for, or of the first of several.
    pub(crate) place: Id<Place>,
    /// Its places in the other queues, where it asks for several locks.
    pub(crate) further: Vec<Id<Place>>,
    /// Whether it is a request for several locks, though it may name only one.
    pub(crate) joint: bool,
    /// Whether it counts as one more entry where it upgrades a hold.
    pub(crate) counted: bool,
}

impl Waiting {
    /// Its places in all the queues.
    pub(crate) fn places(&self) -> impl Iterator<Item = Id<Place>> {
        [self.place].into_iter().chain(self.further.iter().copied())
    }
}

/// One place in the queue of one lock: upgrades in front of everybody, then in order of arrival.
///
/// An upgrade must go first, since nobody behind it can be granted before it anyway but readers,
/// and those would keep it waiting for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) lock: Id<Lock>,
    /// Who waits there, with the one request that it waits with.
    pub(crate) owner: Id<OwnerState>,
    pub(crate) mode: Mode,
    /// Its owner holds the lock shared. There is one at most: a second one would be a deadlock.
    pub(crate) upgrade: bool,
    pub(crate) joint: bool,
    pub(crate) arrived: u64,
    pub(crate) by_queue: Links<Place>,
    /// The last search for a cycle that came by.
    pub(crate) mark: u64,
}
