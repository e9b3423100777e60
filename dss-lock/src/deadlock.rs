//! Whether a wait would close a cycle: exact, and without looking at a queue.

use std::collections::BTreeSet;

use crate::lock::Lock;
use crate::names::{LockName, Owner, SessionId};
use crate::table::LockTable;

/// One owner on a path from the requester, and the step before it.
struct Step<'a> {
    owner: &'a Owner,
    awaits: &'a LockName,
    before: Option<usize>,
}

impl LockTable {
    /// The sessions of a cycle that `requester`, who waits for nothing, would close by waiting for
    /// `name`; from the requester on, the shortest there is.
    ///
    /// In a first-come, first-served queue of shared and exclusive requests every waiter waits, by
    /// itself or through those ahead of it, for every holder of the lock but itself. And those
    /// ahead wait for nothing but the same lock, since an owner waits for one at a time. So owners
    /// reach each other exactly by the steps owner, lock that it waits for, holders of that lock,
    /// and no waiter needs to be enumerated: the cost is that of the locks and holders on the way.
    ///
    /// Asked at every enqueue this finds every cycle. Waiting adds edges from the requester, and
    /// into it where an upgrade overtakes; a grant turns places ahead in a queue into holds, which
    /// reach the same; and whatever ends a wait or a hold takes edges away. So every cycle passes
    /// through the requester that closes it, and refusing that request leaves none.
    pub(crate) fn find_cycle(&self, requester: &Owner, name: &LockName) -> Option<Vec<SessionId>> {
        let mut steps = Vec::new();
        let mut visited = BTreeSet::new();
        // The requester may hold the lock itself, shared. Its own hold does not keep it waiting,
        // but one that waits to upgrade there waits for the requester: the lock counts as visited
        // only when it is reached as somebody else's.
        self.add_waiting_holders(&mut steps, None, self.locks.get(name)?, requester);
        let mut next = 0;
        while let Some(Step { awaits, .. }) = steps.get(next) {
            let lock = &self.locks[*awaits];
            if lock.holders.contains_key(requester) {
                return Some(path(requester, &steps, next));
            }
            if visited.insert(*awaits) {
                self.add_waiting_holders(&mut steps, Some(next), lock, requester);
            }
            next += 1;
        }
        None
    }

    fn add_waiting_holders<'a>(
        &'a self,
        steps: &mut Vec<Step<'a>>,
        before: Option<usize>,
        lock: &'a Lock,
        requester: &Owner,
    ) {
        for owner in lock.holders.keys().filter(|holder| *holder != requester) {
            let state = self.owner(owner).expect("whoever holds is an owner of a living session");
            if let Some((awaits, _)) = &state.wait {
                steps.push(Step { owner, awaits, before });
            }
        }
    }
}

/// The sessions from the requester to the step at `last`.
fn path(requester: &Owner, steps: &[Step<'_>], last: usize) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    let mut step = Some(last);
    while let Some(place) = step {
        sessions.push(steps[place].owner.session.clone());
        step = steps[place].before;
    }
    sessions.push(requester.session.clone());
    sessions.reverse();
    sessions
}
