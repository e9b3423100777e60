use bytes::Bytes;
use proptest::prelude::*;

use super::Log;
use crate::entry::{Entry, Payload};
use crate::types::{LogId, LogIndex, Term};

/// A log behind a base at index 10, whose chunks hold entries of these terms and lengths.
fn log(chunks: &[Vec<(u64, usize)>]) -> (Log, Vec<Entry>) {
    let base = LogId::new(Term::new(1), LogIndex::new(10));
    let mut log = Log::new(base);
    let mut all = Vec::new();
    let mut last = base;
    for chunk in chunks {
        let mut entries = Vec::new();
        for (step, length) in chunk {
            let id = LogId::new(Term::new(last.term.get() + step), last.index.next());
            last = id;
            entries.push(Entry { id, payload: Payload::Command(vec![0; *length].into()) });
        }
        all.extend(entries.clone());
        log.append(entries.into());
    }
    (log, all)
}

fn chunks() -> impl Strategy<Value = Vec<Vec<(u64, usize)>>> {
    // Weights and limits are multiples of 8, so that limits are often met exactly.
    let length = prop_oneof![Just(0usize), Just(8), Just(16), Just(40)];
    let entry = (prop_oneof![4 => Just(0u64), 1 => 1u64..3], length);
    prop::collection::vec(prop::collection::vec(entry, 1..5), 0..6)
}

fn weight(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::weight).sum()
}

/// How many of the entries from position `from` on make a run of at most `weight_max`: some of the
/// chunk there, then whole ones, the first counted by all that its chunk weighs.
fn run_length(
    chunks: &[Vec<(u64, usize)>],
    all: &[Entry],
    from: usize,
    weight_max: usize,
) -> usize {
    let mut begins = 0;
    let mut length = 0;
    let mut left = weight_max;
    for chunk in chunks {
        let (start, end) = (begins, begins + chunk.len());
        begins = end;
        if end <= from {
            continue;
        }
        let whole = weight(&all[start..end]);
        if length == 0 {
            if whole <= left {
                (left, length) = (left - whole, end - from);
                continue;
            }
            let mut taken = 0;
            for entry in &all[from..end] {
                if entry.weight() > left && taken > 0 {
                    return taken;
                }
                left = left.saturating_sub(entry.weight());
                taken += 1;
            }
            length = taken;
        } else if whole <= left {
            (left, length) = (left - whole, end - from);
        } else {
            break;
        }
    }
    length
}

