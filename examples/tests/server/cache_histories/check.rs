//! Whether histories of cached values are linearizable.
//!
//! The server tells the version of every value that it hands out or takes, and versions of a key
//! are in order: so the order is given in which everything must have happened, and it remains to
//! see whether it respects time. That is more than linearizability, which asks for any order.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

/// The version of a value: of two of one key, the later write has the larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u64);

/// One request of a client, by the one clock of the test.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) key: usize,
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    pub(super) step: Step,
}

/// What it came to.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Read {
        found: Option<(Version, Bytes)>,
        hit: bool,
    },
    /// Acknowledged; `over` is the version that had to be there.
    Wrote {
        version: Version,
        value: Bytes,
        over: Option<Version>,
    },
    /// The server says that it was surely not done.
    NotWritten {
        value: Bytes,
    },
    /// Nobody knows.
    PerhapsWritten {
        value: Bytes,
    },
}

/// How much there was to check.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) reads: usize,
    pub(super) hits: usize,
    pub(super) writes: usize,
    pub(super) refused: usize,
    pub(super) unknown: usize,
}

pub(super) fn check(events: &[Event]) -> Result<Seen, String> {
    let mut seen = Seen::default();
    let mut by_key: BTreeMap<usize, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_key.entry(event.key).or_default().push(event);
        match &event.step {
            Step::Read { hit, .. } => {
                seen.reads += 1;
                seen.hits += usize::from(*hit);
            }
            Step::Wrote { .. } => seen.writes += 1,
            Step::NotWritten { .. } => seen.refused += 1,
            Step::PerhapsWritten { .. } => seen.unknown += 1,
        }
    }
    for (key, events) in by_key {
        let values = versions_are_unique(&events).and_then(|()| values_were_written(&events));
        let order = values.and_then(|()| versions_follow_time(&events));
        order.and_then(|()| conditions_held(&events)).map_err(|it| format!("key {key}: {it}"))?;
    }
    Ok(seen)
}

/// The version that a request dealt with: `None` within where there was no value yet.
fn version(event: &Event) -> Option<Option<Version>> {
    match &event.step {
        Step::Read { found, .. } => Some(found.as_ref().map(|(version, _)| *version)),
        Step::Wrote { version, .. } => Some(Some(*version)),
        Step::NotWritten { .. } | Step::PerhapsWritten { .. } => None,
    }
}

/// One version is one value, and one write.
fn versions_are_unique(events: &[&Event]) -> Result<(), String> {
    let mut values: BTreeMap<Version, &Bytes> = BTreeMap::new();
    let mut writes: BTreeMap<Version, &Event> = BTreeMap::new();
    for event in events {
        let (version, value) = match &event.step {
            Step::Read { found: Some((version, value)), .. } => (version, value),
            Step::Wrote { version, value, .. } => {
                if let Some(other) = writes.insert(*version, event) {
                    return Err(format!("two writes of one version: {event:?} and {other:?}"));
                }
                (version, value)
            }
            _ => continue,
        };
        if values.insert(*version, value).is_some_and(|other| other != value) {
            return Err(format!("one version is two values: {event:?}"));
        }
    }
    Ok(())
}

/// What is read was written by somebody who may have been done, and not before it began.
fn values_were_written(events: &[&Event]) -> Result<(), String> {
    let mut writers: BTreeMap<&Bytes, &Event> = BTreeMap::new();
    for event in events {
        if let Step::Wrote { value, .. }
        | Step::PerhapsWritten { value }
        | Step::NotWritten { value } = &event.step
        {
            writers.insert(value, event);
        }
    }
    for event in events {
        let Step::Read { found: Some((version, value)), .. } = &event.step else { continue };
        let writer = writers.get(value).ok_or_else(|| format!("nobody wrote {event:?}"))?;
        if matches!(writer.step, Step::NotWritten { .. }) {
            return Err(format!("{event:?} of what was not written: {writer:?}"));
        }
        if writer.begun > event.ended {
            return Err(format!("{event:?} is before its write {writer:?}"));
        }
        if matches!(writer.step, Step::Wrote { version: written, .. } if written != *version) {
            return Err(format!("{event:?} has another version than its write {writer:?}"));
        }
    }
    Ok(())
}

