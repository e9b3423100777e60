//! Receives that wait for a message, in the order in which they came.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::name::{GroupName, TopicName};

/// The waiting lines of a shard, one per group.
///
/// Whatever makes a message ready calls one waiter, the first that is not called yet, and a waiter
/// that leaves while something may be left calls the next. So one message wakes one waiter, and no
/// message lies there while somebody waits for it.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    next_number: u64,
    /// Only lines in which somebody stands.
    topics: BTreeMap<TopicName, BTreeMap<GroupName, Line>>,
}

type Line = BTreeMap<u64, Place>;

#[derive(Debug)]
struct Place {
    called: bool,
    bell: Arc<Notify>,
}

/// A place in a line; dropping it leaves the line.
#[derive(Debug)]
pub(crate) struct Ticket {
    waiters: Arc<Waiters>,
    topic: TopicName,
    group: GroupName,
    number: u64,
    bell: Arc<Notify>,
    /// There may be a message that only this waiter was called for.
    responsible: bool,
}

impl Waiters {
    /// Stands in at the end of the line. Whoever is first in it is called already.
    pub(crate) fn enter(self: &Arc<Self>, topic: &TopicName, group: &GroupName) -> Ticket {
        let mut lines = self.lines();
        let number = lines.next_number;
        lines.next_number += 1;
        let line = lines.topics.entry(topic.clone()).or_default().entry(group.clone()).or_default();
        let bell = Arc::new(Notify::new());
        line.insert(number, Place { called: line.is_empty(), bell: Arc::clone(&bell) });
        let waiters = Arc::clone(self);
        let (topic, group) = (topic.clone(), group.clone());
        Ticket { waiters, topic, group, number, bell, responsible: false }
    }

    /// Calls as many waiters of the group as there are messages.
    pub(crate) fn call(&self, topic: &TopicName, group: &GroupName, count: u64) {
        let mut lines = self.lines();
        if let Some(line) = lines.topics.get_mut(topic).and_then(|groups| groups.get_mut(group)) {
            call(line, count);
        }
    }

    /// Calls as many waiters of every group of the topic.
    pub(crate) fn call_all_groups(&self, topic: &TopicName, count: u64) {
        let mut lines = self.lines();
        for line in lines.topics.get_mut(topic).into_iter().flat_map(BTreeMap::values_mut) {
            call(line, count);
        }
    }

    /// Calls everybody: the state was replaced, and nobody knows by what events.
    pub(crate) fn call_everybody(&self) {
        let mut lines = self.lines();
        for line in lines.topics.values_mut().flat_map(BTreeMap::values_mut) {
            call(line, u64::MAX);
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Nothing that is done under this lock can be left half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn call(line: &mut Line, mut count: u64) {
    for place in line.values_mut().filter(|place| !place.called) {
        if count == 0 {
            return;
        }
        count -= 1;
        place.called = true;
        place.bell.notify_one();
    }
}

impl Ticket {
    /// Waits to be called; from then on this waiter is the one to look.
    pub(crate) async fn called(&mut self) {
        while !self.answer_call() {
            self.bell.notified().await;
        }
        self.responsible = true;
    }

    /// There was nothing for this waiter: the next message calls anew.
    pub(crate) fn found_nothing(&mut self) {
        self.responsible = false;
    }

    fn answer_call(&self) -> bool {
        let mut lines = self.waiters.lines();
        let place = lines
            .topics
            .get_mut(&self.topic)
            .and_then(|groups| groups.get_mut(&self.group))
            .and_then(|line| line.get_mut(&self.number));
        place.is_some_and(|place| std::mem::take(&mut place.called))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut lines = self.waiters.lines();
        let Some(groups) = lines.topics.get_mut(&self.topic) else { return };
        let Some(line) = groups.get_mut(&self.group) else { return };
        let called = line.remove(&self.number).is_some_and(|place| place.called);
        if called || self.responsible {
            call(line, 1);
        }
        if line.is_empty() {
            groups.remove(&self.group);
            if groups.is_empty() {
                lines.topics.remove(&self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn names() -> (TopicName, GroupName) {
        (TopicName::new("t").unwrap(), GroupName::new("g").unwrap())
    }

    fn is_called(ticket: &mut Ticket) -> bool {
        pin!(ticket.called()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn one_message_wakes_one_waiter_first_come_first_served() {
        let waiters = Arc::new(Waiters::default());
        let (topic, group) = names();
        let mut all: Vec<_> = (0..3).map(|_| waiters.enter(&topic, &group)).collect();
        assert!(is_called(&mut all[0]), "the first looks at once");
        all[0].found_nothing();
        assert!(!all.iter_mut().any(is_called));
        waiters.call(&topic, &group, 1);
        assert!(!is_called(&mut all[1]));
        assert!(is_called(&mut all[0]));
        assert!(!is_called(&mut all[0]), "a call is answered once");
        waiters.call_all_groups(&topic, 2);
        assert!(is_called(&mut all[1]));
        assert!(!is_called(&mut all[2]), "the first was called for the other one");
    }

    #[test]
    fn who_leaves_with_a_call_passes_it_on() {
        let waiters = Arc::new(Waiters::default());
        let (topic, group) = names();
        let mut first = waiters.enter(&topic, &group);
        let mut second = waiters.enter(&topic, &group);
        let mut third = waiters.enter(&topic, &group);
        assert!(is_called(&mut first));
        drop(first);
        assert!(is_called(&mut second), "the first had looked, and may have left something");
        second.found_nothing();
        waiters.call(&topic, &group, 1);
        drop(second);
        assert!(is_called(&mut third), "the second was called and never answered");
        third.found_nothing();
        drop(third);
        assert!(waiters.lines().topics.is_empty(), "empty lines cost nothing");
    }
}
