//! What clients saw, and whether one order explains it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cache::{Answer, Condition};
use crate::error::CacheError;
use crate::version::Version;
use crate::view::Member;

/// How many states the search looks at before it takes a history for one without an order.
const TRIES_MAX: usize = 100_000;

/// How many operations of which nothing is known may have happened unseen, and yet have mattered:
/// a removal, or a write that was removed.
const GUESSES_MAX: u32 = 3;

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
    /// Of a change, the version that it wrote, where that is known.
    version: Option<Version>,
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

    fn version_of(&self, key: usize, value: Value) -> Option<Version> {
        let of_key = self.versions.iter().filter(|((other, _), _)| *other == key);
        of_key.filter(|(_, other)| **other == value).map(|((_, version), _)| *version).next()
    }

    /// Whether the operations on each key can be put into one order that respects time, in which
    /// each saw what it answered, and writes stand in the order of their versions. `lossy`: what a lost life had not stored may be lost.
    pub(super) fn check(&self, keys: usize, lossy: bool) -> Result<(), String> {
        let mut by_key = vec![Vec::new(); keys];
        for entry in &self.entries {
            by_key[entry.key].extend(self.interval(entry));
        }
        for (key, mut intervals) in by_key.into_iter().enumerate() {
            if lossy {
                intervals.extend(self.losses.iter().map(|(at, member)| Interval {
                    begun: *at,
                    ended: Some(*at),
                    step: Step::Lose { member: *member },
                    version: None,
                }));
            }
            intervals.sort_by_key(|interval| interval.ended.unwrap_or(u64::MAX));
            let intervals = without_unseen(intervals);
            linearize(&intervals).map_err(|stuck| format!("key {key}: {stuck}"))?;
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
        let version = match (&step, &entry.ended.as_ref()?.1) {
            (Step::Change { .. }, Answer::Written(version)) => Some(*version),
            (Step::Change { .. }, Answer::Removed(version)) => *version,
            (Step::Change { to: Some(value), .. }, _) => self.version_of(key, *value),
            _ => None,
        };
        Some(Interval { begun, ended, step, version })
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
                let values = [self.value].into_iter().chain(self.fallbacks.iter().copied());
                values.map(|value| Self { value, ..Self::default() }).collect()
            }
            Step::Lose { .. } => vec![self.clone()],
        }
    }
}

/// Without writes of which nobody knows whether they happened, and that nothing depends on: they
/// are free to never have happened.
fn without_unseen(mut intervals: Vec<Interval>) -> Vec<Interval> {
    loop {
        let mut seen = BTreeSet::new();
        let mut anything = false;
        for interval in &intervals {
            match interval.step {
                Step::Observe { value, .. } | Step::Change { from: Guard::Exactly(value), .. } => {
                    seen.insert(value);
                }
                Step::ObserveOther { .. } | Step::Change { from: Guard::Something, .. } => {
                    anything |= interval.ended.is_some();
                }
                Step::Change { .. } | Step::Lose { .. } => {}
            }
        }
        let before = intervals.len();
        intervals.retain(|interval| match interval.step {
            Step::Change { from: Guard::Never, .. } => interval.ended.is_some(),
            Step::Change { to, .. } => {
                interval.ended.is_some() || seen.contains(&to) || (anything && to.is_some())
            }
            _ => true,
        });
        if intervals.len() == before {
            return intervals;
        }
    }
}

/// Looks for an order with as few as possible of the operations of which nobody knows whether they
/// happened: most did not matter, and every one that may come at any time doubles the search.
/// Fails with where it got stuck: the most that can be explained, and the rest.
fn linearize(intervals: &[Interval]) -> Result<(), String> {
    assert!(intervals.len() <= 128, "{} operations on one key", intervals.len());
    let mut result = Err(String::new());
    for guesses in 0..=GUESSES_MAX {
        result = linearize_with(intervals, guesses);
        if result.is_ok() {
            break;
        }
    }
    result
}

/// The search of Wing and Gong with Lowe's memory of what was tried.
fn linearize_with(intervals: &[Interval], guesses: u32) -> Result<(), String> {
    let mask = |picked: fn(&Interval) -> bool| {
        let places = intervals.iter().enumerate().filter(|(_, interval)| picked(interval));
        places.fold(0_u128, |mask, (place, _)| mask | 1 << place)
    };
    let required = mask(|interval| interval.ended.is_some());
    let guessed = mask(|interval| interval.ended.is_none() && interval.version.is_none());
    let mut tried = BTreeSet::new();
    let mut open = vec![(0_u128, Model::default())];
    let mut furthest = (0, 0, Model::default());
    while let Some((done, model)) = open.pop() {
        if done & required == required {
            return Ok(());
        }
        if tried.len() > TRIES_MAX {
            break;
        }
        if (done & guessed).count_ones() > guesses || !tried.insert((done, model.clone())) {
            continue;
        }
        let explained = (done & required).count_ones();
        if explained > furthest.0 {
            furthest = (explained, done, model.clone());
        }
        open.extend(successors(intervals, done, &model).into_iter().rev());
    }
    let (_, done, model) = furthest;
    let rest: Vec<_> = intervals
        .iter()
        .enumerate()
        .filter(|(place, _)| done & (1 << place) == 0)
        .map(|(_, interval)| format!("  {interval:?}"))
        .collect();
    let verdict = if tried.len() > TRIES_MAX { "probably no order" } else { "no order" };
    Err(format!("{verdict}; stuck at {model:?} before\n{}", rest.join("\n")))
}

