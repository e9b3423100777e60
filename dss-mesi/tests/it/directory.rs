//! What a home knows of a line, whom it asks because of that, and what can be seen of it.

use dss_mesi::{Answer, Body, CacheConfig, LineState, NodeId};

use crate::cluster::view;
use crate::races::tiny;
use crate::rig::{Rig, write_back};

fn is_recall(body: &Body) -> bool {
    matches!(body, Body::Invalidate { .. } | Body::Downgrade { .. })
}

/// Begins nothing new until the home has asked whom it has to ask: to whom that is.
fn recalled(rig: &mut Rig) -> Vec<u64> {
    let get = rig.take_body(|body| matches!(body, Body::Get { .. }));
    rig.deliver(get);
    let recalls = rig.letters.iter().filter(|letter| is_recall(&letter.message.body));
    recalls.map(|letter| letter.to).collect()
}

/// Evicts the line of a node, and lets the home hear of it.
fn evict(rig: &mut Rig, node: u64) {
    rig.evict(node);
    rig.settle();
    rig.wait();
    rig.settle();
    assert_eq!(rig.state(node), 'I');
}

#[test]
fn a_reader_of_a_shared_line_disturbs_nobody() {
    let mut rig = Rig::new(3, &CacheConfig::new());
    rig.put(1, "value");
    rig.settle();
    rig.read(2);
    assert_eq!(recalled(&mut rig), [1], "an owner may have written");
    rig.settle();
    rig.read(3);
    assert_eq!(recalled(&mut rig), Vec::<u64>::new());
}

#[test]
fn whoever_has_dropped_a_line_is_not_asked_for_it() {
    let mut rig = Rig::new(3, &tiny(CacheConfig::new()));
    rig.put(1, "value");
    rig.settle();
    rig.read(2);
    rig.settle();
    assert_eq!(rig.states(), "SSI");
    evict(&mut rig, 1);
    rig.put(3, "newer");
    assert_eq!(recalled(&mut rig), [2], "node 1 had it by a grant, then by a downgrade");
}

#[test]
fn whoever_has_given_a_line_up_in_a_view_change_is_not_asked_for_it() {
    let mut rig = Rig::new(3, &tiny(write_back()));
    rig.put(1, "value");
    rig.settle();
    rig.evict(1);
    rig.settle_but_for(|body| matches!(body, Body::Put { .. }));
    // Node 3 stays the home, and hears of the line before it serves the new view.
    rig.enter(&[1, 3], &view(2, &[1, 3]));
    rig.settle_repeated();
    assert_eq!(rig.stored(), Some("value".into()));
    rig.read(3);
    assert_eq!(recalled(&mut rig), Vec::<u64>::new());
}

#[test]
fn whoever_has_missed_a_view_keeps_no_line() {
    for (epoch, state) in [(2, 'E'), (3, 'I')] {
        let mut rig = Rig::new(3, &CacheConfig::new());
        rig.put(1, "value");
        rig.settle();
        rig.enter(&[1, 3], &view(epoch, &[1, 3]));
        assert_eq!(rig.state(1), state, "its home may have been another in between");
    }
}

#[test]
fn a_line_that_nobody_holds_is_forgotten() {
    let mut rig = Rig::new(2, &tiny(CacheConfig::new()));
    rig.read(1);
    assert!(rig.is_quiet(2));
    let get = rig.take_body(|body| matches!(body, Body::Get { .. }));
    rig.deliver(get);
    assert!(!rig.is_quiet(2), "it waits for main memory");
    rig.settle();
    assert!(rig.is_quiet(2));
    assert_eq!(rig.home_statistics(2).directory, 1);
    evict(&mut rig, 1);
    assert_eq!(rig.home_statistics(2).directory, 1, "of the line that has taken its place");
}

/// What an inspection from node 3 says of nodes 1 and 2 when node 2 answers nothing.
fn seen_past_a_silent_node(exclusive: bool) -> [LineState; 2] {
    let mut rig = Rig::new(3, &write_back());
    rig.put(2, "value");
    rig.settle();
    if !exclusive {
        rig.read(1);
        rig.settle();
    }
    let view = rig.inspect(3);
    while rig.answer(view).is_none() {
        rig.letters.retain(|letter| letter.from != 2 && letter.to != 2);
        if rig.letters.is_empty() && rig.calls.is_empty() {
            rig.wait();
        } else {
            rig.advance();
        }
    }
    let Some(Answer::Line(view)) = rig.answer(view) else { panic!("{:?}", rig.answer(view)) };
    [1, 2].map(|node| view.states[&NodeId::new(node)])
}

#[test]
fn of_a_node_that_does_not_answer_is_told_what_the_home_knows() {
    assert_eq!(seen_past_a_silent_node(true), [LineState::Invalid, LineState::Exclusive]);
    assert_eq!(seen_past_a_silent_node(false), [LineState::Shared, LineState::Shared]);
}

#[test]
fn a_line_is_shown_as_soon_as_all_have_answered() {
    let mut rig = Rig::new(3, &CacheConfig::new());
    let view = rig.inspect(1);
    rig.settle();
    assert!(matches!(rig.answer(view), Some(Answer::Line(_))));
}

#[test]
fn writes_and_repetitions_are_counted() {
    for (config, written) in [(CacheConfig::new(), 2), (tiny(write_back()), 2)] {
        let mut rig = Rig::new(2, &config);
        rig.put(1, "first");
        rig.put(1, "second");
        rig.settle();
        assert_eq!(rig.statistics(1).writes, written);
    }
    let mut rig = Rig::new(2, &tiny(write_back()));
    rig.put(1, "value");
    rig.settle();
    let _evicted = rig.evict(1);
    rig.settle_but_for(|body| matches!(body, Body::Put { .. }));
    let before = rig.statistics(1).repeats;
    rig.wait();
    rig.letters.clear();
    assert_eq!(rig.statistics(1).repeats, before + 1, "the write-back");
}

#[test]
fn written_lines_that_are_lost_are_counted() {
    let mut rig = Rig::new(3, &write_back());
    rig.put(1, "value");
    rig.settle();
    assert_eq!(rig.states(), "MII");
    rig.enter(&[1], &view(2, &[2, 3]));
    assert_eq!((rig.state(1), rig.statistics(1).lost), ('I', 1));
}

#[test]
fn a_cache_is_clean_once_all_is_stored() {
    let mut rig = Rig::new(2, &CacheConfig::new());
    rig.put(1, "value");
    let written = rig.run_to(|body| matches!(body, Body::WriteThrough { .. }));
    assert!(!rig.is_clean(1), "it is on its way");
    rig.deliver(written);
    rig.settle();
    assert!(rig.is_clean(1));

    let mut rig = Rig::new(2, &tiny(write_back()));
    rig.put(1, "value");
    rig.settle();
    assert!(!rig.is_clean(1), "the line is modified");
    rig.evict(1);
    let write_back = rig.run_to(|body| matches!(body, Body::Put { .. }));
    assert!(!rig.is_clean(1), "it is being written back");
    rig.deliver(write_back);
    rig.settle();
    assert!(rig.is_clean(1));
}
