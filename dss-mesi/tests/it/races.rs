//! The races between messages, one scenario each.

use std::num::NonZeroUsize;
use std::time::Duration;

use dss_mesi::{Answer, Body, CacheConfig, CacheError, HomeOutput, StoreOutcome, WritePolicy};

use crate::cluster::{bytes, view};
use crate::rig::{Letter, Rig, write_back};

fn is_grant(body: &Body) -> bool {
    matches!(body, Body::Grant { .. })
}

fn is_recall(body: &Body) -> bool {
    matches!(body, Body::Invalidate { .. } | Body::Downgrade { .. })
}

fn is_ack(body: &Body) -> bool {
    matches!(body, Body::Ack { .. })
}

fn is_put(body: &Body) -> bool {
    matches!(body, Body::Put { .. })
}

fn is_put_ack(body: &Body) -> bool {
    matches!(body, Body::PutAck { .. })
}

/// A cache of one line.
pub(crate) fn tiny(config: CacheConfig) -> CacheConfig {
    config.capacity(NonZeroUsize::MIN, NonZeroUsize::MAX)
}

/// Node 1 has written `first`, and nothing is under way.
fn written(config: &CacheConfig) -> Rig {
    let mut rig = Rig::new(3, config);
    rig.put(1, "first");
    rig.settle();
    rig
}

#[test]
fn writers_that_race_all_write_one_after_the_other() {
    for config in [CacheConfig::new(), write_back()] {
        let mut rig = Rig::new(3, &config);
        let writes = [rig.put(1, "one"), rig.put(2, "two"), rig.put(3, "three")];
        rig.settle();
        let mut versions = writes.map(|write| match rig.answer(write) {
            Some(Answer::Written(version)) => *version,
            other => panic!("{other:?}"),
        });
        versions.sort();
        assert!(versions[0] < versions[1] && versions[1] < versions[2]);
        assert_eq!(rig.states().matches('I').count(), 2, "one owner: {}", rig.states());
    }
}

#[test]
fn a_recall_that_overtakes_its_grant_is_final() {
    let mut rig = written(&CacheConfig::new());
    let read = rig.read(2);
    let grant = rig.run_to(is_grant);
    // Before the grant arrives, node 1 writes again; node 2 answers that it holds nothing.
    let write = rig.put(1, "second");
    rig.settle();
    assert!(matches!(rig.answer(write), Some(Answer::Written(_))));
    rig.deliver(grant);
    assert_eq!(rig.state(2), 'I', "the grant was revoked before it came");
    // Whoever asked before may take the old value once; whoever asked after must not.
    assert_eq!(rig.value(read), Some(bytes("first")));
    let read = rig.read(2);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("second")));
}

#[test]
fn a_read_that_joins_after_the_recall_does_not_take_the_old_grant() {
    let mut rig = written(&CacheConfig::new());
    let early = rig.read(2);
    let grant = rig.run_to(is_grant);
    rig.put(1, "second");
    rig.settle();
    let late = rig.read(2);
    rig.deliver(grant);
    assert_eq!(rig.value(early), Some(bytes("first")));
    assert_eq!(rig.answer(late), None);
    rig.settle();
    assert_eq!(rig.value(late), Some(bytes("second")));
}

#[test]
fn a_doubled_grant_does_not_bring_an_invalidated_line_back() {
    let mut rig = written(&CacheConfig::new());
    rig.read(2);
    let grant = rig.run_to(is_grant);
    rig.deliver(grant.clone());
    rig.settle();
    assert_eq!(rig.states(), "SSI");
    rig.put(1, "second");
    rig.settle();
    assert_eq!(rig.states(), "EII");
    rig.deliver(grant);
    assert_eq!(rig.states(), "EII");
}

/// Node 2 takes the line over from node 1; returns the recall that node 1 got.
fn taken_over(rig: &mut Rig) -> Letter {
    rig.put(2, "by two");
    let recall = rig.run_to(is_recall);
    rig.deliver(recall.clone());
    rig.settle();
    recall
}

#[test]
fn a_doubled_recall_leaves_a_line_alone_that_was_granted_after_it() {
    let mut rig = written(&write_back());
    let recall = taken_over(&mut rig);
    rig.put(1, "again");
    rig.settle();
    assert_eq!(rig.states(), "MII");
    rig.deliver(recall);
    assert_eq!(rig.states(), "MII");
    assert!(rig.letters.is_empty(), "it is not even answered");
}

