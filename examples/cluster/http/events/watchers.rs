//! Who watches, and what there is to see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::Subject;

/// How many may watch a node at a time: each costs it a connection and a little text, twice a
/// second at most.
const WATCHERS_MAX: usize = 64;

/// The newest state of everything that is told, as JSON.
pub(super) type Newest = Arc<Seen>;

/// What was seen at one time.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// All but the lines.
    pub(super) subjects: BTreeMap<Subject, Bytes>,
    /// The line of each key that somebody watches.
    pub(super) lines: BTreeMap<String, String>,
}

/// The watchers of a node; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    newest: watch::Sender<Newest>,
    watchers: Mutex<Watchers>,
    /// How many there are.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Watchers {
    next: u64,
    /// The keys of each.
    keys: BTreeMap<u64, Vec<String>>,
}

/// One who watches, until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Shared>,
    number: u64,
    keys: Vec<String>,
}

impl Events {
    /// Nobody watches yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            newest: watch::Sender::default(),
            watchers: Mutex::default(),
            count: watch::Sender::default(),
        }))
    }

    /// One more, who wants to know of these keys; nothing where there are as many as may be.
    pub(super) fn watch(&self, keys: Vec<String>) -> Option<Watcher> {
        let mut watchers = self.0.watchers();
        if watchers.keys.len() >= WATCHERS_MAX {
            return None;
        }
        let number = watchers.next;
        watchers.next += 1;
        watchers.keys.insert(number, keys.clone());
        self.0.count.send_replace(watchers.keys.len());
        Some(Watcher { shared: Arc::clone(&self.0), number, keys })
    }

    /// Waits until somebody watches.
    pub(super) async fn watched(&self) {
        let mut count = self.0.count.subscribe();
        count.wait_for(|count| *count > 0).await.expect("its sender is held by this value");
    }

    /// Waits until the watchers are others than at the call.
    pub(super) async fn changed(&self) {
        let mut count = self.0.count.subscribe();
        count.changed().await.expect("its sender is held by this value");
    }

    /// The keys that anybody watches.
    pub(super) fn keys(&self) -> BTreeSet<String> {
        self.0.watchers().keys.values().flatten().cloned().collect()
    }

    /// From here on this is what there is to see.
    pub(super) fn publish(&self, seen: Seen) {
        self.0.newest.send_replace(Arc::new(seen));
    }
}

impl Watcher {
    /// What there is to see, now and from here on.
    pub(super) fn news(&self) -> watch::Receiver<Newest> {
        self.shared.newest.subscribe()
    }

    /// What of `seen` this one is told.
    pub(super) fn concerns(&self, seen: &Seen) -> Vec<(Subject, Bytes)> {
        let mut concerns: Vec<_> =
            seen.subjects.iter().map(|(subject, said)| (*subject, said.clone())).collect();
        let lines: Vec<&str> =
            self.keys.iter().filter_map(|key| seen.lines.get(key)).map(String::as_str).collect();
        // A key that was named just now has not been looked at yet.
        if lines.len() == self.keys.len() && !seen.subjects.is_empty() {
            concerns.push((Subject::Lines, format!("[{}]", lines.join(",")).into()));
        }
        concerns
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watchers = self.shared.watchers();
        watchers.keys.remove(&self.number);
        if watchers.keys.is_empty() {
            // Whoever comes next is told what is, not what was.
            self.shared.newest.send_replace(Newest::default());
        }
        self.shared.count.send_replace(watchers.keys.len());
    }
}

impl Shared {
    fn watchers(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(keys: &[&str]) -> Seen {
        Seen {
            subjects: BTreeMap::from([(Subject::Ring, Bytes::from_static(b"{}"))]),
            lines: keys.iter().map(|key| (key.to_string(), format!("\"{key}\""))).collect(),
        }
    }

    #[test]
    fn only_so_many_may_watch_and_each_who_goes_makes_room() {
        let events = Events::new();
        let mut watchers: Vec<_> =
            (0..WATCHERS_MAX).map(|_| events.watch(Vec::new()).expect("room")).collect();
        assert!(events.watch(Vec::new()).is_none());
        watchers.pop();
        assert!(events.watch(Vec::new()).is_some());
    }

    #[test]
    fn each_is_told_of_its_own_keys_once_they_were_looked_at() {
        let events = Events::new();
        let one = events.watch(vec!["a".to_owned()]).unwrap();
        let other = events.watch(vec!["b".to_owned(), "a".to_owned()]).unwrap();
        assert_eq!(events.keys().into_iter().collect::<Vec<_>>(), ["a", "b"]);

        let before = other.concerns(&seen(&["a"]));
        assert!(before.iter().all(|(subject, _)| *subject != Subject::Lines));
        let told = |watcher: &Watcher| watcher.concerns(&seen(&["a", "b"])).pop().unwrap();
        assert_eq!(told(&one), (Subject::Lines, Bytes::from_static(b"[\"a\"]")));
        assert_eq!(told(&other), (Subject::Lines, Bytes::from_static(b"[\"b\",\"a\"]")));
        drop(other);
        assert_eq!(events.keys().len(), 1);
    }

    #[test]
    fn what_was_seen_is_forgotten_with_the_last_who_watched() {
        let events = Events::new();
        let watcher = events.watch(Vec::new()).unwrap();
        events.publish(seen(&[]));
        drop(watcher);
        let next = events.watch(Vec::new()).unwrap();
        assert!(next.news().borrow().subjects.is_empty());
    }
}
