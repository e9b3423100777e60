//! What comes twice, comes to the wrong node, or is not to go.

use std::num::NonZeroUsize;
use std::time::Duration;

use dss_mesi::{Answer, Body, CacheConfig, Dirty, Epoch, Message, Seq, Version};

use crate::cluster::{bytes, view};
use crate::races::tiny;
use crate::rig::{Letter, Rig, key, write_back};

fn is_get(body: &Body) -> bool {
    matches!(body, Body::Get { .. })
}

fn is_for_a_home(body: &Body) -> bool {
    matches!(
        body,
        Body::Get { .. }
            | Body::Ack { .. }
            | Body::Put { .. }
            | Body::WriteThrough { .. }
            | Body::Inspect { .. }
    )
}

#[test]
fn a_request_that_is_being_served_is_not_served_again() {
    let mut rig = Rig::new(3, &CacheConfig::new());
    rig.read(1);
    let get = rig.take_body(is_get);
    rig.deliver(get.clone());
    rig.deliver(get);
    rig.serve();
    assert_eq!((rig.letters.len(), rig.calls.len()), (1, 0), "one grant, and that is all");
}

/// Delivers everything in order, and whatever is for a home to another node first.
fn settle_with_strays(rig: &mut Rig) -> usize {
    let mut strays = 0;
    while !rig.letters.is_empty() || !rig.calls.is_empty() {
        let first = rig.letters.first().cloned();
        if let Some(letter) = first.filter(|letter| is_for_a_home(&letter.message.body)) {
            let to = if letter.from == 1 { 2 } else { 1 };
            let before = (rig.letters.len(), rig.calls.len());
            rig.deliver(Letter { to, ..letter });
            assert_eq!((rig.letters.len(), rig.calls.len()), before, "node {to} is no home");
            strays += 1;
        }
        rig.advance();
    }
    strays
}

#[test]
fn what_is_meant_for_another_home_is_ignored() {
    for config in [tiny(CacheConfig::new()), tiny(write_back())] {
        let mut rig = Rig::new(3, &config);
        let mut strays = 0;
        for node in [1, 2, 1] {
            rig.put(node, "value");
            strays += settle_with_strays(&mut rig);
        }
        rig.evict(1);
        strays += settle_with_strays(&mut rig);
        let view = rig.inspect(2);
        strays += settle_with_strays(&mut rig);
        assert!(matches!(rig.answer(view), Some(Answer::Line(_))), "{:?}", rig.answer(view));
        assert!(strays > 7, "{strays} are too few");
    }
}

#[test]
fn a_line_that_is_asked_for_or_held_does_not_go_to_make_room() {
    let mut rig = Rig::new(3, &tiny(CacheConfig::new()));
    rig.put(2, "value");
    rig.settle();
    rig.read(1);
    rig.settle();
    rig.put(1, "newer");
    let get = rig.take_body(is_get);
    rig.evict(1);
    rig.settle();
    assert_eq!(rig.states(), "SSI", "node 1 waits for more of it");
    rig.deliver(get);
    rig.settle();
    assert_eq!(rig.stored(), Some(bytes("newer")));

    let mut rig = Rig::new(3, &tiny(CacheConfig::new()));
    rig.hold(1, Duration::from_secs(10));
    rig.settle();
    rig.evict(1);
    rig.settle();
    assert_eq!(rig.state(1), 'E', "whoever holds it is going to write");
}

#[test]
fn nobody_keeps_a_line_that_was_to_be_invalidated() {
    let mut rig = Rig::new(3, &CacheConfig::new());
    rig.put(1, "first");
    rig.settle();
    rig.put(2, "second");
    let mut answer = rig.run_to(|body| matches!(body, Body::Ack { .. }));
    let Body::Ack { kept, .. } = &mut answer.message.body else { panic!("it was looked for") };
    *kept = true;
    rig.deliver(answer);
    rig.settle();
    rig.read(3);
    rig.advance();
    let recalled: Vec<u64> = rig.letters.iter().map(|letter| letter.to).collect();
    assert_eq!(recalled, [2], "of node 1 the home knows nothing more");
}

#[test]
fn a_line_that_is_asked_for_held_or_being_written_does_not_go_for_its_age() {
    let old = |rig: &mut Rig| {
        for _ in 0..10 {
            rig.wait();
        }
    };
    let patient = CacheConfig::new().operation_timeout(Duration::from_secs(60));
    let config = patient.time_to_live(Duration::from_secs(2));
    let shared = || {
        let mut rig = Rig::new(3, &config);
        rig.put(2, "value");
        rig.settle();
        rig.read(1);
        rig.settle();
        rig
    };
    let mut rig = shared();
    old(&mut rig);
    assert_eq!(rig.states(), "III");

    let mut rig = shared();
    rig.put(1, "newer");
    old(&mut rig);
    assert_eq!(rig.states(), "SII", "node 1 waits for more of it");

    let mut rig = Rig::new(3, &config);
    rig.hold(1, Duration::from_secs(60));
    rig.settle();
    old(&mut rig);
    assert_eq!(rig.state(1), 'E', "whoever holds it is going to write");

    let mut rig = Rig::new(3, &config);
    rig.put(1, "value");
    let written = rig.run_to(|body| matches!(body, Body::WriteThrough { .. }));
    old(&mut rig);
    assert_eq!(rig.state(1), 'E', "what is written through is of this line");
    rig.deliver(written);
    rig.settle();
    assert_eq!(rig.stored(), Some(bytes("value")));
}

/// An answer to a recall that nobody waits for, with data of this grant.
fn stray_answer(epoch: u64, grant: Seq) -> Letter {
    let version = Version { epoch: grant.epoch, grant: grant.count, write: 1 };
    let data = Dirty { grant, version, value: Some(bytes("stray")) };
    let body = Body::Ack { key: key(), recall: grant, kept: false, data: Some(data) };
    Letter { from: 1, to: 3, message: Message { epoch: Epoch::new(epoch), body } }
}

#[test]
fn what_is_not_known_to_be_stored_is_not_confirmed() {
    let mut rig = Rig::new(3, &write_back());
    rig.put(1, "value");
    let grant = rig.run_to(|body| matches!(body, Body::Grant { .. }));
    let Body::Grant { seq, .. } = grant.message.body else { panic!("it was looked for") };
    rig.deliver(grant);
    rig.deliver(stray_answer(1, seq));
    assert!(rig.letters.is_empty(), "of the owner the home waits for the newest");
    rig.deliver(stray_answer(1, Seq { count: seq.count - 1, ..seq }));
    assert_eq!(rig.letters.len(), 1, "what is older was stored before the line was granted");

    rig.letters.clear();
    rig.enter(&[3], &view(2, &[1, 2, 3]));
    rig.letters.clear();
    rig.deliver(stray_answer(2, Seq { count: seq.count - 1, ..seq }));
    assert!(rig.letters.is_empty(), "a home that does not serve yet knows of nothing");
}

#[test]
fn what_waits_for_a_write_back_goes_on_with_its_confirmation() {
    let mut rig = Rig::new(3, &tiny(write_back()).write_backs_max(NonZeroUsize::MIN));
    rig.put(1, "value");
    rig.settle();
    rig.evict(1);
    let write_back = rig.run_to(|body| matches!(body, Body::Put { .. }));
    let stalled = rig.read_other(1, "third");
    rig.settle();
    assert_eq!(rig.answer(stalled), None, "there is no room for what might be written");
    rig.deliver(write_back);
    rig.settle();
    assert_eq!(rig.value(stalled), None);
}