#[test]
fn a_doubled_recall_leaves_a_write_back_alone_that_was_granted_after_it() {
    let mut rig = written(&tiny(write_back()));
    let recall = taken_over(&mut rig);
    rig.put(1, "again");
    rig.settle();
    rig.evict(1);
    let grant = rig.run_to(is_grant);
    rig.deliver(grant);
    assert_eq!(rig.states(), "III");
    rig.deliver(recall);
    assert_eq!(rig.letters.iter().filter(|letter| is_ack(&letter.message.body)).count(), 0);
    rig.settle();
    assert_eq!(rig.stored(), Some(bytes("again")));
}

#[test]
fn whatever_message_is_lost_once_all_goes_on() {
    // The n-th message of a dialogue in which nodes 1, 2 and 3 write and read in turn is lost.
    for config in [CacheConfig::new(), write_back(), tiny(CacheConfig::new()), tiny(write_back())] {
        for lost in 0..60 {
            let mut rig = Rig::new(3, &config);
            let mut count = 0;
            let mut step = |rig: &mut Rig| {
                for _ in 0..6 {
                    while !rig.letters.is_empty() || !rig.calls.is_empty() {
                        if rig.letters.is_empty() {
                            rig.serve();
                            continue;
                        }
                        let letter = rig.letters.remove(0);
                        count += 1;
                        if count != lost {
                            rig.deliver(letter);
                        }
                    }
                    rig.wait();
                }
                rig.settle();
            };
            for round in 1..=3 {
                let writer = round % 3 + 1;
                let value = format!("{round}");
                rig.put(writer, &value);
                step(&mut rig);
                if round == 2 {
                    rig.evict(writer);
                    step(&mut rig);
                }
                for reader in 1..=3 {
                    let read = rig.read(reader);
                    step(&mut rig);
                    assert_eq!(rig.value(read), Some(bytes(&value)), "message {lost} lost");
                }
            }
        }
    }
}

#[test]
fn dirty_data_whose_answer_is_lost_is_sent_again_as_that_answer() {
    let mut rig = written(&write_back());
    assert_eq!((rig.states().as_str(), rig.stored()), ("MII", None));
    let read = rig.read(2);
    let recall = rig.run_to(is_recall);
    rig.deliver(recall);
    let _lost = rig.take_body(is_ack);
    assert_eq!(rig.states(), "SII", "it shares, and remembers what it owes");
    rig.wait();
    let again = rig.take(|letter| letter.from == 1 && is_ack(&letter.message.body));
    assert!(matches!(again.message.body, Body::Ack { kept: true, data: Some(_), .. }));
    rig.deliver(again);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("first")));
    assert_eq!((rig.states().as_str(), rig.stored()), ("SSI", Some(bytes("first"))));
}

#[test]
fn a_write_back_that_crosses_the_recall_answers_it() {
    for reads in [true, false] {
        let mut rig = written(&tiny(write_back()));
        rig.evict(1);
        let grant = rig.run_to(is_grant);
        rig.deliver(grant);
        let put = rig.take_body(is_put);
        let operation = if reads { rig.read(2) } else { rig.put(2, "second") };
        let get = rig.take(|letter| letter.from == 2);
        rig.deliver(get);
        let recall = rig.take_body(is_recall);
        rig.deliver(put);
        // While it is stored, the answer to the recall must not be confirmed.
        rig.deliver(recall);
        let ack = rig.take_body(is_ack);
        rig.deliver(ack);
        assert!(!rig.letters.iter().any(|letter| is_put_ack(&letter.message.body)));
        rig.settle_repeated();
        assert!(rig.answer(operation).is_some());
        let read = rig.read(3);
        rig.settle();
        assert_eq!(rig.value(read), Some(bytes(if reads { "first" } else { "second" })));
    }
}

#[test]
fn no_line_is_asked_for_while_its_write_back_is_out() {
    let mut rig = written(&tiny(write_back()));
    rig.evict(1);
    rig.settle_repeated();
    rig.put(1, "second");
    rig.settle();
    rig.evict(1);
    let grant = rig.run_to(is_grant);
    rig.deliver(grant);
    let put = rig.take_body(is_put);
    let read = rig.read(1);
    assert!(rig.letters.is_empty(), "the read waits: {:?}", rig.letters);
    rig.deliver(put);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("second")));
}

#[test]
fn a_doubled_request_does_not_take_the_line_from_its_new_owner() {
    let mut rig = Rig::new(3, &write_back());
    rig.put(1, "first");
    let get = rig.take_body(|body| matches!(body, Body::Get { .. }));
    rig.deliver(get.clone());
    rig.settle();
    assert_eq!(rig.states(), "MII");
    rig.deliver(get.clone());
    rig.settle();
    assert_eq!(rig.states(), "MII");
    rig.put(2, "second");
    rig.settle();
    // The home takes it for a new one, and has node 2 write back: node 1 does not want it.
    rig.deliver(get);
    rig.settle();
    let read = rig.read(3);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("second")));
}

