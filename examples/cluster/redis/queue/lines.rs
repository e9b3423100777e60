//! Receives that wait, in the order in which they came.
//!
//! Of all that wait in this process for one group of one topic, only the first one looks at Redis:
//! when the bell rings, when something is due, and now and then in case a ring was missed. Who is
//! served leaves the line, and the next one looks. While there is more than the first one takes,
//! several look at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dss_queue::{GroupName, TopicName};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// The line of one group.
#[derive(Debug)]
pub(super) struct Line {
    /// Fair: whoever asked first is first.
    turns: Semaphore,
    /// How many may look beside the first one.
    others: Mutex<usize>,
    bell: Notify,
}

/// How many look at a time at most: as many as keep a connection busy.
const LOOKS_MAX: usize = 16;

impl Default for Line {
    fn default() -> Self {
        Self { turns: Semaphore::new(1), others: Mutex::default(), bell: Notify::new() }
    }
}

impl Line {
    /// The turn to look, first come, first served.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }

    /// There is more than was taken: another one may look at the same time.
    pub(super) fn widen(&self) {
        let mut others = self.others();
        if *others + 1 < LOOKS_MAX {
            *others += 1;
            self.turns.add_permits(1);
        }
    }

    /// There was nothing. Whoever looked beside the first one has to wait for another turn; the
    /// first one keeps it.
    pub(super) fn narrow<'a>(&self, turn: SemaphorePermit<'a>) -> Option<SemaphorePermit<'a>> {
        let mut others = self.others();
        if *others == 0 {
            return Some(turn);
        }
        *others -= 1;
        turn.forget();
        None
    }

    fn others(&self) -> MutexGuard<'_, usize> {
        // Nothing that is done under this lock can be left half done.
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when the bell has rung, now or since it was last waited for.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// The lines in which somebody stands.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Mutex<BTreeMap<TopicName, BTreeMap<GroupName, Weak<Line>>>>,
}

impl Lines {
    /// The line of a group; it is there for as long as somebody holds it.
    pub(super) fn of(&self, topic: &TopicName, group: &GroupName) -> Arc<Line> {
        let mut lines = self.lines();
        let groups = lines.entry(topic.clone()).or_default();
        if let Some(line) = groups.get(group).and_then(Weak::upgrade) {
            return line;
        }
        let line = Arc::new(Line::default());
        groups.insert(group.clone(), Arc::downgrade(&line));
        line
    }

    /// Something happened to a topic.
    pub(super) fn ring(&self, topic: &str) {
        let Ok(topic) = TopicName::new(topic) else { return };
        let mut lines = self.lines();
        let Some(groups) = lines.get_mut(&topic) else { return };
        ring(groups);
        if groups.is_empty() {
            lines.remove(&topic);
        }
    }

    /// Something may have happened to any topic.
    pub(super) fn ring_all(&self) {
        self.lines().retain(|_, groups| {
            ring(groups);
            !groups.is_empty()
        });
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<TopicName, BTreeMap<GroupName, Weak<Line>>>> {
        // Nothing that is done under this lock can be left half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings for every line, and forgets those in which nobody stands.
fn ring(groups: &mut BTreeMap<GroupName, Weak<Line>>) {
    groups.retain(|_, line| {
        let line = line.upgrade();
        if let Some(line) = &line {
            line.bell.notify_one();
        }
        line.is_some()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_looks_at_nothing_and_several_at_more() {
        let line = Line::default();
        let is_free = |line: &Line| line.turns.available_permits();
        let first = line.turn().await;
        assert_eq!(is_free(&line), 0);
        line.widen();
        let second = line.turn().await;
        assert!(line.narrow(second).is_none(), "the first one goes on");
        let first = line.narrow(first).expect("somebody has to look");
        assert_eq!(is_free(&line), 0);
        for _ in 0..2 * LOOKS_MAX {
            line.widen();
        }
        drop(first);
        assert_eq!(is_free(&line), LOOKS_MAX);
    }

    #[tokio::test]
    async fn a_ring_is_kept_for_who_is_about_to_wait_and_empty_lines_are_forgotten() {
        let lines = Lines::default();
        let (topic, group) = (TopicName::new("t").unwrap(), GroupName::new("g").unwrap());
        let line = lines.of(&topic, &group);
        assert!(Arc::ptr_eq(&line, &lines.of(&topic, &group)));
        lines.ring("t");
        line.rung().await;
        lines.ring_all();
        line.rung().await;
        drop(line);
        lines.ring("t");
        assert!(lines.lines().is_empty());
    }
}
