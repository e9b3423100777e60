//! A plain search of the wait-for graph, to compare with.

use std::collections::BTreeMap;

use dss_lock::{LockTable, Owner, SessionId};

/// The wait-for graph of a table, with numbers for names.
pub(crate) struct Naive {
    /// Of each lock, who holds it and who waits for it, the next one first.
    locks: Vec<(Vec<usize>, Vec<usize>)>,
    /// Of each owner, the lock that it waits for.
    pub(crate) awaits: Vec<Option<usize>>,
}

impl Naive {
    pub(crate) fn of(table: &LockTable, owners: &[Owner]) -> Self {
        let numbers: BTreeMap<_, _> = owners.iter().zip(0..).collect();
        let mut naive = Self { locks: Vec::new(), awaits: vec![None; owners.len()] };
        let mut after = None;
        loop {
            let page = table.locks("", after.as_deref(), usize::MAX);
            for info in page.locks {
                let number = |session: SessionId, owner| numbers[&Owner { session, owner }];
                let holders = info.holders.into_iter();
                let holders = holders.map(|holder| number(holder.session, holder.owner));
                let queue = info.queue.into_iter();
                let queue: Vec<_> = queue.map(|w| number(w.session, w.owner)).collect();
                for owner in &queue {
                    naive.awaits[*owner] = Some(naive.locks.len());
                }
                naive.locks.push((holders.collect(), queue));
            }
            after = page.next;
            if after.is_none() {
                return naive;
            }
        }
    }

    /// Whether `requester`, behind everybody in the queue of `lock`, waits for itself. All
    /// requests are exclusive.
    pub(crate) fn closes_cycle(&self, requester: usize, lock: usize) -> bool {
        let mut visited = vec![false; self.awaits.len()];
        let (holders, queue) = &self.locks[lock];
        let mut stack: Vec<usize> = holders.iter().chain(queue).copied().collect();
        while let Some(owner) = stack.pop() {
            if owner == requester {
                return true;
            }
            if !std::mem::replace(&mut visited[owner], true)
                && let Some(lock) = self.awaits[owner]
            {
                let (holders, queue) = &self.locks[lock];
                let ahead = queue.iter().take_while(|other| **other != owner);
                stack.extend(holders.iter().chain(ahead));
            }
        }
        false
    }
}