#[test]
fn an_upgrade_that_loses_the_race_brings_the_winner_s_value_back() {
    let mut rig = written(&write_back());
    rig.read(2);
    rig.settle();
    assert_eq!(rig.states(), "SSI");
    let (one, two) = (rig.put(1, "one"), rig.put(2, "two"));
    let first = rig.take(|letter| letter.from == 2);
    rig.deliver(first);
    rig.settle();
    assert!(matches!(rig.answer(one), Some(Answer::Written(_))));
    assert!(matches!(rig.answer(two), Some(Answer::Written(_))));
    assert_eq!(rig.states(), "MII", "node 2 came first, node 1 wrote last");
    let read = rig.read(3);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("one")));
}

#[test]
fn a_silent_write_to_an_exclusive_line_is_seen_by_the_next_reader() {
    let mut rig = Rig::new(3, &write_back());
    rig.read(1);
    rig.settle();
    assert_eq!(rig.states(), "EII");
    rig.put(1, "silent");
    assert!(rig.letters.is_empty());
    assert_eq!(rig.states(), "MII");
    let read = rig.read(2);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("silent")));
}

#[test]
fn a_write_through_that_is_recalled_is_stored_and_acknowledged() {
    let mut rig = written(&CacheConfig::new());
    assert_eq!(rig.states(), "EII");
    let write = rig.put(1, "second");
    let _lost = rig.take_body(|body| matches!(body, Body::WriteThrough { .. }));
    let stale = rig.read(1);
    assert_eq!(rig.value(stale), Some(bytes("first")), "what is not stored is not read");
    let read = rig.read(2);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("second")));
    assert!(matches!(rig.answer(write), Some(Answer::Written(_))));
    assert_eq!(rig.states(), "IEI");
}

#[test]
fn a_store_whose_outcome_is_unknown_is_repeated() {
    let mut rig = Rig::new(3, &CacheConfig::new());
    let write = rig.put(1, "value");
    while !matches!(rig.calls.first(), Some((_, HomeOutput::Store { .. }))) {
        rig.advance();
    }
    rig.serve_unheard();
    assert_eq!(rig.stored(), Some(bytes("value")));
    rig.settle();
    assert_eq!(rig.answer(write), None);
    rig.settle_repeated();
    assert!(matches!(rig.answer(write), Some(Answer::Written(_))));
}

#[test]
fn a_removal_outlives_a_late_write_back() {
    let mut rig = written(&write_back());
    let read = rig.read(1);
    let Some(Answer::Read(Some(read))) = rig.answer(read) else { panic!("it is there") };
    let version = read.version;
    rig.remove(2);
    rig.settle();
    rig.read(3);
    rig.settle();
    let late = rig.memory.store(view(1, &[]).epoch, bytes("k"), version, Some(bytes("first")));
    assert!(matches!(late, StoreOutcome::Stale { .. }));
    let read = rig.read(1);
    rig.settle();
    assert_eq!(rig.value(read), None);
}

#[test]
fn a_new_home_serves_nothing_before_the_old_owner_has_surrendered() {
    // Node 3 is the home; node 4 joins and takes over.
    let mut rig = Rig::new(4, &write_back());
    let (three, four) = (view(2, &[1, 2, 3]), view(3, &[1, 2, 3, 4]));
    rig.enter(&[1, 2, 3, 4], &three);
    rig.settle_repeated();
    rig.put(1, "dirty");
    rig.settle();
    assert_eq!(rig.states(), "MIII");
    rig.enter(&[2, 3, 4], &four);
    let read = rig.read(2);
    rig.settle();
    rig.wait();
    rig.settle();
    assert_eq!(rig.answer(read), None, "node 1 still is in the old view, and may write");
    rig.put(1, "dirtier");
    rig.enter(&[1], &four);
    assert_eq!(rig.states(), "IIII");
    rig.settle_repeated();
    assert_eq!(rig.value(read), Some(bytes("dirtier")));
    assert_eq!(rig.stored(), Some(bytes("dirtier")));
}