proptest! {
    #[test]
    fn a_run_is_as_long_as_its_limit_allows(
        chunks in chunks(), from in 0usize..16, eighths in 1usize..50,
    ) {
        let (log, all) = log(&chunks);
        let weight_max = eighths * 8;
        let index = LogIndex::new(11 + from as u64);
        let (run, reckoned) = log.run(index, weight_max);
        if from >= all.len() {
            prop_assert!(run.is_empty());
            prop_assert_eq!(reckoned, 0);
            return Ok(());
        }
        let length = run_length(&chunks, &all, from, weight_max);
        prop_assert_eq!(&run[..], &all[from..from + length]);
        prop_assert!(reckoned >= weight(&run), "{} for {}", reckoned, weight(&run));
        prop_assert!(reckoned <= weight_max || run.len() == 1);
    }

    #[test]
    fn terms_are_found_where_they_are(chunks in chunks(), index in 0u64..40) {
        let (log, all) = log(&chunks);
        let expected = match index.checked_sub(11) {
            None => (index == 10).then_some(Term::new(1)),
            Some(position) => all.get(usize::try_from(position).unwrap()).map(|e| e.id.term),
        };
        let index = LogIndex::new(index);
        prop_assert_eq!(log.term_at(index), expected);
        if let Some(term) = expected {
            prop_assert!(log.contains(LogId::new(term, index)));
            prop_assert!(!log.contains(LogId::new(term.next(), index)));
            let first = all.iter().find(|entry| entry.id.term == term);
            let first = first.map_or(index, |entry| entry.id.index);
            let found = log.first_of_term(index);
            prop_assert_eq!(found, if index.get() == 10 { index } else { first });
        }
    }

    #[test]
    fn what_is_kept_is_what_lies_between(
        chunks in chunks(), compacted in 10u64..30, truncated in 11u64..40, after in 0u64..40,
    ) {
        let (mut log, all) = log(&chunks);
        let last = 10 + all.len() as u64;
        if truncated <= last {
            log.truncate_from(LogIndex::new(truncated));
        }
        let last = last.min(truncated - 1);
        if compacted <= last {
            log.compact_to(LogIndex::new(compacted));
        }
        let first = if compacted <= last { compacted + 1 } else { 11 };
        let kept = |after: u64| -> Vec<Entry> {
            let range = first.max(after + 1)..=last;
            all.iter().filter(|entry| range.contains(&entry.id.index.get())).cloned().collect()
        };
        let mut shown = Vec::new();
        log.for_each_after(LogIndex::new(after), |entries| shown.extend_from_slice(entries));
        prop_assert_eq!(&shown, &kept(after));
        prop_assert_eq!(log.weight_after(LogIndex::new(after.max(first - 1))), weight(&kept(after)));
        prop_assert_eq!(log.base().index.get(), first - 1);
        prop_assert_eq!(log.last().index.get(), last);
        for index in 0..45 {
            let term = log.term_at(LogIndex::new(index));
            prop_assert_eq!(term.is_some(), (first - 1..=last).contains(&index), "{}", index);
        }
    }

    #[test]
    fn the_tail_that_is_kept_is_within_both_limits(
        chunks in chunks(), to in 0u64..30, entries_max in 0u64..20, eighths in 0usize..40,
    ) {
        let (log, all) = log(&chunks);
        let (to, weight_max) = (to.min(all.len() as u64), eighths * 8);
        let behind = &all[..usize::try_from(to).unwrap()];
        let mut start = behind.len();
        while start > 0
            && (behind.len() - start) < usize::try_from(entries_max).unwrap()
            && weight(&behind[start - 1..]) <= weight_max
        {
            start -= 1;
        }
        let found = log.tail_start(LogIndex::new(10 + to), entries_max, weight_max);
        prop_assert_eq!(found, LogIndex::new(10 + start as u64));
    }

    #[test]
    fn a_hint_leads_to_the_last_entry_that_can_match(
        chunks in chunks(), index in 10u64..40, term in 1u64..8,
    ) {
        let (log, all) = log(&chunks);
        let hint = LogId::new(Term::new(term), LogIndex::new(index));
        let fits = |entry: &&Entry| entry.id.index <= hint.index && entry.id.term <= hint.term;
        let expected = all.iter().rfind(fits).map_or(10, |entry| entry.id.index.get());
        prop_assert_eq!(log.last_possible_match(hint), LogIndex::new(expected));
    }
}

#[test]
fn staged_entries_are_in_the_log_and_become_one_chunk() {
    let (mut log, _) = log(&[vec![(0, 1)]]);
    let entry = |index: u64| Entry {
        id: LogId::new(Term::new(5), LogIndex::new(index)),
        payload: Payload::Command(Bytes::from_static(b"x")),
    };
    assert!(!log.has_staged());
    log.stage(entry(12));
    log.stage(entry(13));
    assert!(log.has_staged());
    assert_eq!(log.last(), entry(13).id);
    assert_eq!(log.term_at(LogIndex::new(12)), Some(Term::new(5)));
    assert_eq!(log.term_at(LogIndex::new(11)), Some(Term::new(1)));
    assert_eq!(log.term_at(LogIndex::new(14)), None);
    assert_eq!(log.weight_after(LogIndex::new(11)), 2 * entry(12).weight());
    assert!(log.shared_run(LogIndex::new(12), LogIndex::new(13)).is_empty());
    let sealed = log.seal();
    assert_eq!(sealed[..], [entry(12), entry(13)]);
    assert!(!log.has_staged());
    assert_eq!(log.shared_run(LogIndex::new(12), LogIndex::new(13)), sealed);
    assert_eq!(log.shared_run(LogIndex::new(12), LogIndex::new(12))[..], [entry(12)]);
    assert_eq!(log.weight_after(LogIndex::new(12)), entry(12).weight());
}
