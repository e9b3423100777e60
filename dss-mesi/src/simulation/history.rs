//! What clients saw, and whether one order explains it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::{Answer, Condition};
use crate::error::CacheError;
use crate::version::Version;
use crate::view::Member;

/// How many states the search looks at before it takes a history for one without an order.
const TRIES_MAX: usize = 200_000;

/// A written value: every write writes another one.
pub(super) type Value = u32;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Put { value: Value, condition: Condition },
    Remove { condition: Condition },
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) member: Member,
    pub(super) key: usize,
    pub(super) call: Call,
    pub(super) begun: u64,
    pub(super) ended: Option<(u64, Answer)>,
}

/// Everything that was asked, and the lives that were lost with what they had not stored.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) entries: Vec<Entry>,
    pub(super) losses: Vec<(u64, Member)>,
    /// Which value has which version, by key.
    versions: BTreeMap<(usize, Version), Value>,
}

/// What one operation does to a line, as far as its client knows.
#[derive(Debug, Clone)]
enum Step {
    /// Requires this value.
    Observe { member: Member, value: Option<Value> },
    /// Requires that some value other than these is there.
    ObserveOther { not: Option<Value> },
    /// Requires `from`, if it is said, and puts `to` there.
    Change { member: Member, from: Guard, to: Option<Value> },
    /// May take what this life had not stored.
    Lose { member: Member },
}

#[derive(Debug, Clone, Copy)]
enum Guard {
    Any,
    Something,
    Exactly(Option<Value>),
    /// A value whose identity no client ever learnt.
    Never,
}

#[derive(Debug, Clone)]
struct Interval {
    begun: u64,
    /// `None`: it may take effect at any time, or never.
    ended: Option<u64>,
    step: Step,
    /// Where the operation stood by its own account. Only a hint what to try first.
    hint: Option<Version>,
}

/// A line as the specification has it: its value, and what it falls back to if the life that wrote
/// it last is lost before anybody else has seen it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Model {
    value: Option<Value>,
    writer: Option<Member>,
    fallbacks: BTreeSet<Option<Value>>,
}

impl History {
    pub(super) fn saw(&mut self, key: usize, version: Version, value: Value) -> Result<(), String> {
        match self.versions.insert((key, version), value) {
            Some(other) if other != value => {
                Err(format!("version {version} of key {key} is both {other} and {value}"))
            }
            _ => Ok(()),
        }
    }

    fn value_of(&self, key: usize, version: Version) -> Option<Value> {
        self.versions.get(&(key, version)).copied()
    }

    /// Whether the operations on each key can be put into one order that respects time and in
    /// which each saw what it answered. `lossy`: what a lost life had not stored may be lost.
    pub(super) fn check(&self, keys: usize, lossy: bool) -> Result<(), String> {
        for key in 0..keys {
            let mut intervals: Vec<Interval> = self
                .entries
                .iter()
                .filter(|entry| entry.key == key)
                .filter_map(|entry| self.interval(entry))
                .collect();
            if lossy {
                intervals.extend(self.losses.iter().map(|(at, member)| Interval {
                    begun: *at,
                    ended: Some(*at),
                    step: Step::Lose { member: *member },
                    hint: None,
                }));
            }
            let intervals = in_likely_order(intervals);
            if !is_linearizable(&intervals) {
                let lines: Vec<_> = intervals.iter().map(|it| format!("{it:?}")).collect();
                return Err(format!("key {key} is not linearizable:\n{}", lines.join("\n")));
            }
        }
        Ok(())
    }