#[test]
fn lines_whose_home_stays_outlive_a_view_change() {
    let mut rig = Rig::new(3, &CacheConfig::new());
    rig.put(1, "kept");
    rig.settle();
    // Node 2 is lost; node 3 stays the home.
    rig.enter(&[1, 3], &view(2, &[1, 3]));
    assert_eq!(rig.state(1), 'E');
    let hit = rig.read(1);
    assert_eq!(rig.value(hit), Some(bytes("kept")), "without a message");
    rig.settle_repeated();
    let write = rig.put(3, "new");
    rig.settle();
    assert!(matches!(rig.answer(write), Some(Answer::Written(_))));
    assert_eq!(rig.state(1), 'I', "the home still knew of it");
}

#[test]
fn what_a_lost_owner_had_not_stored_is_lost_and_stays_lost() {
    let mut rig = Rig::new(3, &write_back());
    rig.put(2, "stored");
    rig.settle();
    rig.read(3);
    rig.settle();
    rig.put(2, "unstored");
    rig.settle();
    // Node 2 is lost with a message of its on the way.
    let read = rig.read(1);
    let get = rig.take_body(|body| matches!(body, Body::Get { .. }));
    rig.deliver(get);
    let recall = rig.take(|letter| letter.to == 2 && is_recall(&letter.message.body));
    rig.deliver(recall);
    let late = rig.take(|letter| letter.from == 2 && is_ack(&letter.message.body));
    rig.enter(&[1, 3], &view(2, &[1, 3]));
    rig.settle_repeated();
    assert_eq!(rig.value(read), Some(bytes("stored")));
    rig.deliver(late);
    rig.settle_repeated();
    assert_eq!(rig.stored(), Some(bytes("stored")));
    rig.enter(&[2], &view(2, &[1, 3]));
    assert_eq!((rig.state(2), rig.statistics(2).lost), ('I', 1), "and it is reported");
}

#[test]
fn a_store_of_an_old_home_dies_at_the_fence() {
    let mut rig = written(&CacheConfig::new());
    rig.put(1, "late");
    let write = rig.take_body(|body| matches!(body, Body::WriteThrough { .. }));
    rig.deliver(write);
    let (_, store) = rig.calls.remove(0);
    // Nodes 1 and 3 are lost while the store is on its way.
    rig.enter(&[2], &view(2, &[2]));
    rig.settle_repeated();
    let read = rig.read(2);
    rig.settle();
    assert_eq!(rig.value(read), Some(bytes("first")));
    let HomeOutput::Store { writer, key, version, value, .. } = store else { panic!("{store:?}") };
    let outcome = rig.memory.store(writer, key, version, value);
    assert!(matches!(outcome, StoreOutcome::Fenced { .. }));
}

#[test]
fn past_its_lease_a_node_neither_reads_nor_acknowledges() {
    let mut rig = Rig::new(2, &write_back());
    rig.put(1, "mine");
    rig.settle();
    rig.now = rig.now + Duration::from_secs(3_600);
    rig.lease(2, Duration::from_secs(60));
    let (read, write) = (rig.read(1), rig.put(1, "late"));
    assert_eq!((rig.answer(read), rig.answer(write)), (None, None), "they wait for a lease");
    for _ in 0..10 {
        rig.wait();
    }
    assert_eq!(rig.answer(read), Some(&Answer::Failed(CacheError::LeaseExpired)));
    assert_eq!(rig.answer(write), Some(&Answer::Failed(CacheError::LeaseExpired)));
}

#[test]
fn a_home_past_its_lease_grants_and_stores_nothing() {
    for config in [CacheConfig::new(), write_back()] {
        let mut rig = Rig::new(2, &config);
        rig.now = rig.now + Duration::from_secs(3_600);
        rig.lease(1, Duration::from_secs(60));
        let read = rig.read(1);
        rig.settle();
        rig.wait();
        rig.settle();
        assert_eq!((rig.answer(read), rig.calls.len()), (None, 0));
        rig.lease(2, Duration::from_secs(60));
        rig.settle_repeated();
        assert_eq!(rig.value(read), None);
    }
}

#[test]
fn a_flush_leaves_the_line_and_makes_it_clean() {
    let flush = Duration::from_millis(500);
    let mut rig = Rig::new(3, &CacheConfig::new().policy(WritePolicy::WriteBack { flush }));
    rig.put(1, "value");
    rig.settle();
    assert_eq!((rig.states().as_str(), rig.stored()), ("MII", None));
    rig.wait();
    rig.put(1, "newer");
    rig.settle();
    assert_eq!((rig.states().as_str(), rig.stored()), ("MII", Some(bytes("value"))));
    rig.wait();
    rig.settle();
    assert_eq!(rig.states(), "EII", "what came meanwhile is flushed in its turn");
    assert_eq!(rig.stored(), Some(bytes("newer")));
}
