//! Receives that wait, in the order in which they came.
//!
//! Of all that wait in this process for one group of one topic, only the first one looks at Redis:
//! when the bell rings, when something is due, and now and then in case a ring was missed. Who is
//! served leaves the line, and the next one looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dss_queue::{GroupName, TopicName};
use tokio::sync::Notify;

/// The line of one group.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Fair: whoever asked first is first.
    pub(super) turn: tokio::sync::Mutex<()>,
    bell: Notify,
}

impl Line {
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