/// What may come next, writes only in the order of their versions; what is tried first in front.
fn successors(intervals: &[Interval], done: u128, model: &Model) -> Vec<(u128, Model)> {
    let left = |place: usize| done & (1 << place) == 0;
    // Whatever begins after something required has ended must come after it.
    let horizon = intervals
        .iter()
        .enumerate()
        .filter(|(place, _)| left(*place))
        .filter_map(|(_, interval)| interval.ended)
        .min()
        .unwrap_or(u64::MAX);
    let oldest = intervals
        .iter()
        .enumerate()
        .filter(|(place, _)| left(*place))
        .filter_map(|(_, interval)| interval.version)
        .min();
    // What a line falls back to matters only while its writer may yet be lost.
    let lost_later = |writer: Member| {
        intervals.iter().enumerate().any(|(place, interval)| {
            left(place) && matches!(interval.step, Step::Lose { member } if member == writer)
        })
    };
    let settle = |model: Model| match model.writer {
        Some(writer) if !lost_later(writer) => Model { value: model.value, ..Model::default() },
        _ => model,
    };
    let model = &settle(model.clone());
    let mut next = Vec::new();
    for (place, interval) in intervals.iter().enumerate() {
        let in_turn = interval.version.is_none() || interval.version == oldest;
        if !left(place) || interval.begun > horizon || !in_turn {
            continue;
        }
        let after = model.after(&interval.step);
        if after.len() == 1 && after[0] == *model {
            // It may come next and changes nothing: wherever else it fits, it fits here.
            return vec![(done | 1 << place, model.clone())];
        }
        next.extend(after.into_iter().map(|model| (done | 1 << place, model)));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Incarnation, NodeId};

    fn fits(intervals: &[Interval]) -> bool {
        linearize(intervals).is_ok()
    }

    fn member(node: u64) -> Member {
        Member { node: NodeId::new(node), incarnation: Incarnation::new(1) }
    }

    fn write(begun: u64, ended: impl Into<Option<u64>>, node: u64, to: Value) -> Interval {
        let step = Step::Change { member: member(node), from: Guard::Any, to: Some(to) };
        Interval { begun, ended: ended.into(), step, version: None }
    }

    fn read(begun: u64, ended: u64, node: u64, value: Value) -> Interval {
        let step = Step::Observe { member: member(node), value: Some(value) };
        Interval { begun, ended: Some(ended), step, version: None }
    }

    #[test]
    fn a_stale_read_has_no_order() {
        assert!(fits(&[write(0, 1, 1, 7), write(2, 5, 1, 8), read(3, 4, 2, 7)]));
        assert!(fits(&[write(0, 1, 1, 7), write(2, 5, 1, 8), read(3, 4, 2, 8)]));
        assert!(!fits(&[write(0, 1, 1, 7), write(2, 3, 1, 8), read(4, 5, 2, 7)]));
        let back = [write(0, 1, 1, 7), write(2, 9, 1, 8), read(3, 4, 2, 8), read(5, 6, 3, 7)];
        assert!(!fits(&back));
    }

    #[test]
    fn an_unanswered_write_may_come_late_or_never_but_not_twice() {
        assert!(fits(&[write(0, 1, 1, 7), write(2, None, 1, 8), read(5, 6, 2, 7)]));
        let late = [write(0, 1, 1, 7), write(2, None, 1, 8), read(5, 6, 2, 7), read(7, 8, 2, 8)];
        assert!(fits(&late));
        let twice = [&late[..], &[read(9, 10, 2, 7)]].concat();
        assert!(!fits(&twice));
    }

    #[test]
    fn only_what_nobody_else_saw_is_lost_and_it_stays_lost() {
        let lose = |at| Interval {
            begun: at,
            ended: Some(at),
            step: Step::Lose { member: member(1) },
            version: None,
        };
        let written = [write(0, 1, 2, 7), write(2, 3, 1, 8), write(4, 5, 1, 9), lose(10)];
        let then = |more: &[Interval]| fits(&[&written[..], more].concat());
        for survivor in [7, 8, 9] {
            assert!(then(&[read(11, 12, 2, survivor)]));
        }
        assert!(!then(&[read(11, 12, 2, 7), read(13, 14, 2, 8)]), "it came back");
        assert!(!then(&[read(6, 7, 2, 9), read(11, 12, 2, 8)]), "it was seen");
        assert!(!then(&[read(6, 7, 2, 7)]), "it is not lost yet");
    }
}