/// Whatever begins after something has ended deals with no older version; a write with a newer.
fn versions_follow_time(events: &[&Event]) -> Result<(), String> {
    let mut begun: Vec<(&Event, Option<Version>)> =
        events.iter().filter_map(|event| Some((*event, version(event)?))).collect();
    let mut ended = begun.clone();
    begun.sort_by_key(|(event, _)| event.begun);
    ended.sort_by_key(|(event, _)| event.ended);
    let mut ended = ended.into_iter().peekable();
    let mut newest: Option<(&Event, Option<Version>)> = None;
    for (event, version) in begun {
        while let Some(past) = ended.next_if(|(past, _)| past.ended < event.begun) {
            if newest.is_none_or(|(_, newest)| newest < past.1) {
                newest = Some(past);
            }
        }
        let Some((before, least)) = newest else { continue };
        let is_new = matches!(event.step, Step::Wrote { .. });
        if version < least || (is_new && version == least) {
            return Err(format!("stale: {event:?}\nafter {before:?}"));
        }
    }
    Ok(())
}

/// Nothing was written between a value and the one that was to replace exactly it.
fn conditions_held(events: &[&Event]) -> Result<(), String> {
    let mut versions: Vec<Version> = events.iter().filter_map(|it| version(it)).flatten().collect();
    versions.sort_unstable();
    for event in events {
        let Step::Wrote { version, over: Some(over), .. } = &event.step else { continue };
        let between = versions.partition_point(|other| other <= over);
        if *over >= *version || versions.get(between) != Some(version) {
            return Err(format!("something was in between: {event:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(write: u64) -> Version {
        Version(write)
    }

    fn value(write: u64) -> Bytes {
        write.to_string().into()
    }

    fn wrote(write: u64) -> Step {
        Step::Wrote { version: at(write), value: value(write), over: None }
    }

    fn over(old: u64, write: u64) -> Step {
        Step::Wrote { version: at(write), value: value(write), over: Some(at(old)) }
    }

    fn read(write: u64) -> Step {
        Step::Read { found: Some((at(write), value(write))), hit: true }
    }

    const NOTHING: Step = Step::Read { found: None, hit: false };

    #[track_caller]
    fn assert_checked(steps: &[(u64, u64, Step)], is_right: bool) {
        let origin = Instant::now();
        let time = |seconds| origin + Duration::from_secs(seconds);
        let event = |(begun, ended, step): &(u64, u64, Step)| Event {
            key: 0,
            begun: time(*begun),
            ended: time(*ended),
            step: step.clone(),
        };
        let events: Vec<Event> = steps.iter().map(event).collect();
        let checked = check(&events);
        assert_eq!(checked.is_ok(), is_right, "{checked:?}");
    }

    #[test]
    fn what_respects_time_is_accepted() {
        assert_checked(&[(0, 1, NOTHING), (2, 5, wrote(1)), (3, 4, NOTHING)], true);
        assert_checked(&[(0, 1, wrote(1)), (2, 5, wrote(2)), (3, 4, read(1))], true);
        assert_checked(&[(0, 1, wrote(1)), (2, 5, over(1, 2)), (3, 4, read(2))], true);
        let unknown = Step::PerhapsWritten { value: value(2) };
        assert_checked(&[(0, 1, wrote(1)), (2, 3, unknown), (8, 9, read(2))], true);
    }

    #[test]
    fn what_does_not_is_found() {
        assert_checked(&[(0, 1, wrote(1)), (2, 3, NOTHING)], false);
        assert_checked(&[(0, 1, wrote(1)), (2, 3, wrote(2)), (4, 5, read(1))], false);
        let back = [(0, 1, wrote(1)), (2, 9, wrote(2)), (3, 4, read(2)), (5, 6, read(1))];
        assert_checked(&back, false);
        assert_checked(&[(0, 1, read(1)), (2, 3, wrote(1))], false);
        assert_checked(&[(0, 1, wrote(2)), (2, 3, wrote(1))], false);
        assert_checked(&[(0, 1, wrote(1)), (0, 3, wrote(2)), (2, 5, over(1, 3))], false);
        assert_checked(&[(0, 1, wrote(1)), (2, 3, read(7))], false);
        let refused = Step::NotWritten { value: value(1) };
        assert_checked(&[(0, 1, refused), (2, 3, read(1))], false);
        let other = Step::Read { found: Some((at(1), value(2))), hit: true };
        assert_checked(&[(0, 1, wrote(1)), (0, 1, wrote(2)), (2, 3, other)], false);
    }
}