    fn interval(&self, entry: &Entry) -> Option<Interval> {
        let (member, begun, key) = (entry.member, entry.begun, entry.key);
        let ended = entry.ended.as_ref().map(|(at, _)| *at);
        let guard = |condition| match condition {
            Condition::None => Guard::Any,
            Condition::Absent => Guard::Exactly(None),
            Condition::Matches(version) => match self.value_of(key, version) {
                Some(value) => Guard::Exactly(Some(value)),
                None => Guard::Never,
            },
        };
        let change = match entry.call {
            Call::Read => None,
            Call::Put { value, condition } => {
                Some(Step::Change { member, from: guard(condition), to: Some(value) })
            }
            Call::Remove { condition } => {
                let from = match condition {
                    Condition::None => Guard::Something,
                    _ => guard(condition),
                };
                Some(Step::Change { member, from, to: None })
            }
        };
        let (step, ended) = match &entry.ended.as_ref()?.1 {
            Answer::Read(read) => {
                let value = match read {
                    Some(read) => self.value_of(key, read.version),
                    None => None,
                };
                (Step::Observe { member, value }, ended)
            }
            Answer::Written(_) | Answer::Removed(Some(_)) => (change?, ended),
            Answer::Removed(None) => (Step::Observe { member, value: None }, ended),
            Answer::Failed(CacheError::VersionMismatch { current: None }) => {
                (Step::Observe { member, value: None }, ended)
            }
            Answer::Failed(CacheError::VersionMismatch { current: Some(version) }) => {
                match self.value_of(key, *version) {
                    Some(value) => (Step::Observe { member, value: Some(value) }, ended),
                    None => (Step::ObserveOther { not: None }, ended),
                }
            }
            Answer::Failed(CacheError::Indeterminate) => (change?, None),
            Answer::Failed(_) | Answer::Line(_) => return None,
        };
        let hint = match &entry.ended.as_ref()?.1 {
            Answer::Read(read) => read.as_ref().map(|read| read.version),
            Answer::Written(version) => Some(*version),
            Answer::Removed(version) => *version,
            Answer::Line(_) | Answer::Failed(_) => None,
        };
        Some(Interval { begun, ended, step, hint })
    }
}

impl Model {
    fn after(&self, step: &Step) -> Vec<Self> {
        match step {
            Step::Observe { member, value } => {
                if self.value != *value {
                    return Vec::new();
                }
                let mut model = self.clone();
                if self.writer != Some(*member) {
                    model.writer = None;
                    model.fallbacks.clear();
                }
                vec![model]
            }
            Step::ObserveOther { not } => {
                if self.value == *not {
                    Vec::new()
                } else {
                    vec![self.clone()]
                }
            }
            Step::Change { member, from, to } => {
                let holds = match from {
                    Guard::Any => true,
                    Guard::Something => self.value.is_some(),
                    Guard::Exactly(value) => self.value == *value,
                    Guard::Never => false,
                };
                if !holds {
                    return Vec::new();
                }
                let mut fallbacks = self.fallbacks.clone();
                if self.writer != Some(*member) {
                    fallbacks.clear();
                }
                fallbacks.insert(self.value);
                vec![Self { value: *to, writer: Some(*member), fallbacks }]
            }
            Step::Lose { member } if self.writer == Some(*member) => {
                let values = self.fallbacks.iter().copied().chain([self.value]);
                values.map(|value| Self { value, ..Self::default() }).collect()
            }
            Step::Lose { .. } => vec![self.clone()],
        }
    }
}

/// What ended first probably took effect first; and of those that say which version they wrote or
/// saw, the smaller version first.
fn in_likely_order(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.sort_by_key(|interval| interval.ended.unwrap_or(u64::MAX));
    let mut hinted: Vec<Interval> =
        intervals.iter().filter(|interval| interval.hint.is_some()).cloned().collect();
    hinted.sort_by_key(|interval| interval.hint);
    let mut hinted = hinted.into_iter();
    for interval in &mut intervals {
        if interval.hint.is_some() {
            *interval = hinted.next().unwrap();
        }
    }
    intervals
}

