//! How many connections there are, in all and from each address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Limits;
use crate::http::{Counter, Recorder};
use crate::origin::network;

/// The connections of a node's clients.
#[derive(Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
}

struct Shared {
    counts: Mutex<Counts>,
    all_max: usize,
    each_max: usize,
    recorder: Arc<Recorder>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    /// Without those that have none.
    each: BTreeMap<IpAddr, usize>,
}

/// One connection, counted until it is dropped.
pub(super) struct Counted {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Connections {
    pub(super) fn new(limits: &Limits, recorder: Arc<Recorder>) -> Self {
        let shared = Shared {
            counts: Mutex::default(),
            all_max: limits.connections_max,
            each_max: limits.connections_per_address_max,
            recorder,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Counts a connection from this address, unless there are too many.
    pub(super) fn count(&self, from: IpAddr) -> Option<Counted> {
        let from = network(from);
        let mut counts = self.shared.counts();
        let each = counts.each.get(&from).copied().unwrap_or_default();
        if counts.all >= self.shared.all_max || each >= self.shared.each_max {
            drop(counts);
            self.shared.recorder.count(Counter::ConnectionsRefused, 1);
            return None;
        }
        counts.all += 1;
        counts.each.insert(from, each + 1);
        self.shared.recorder.set_connections(counts.all);
        Some(Counted { shared: Arc::clone(&self.shared), from })
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing that is done under this lock leaves it half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.shared.counts();
        counts.all -= 1;
        let each = counts.each.remove(&self.from).unwrap_or_default();
        if each > 1 {
            counts.each.insert(self.from, each - 1);
        }
        self.shared.recorder.set_connections(counts.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_in_all_and_by_address() {
        let limits =
            Limits { connections_max: 3, connections_per_address_max: 2, ..Limits::default() };
        let connections = Connections::new(&limits, Arc::new(Recorder::new(&[])));
        let count = |address: &str| connections.count(address.parse().unwrap());
        let one = count("10.0.0.1").unwrap();
        // The same host, by the address that it has in a socket for both.
        let _two = count("::ffff:10.0.0.1").unwrap();
        assert!(count("10.0.0.1").is_none(), "two from there");
        let three = count("2001:db8::1").unwrap();
        assert!(count("10.0.0.2").is_none(), "three in all");
        drop(three);
        let _four = count("2001:db8::2").unwrap();
        drop(one);
        let _five = count("10.0.0.1").unwrap();
        assert_eq!(connections.shared.counts().each.len(), 2);
    }
}