/// The search of Wing and Gong with Lowe's memory of what was tried.
fn is_linearizable(intervals: &[Interval]) -> bool {
    assert!(intervals.len() <= 128, "{} operations on one key", intervals.len());
    let required: u128 = intervals
        .iter()
        .enumerate()
        .filter(|(_, interval)| interval.ended.is_some())
        .fold(0, |mask, (place, _)| mask | 1 << place);
    let mut tried = BTreeSet::new();
    let mut open = vec![(0_u128, Model::default())];
    while let Some((done, model)) = open.pop() {
        // With the hints an order is found at once, if there is one.
        if tried.len() > TRIES_MAX {
            return false;
        }
        if done & required == required {
            return true;
        }
        if !tried.insert((done, model.clone())) {
            continue;
        }
        // Whatever begins after something required has ended must come after it.
        let left = |place: usize| done & (1 << place) == 0;
        let horizon = intervals
            .iter()
            .enumerate()
            .filter(|(place, _)| left(*place))
            .filter_map(|(_, interval)| interval.ended)
            .min()
            .unwrap_or(u64::MAX);
        let mut next = Vec::new();
        for (place, interval) in intervals.iter().enumerate() {
            if !left(place) || interval.begun > horizon {
                continue;
            }
            let after = model.after(&interval.step);
            if after.len() == 1 && after[0] == model {
                // It may come next and changes nothing: wherever else it fits, it fits here.
                next = vec![(done | 1 << place, model.clone())];
                break;
            }
            next.extend(after.into_iter().map(|model| (done | 1 << place, model)));
        }
        // What is first in the list is tried first.
        open.extend(next.into_iter().rev());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Incarnation, NodeId};

    fn member(node: u64) -> Member {
        Member { node: NodeId::new(node), incarnation: Incarnation::new(1) }
    }

    fn write(begun: u64, ended: impl Into<Option<u64>>, node: u64, to: Value) -> Interval {
        let step = Step::Change { member: member(node), from: Guard::Any, to: Some(to) };
        Interval { begun, ended: ended.into(), step, hint: None }
    }

    fn read(begun: u64, ended: u64, node: u64, value: Value) -> Interval {
        let step = Step::Observe { member: member(node), value: Some(value) };
        Interval { begun, ended: Some(ended), step, hint: None }
    }

    #[test]
    fn a_stale_read_has_no_order() {
        assert!(is_linearizable(&[write(0, 1, 1, 7), write(2, 5, 1, 8), read(3, 4, 2, 7)]));
        assert!(is_linearizable(&[write(0, 1, 1, 7), write(2, 5, 1, 8), read(3, 4, 2, 8)]));
        assert!(!is_linearizable(&[write(0, 1, 1, 7), write(2, 3, 1, 8), read(4, 5, 2, 7)]));
        let back = [write(0, 1, 1, 7), write(2, 9, 1, 8), read(3, 4, 2, 8), read(5, 6, 3, 7)];
        assert!(!is_linearizable(&back));
    }

    #[test]
    fn an_unanswered_write_may_come_late_or_never_but_not_twice() {
        assert!(is_linearizable(&[write(0, 1, 1, 7), write(2, None, 1, 8), read(5, 6, 2, 7)]));
        let late = [write(0, 1, 1, 7), write(2, None, 1, 8), read(5, 6, 2, 7), read(7, 8, 2, 8)];
        assert!(is_linearizable(&late));
        let twice = [&late[..], &[read(9, 10, 2, 7)]].concat();
        assert!(!is_linearizable(&twice));
    }

    #[test]
    fn only_what_nobody_else_saw_is_lost_and_it_stays_lost() {
        let lose = |at| Interval {
            begun: at,
            ended: Some(at),
            step: Step::Lose { member: member(1) },
            hint: None,
        };
        let written = [write(0, 1, 2, 7), write(2, 3, 1, 8), write(4, 5, 1, 9), lose(10)];
        let then = |more: &[Interval]| is_linearizable(&[&written[..], more].concat());
        for survivor in [7, 8, 9] {
            assert!(then(&[read(11, 12, 2, survivor)]));
        }
        assert!(!then(&[read(11, 12, 2, 7), read(13, 14, 2, 8)]), "it came back");
        assert!(!then(&[read(6, 7, 2, 9), read(11, 12, 2, 8)]), "it was seen");
        assert!(!then(&[read(6, 7, 2, 7)]), "it is not lost yet");
    }
}
