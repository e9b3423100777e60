//! A log is cut by what it weighs and how long it is, and never behind the back of a member that is
//! being sent a snapshot.

use std::time::Duration;

use dss_raft::{LogIndex, MessageBody};

use crate::cluster::{Cluster, TIMEOUT, config, empty, index};

/// In entries: after how many a snapshot is taken.
const LIMIT: u64 = 40;

fn compacting() -> Cluster {
    Cluster::configured(empty(3), |number| config(number).compaction(LIMIT, 1 << 20))
}

fn propose(cluster: &mut Cluster, count: u64) {
    for _ in 0..count {
        cluster.propose(1, "x");
    }
}

/// The first entry that a node still has.
fn first_kept(cluster: &mut Cluster, number: u64) -> LogIndex {
    cluster.host_of(number).disk.entries[0].id.index
}

fn is_snapshot(body: &MessageBody) -> bool {
    matches!(body, MessageBody::InstallSnapshot { .. })
}

/// Node 3 was away, is back, answers, and its snapshot is on its way: at which entry that ends.
fn installing() -> (Cluster, LogIndex) {
    let mut cluster = compacting();
    cluster.elect(1);
    cluster.isolate(3);
    propose(&mut cluster, LIMIT * 3);
    cluster.advance(TIMEOUT * 2);
    cluster.sets_aside = Some(is_snapshot);
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    let offered = cluster.host_of(1).disk.snapshot.as_ref().unwrap().last.index;
    (cluster, offered)
}

#[test]
fn what_follows_a_snapshot_that_is_being_installed_is_kept() {
    let (mut cluster, offered) = installing();
    // The group goes on, and its leader takes another snapshot meanwhile.
    propose(&mut cluster, LIMIT + 5);
    cluster.advance(TIMEOUT / 2);
    let newest = cluster.host_of(1).disk.snapshot.as_ref().unwrap().last.index;
    assert!(newest > offered, "{newest} is the one that was offered");
    assert!(first_kept(&mut cluster, 1) <= offered.next());
    // Others keep no more than usual: nobody fetches anything from them.
    assert!(first_kept(&mut cluster, 2) > offered.next());
    cluster.release();
    cluster.advance(TIMEOUT);
    let last = cluster.raft(1).status().last_index;
    let host = cluster.host_of(3);
    let installed: Vec<_> = host.restored.iter().map(|snapshot| snapshot.last.index).collect();
    assert_eq!(installed, [offered], "one snapshot, and the rest from the log");
    assert_eq!(host.raft.status().applied_index, last);
}

#[test]
fn the_same_snapshot_is_offered_until_it_is_installed() {
    let (mut cluster, offered) = installing();
    for _ in 0..5 {
        propose(&mut cluster, 4);
        cluster.advance(TIMEOUT * 2);
    }
    cluster.release();
    cluster.advance(TIMEOUT);
    let installed: Vec<_> =
        cluster.host_of(3).restored.iter().map(|snapshot| snapshot.last.index).collect();
    assert_eq!(installed, [offered]);
}

#[test]
fn a_member_that_never_finishes_costs_no_more_than_a_whole_log() {
    let (mut cluster, offered) = installing();
    propose(&mut cluster, LIMIT * 10);
    cluster.advance(TIMEOUT);
    assert!(first_kept(&mut cluster, 1) > offered.next());
    assert!(cluster.host_of(1).disk.entries.len() as u64 <= LIMIT * 2);
    // It is not stranded either: the next offer is one that the log follows.
    cluster.release();
    cluster.advance(TIMEOUT * 2);
    let last = cluster.raft(1).status().last_index;
    assert_eq!(cluster.raft(3).status().applied_index, last);
}

#[test]
fn a_member_that_is_down_costs_nothing() {
    let mut cluster = compacting();
    cluster.elect(1);
    cluster.isolate(3);
    cluster.advance(TIMEOUT * 2);
    propose(&mut cluster, LIMIT * 3);
    let kept = cluster.host_of(1).disk.entries.len() as u64;
    assert!(kept <= LIMIT + LIMIT / 4, "{kept} entries are kept");
}

#[test]
fn a_member_that_is_slow_and_answers_is_sent_entries_and_no_snapshot() {
    let mut cluster = compacting();
    cluster.elect(1);
    cluster.advance(TIMEOUT);
    cluster.host_of(3).syncs = false;
    // Its disk is behind by more than what is always kept, and by less than a whole log.
    propose(&mut cluster, LIMIT - 5);
    cluster.advance(Duration::from_millis(200));
    propose(&mut cluster, 10);
    assert!(cluster.host_of(1).disk.snapshot.is_some());
    cluster.sync(3);
    cluster.host_of(3).syncs = true;
    cluster.advance(TIMEOUT);
    assert!(cluster.host_of(3).restored.is_empty());
    let last = cluster.raft(1).status().last_index;
    assert_eq!(cluster.raft(3).status().applied_index, last);
}

#[test]
fn bytes_alone_cut_a_log_and_bound_what_is_kept() {
    const BYTES: usize = 4000;
    let mut cluster =
        Cluster::configured(empty(3), |number| config(number).compaction(1 << 40, BYTES));
    cluster.elect(1);
    for _ in 0..500 {
        cluster.propose(1, "a command of forty bytes and not of fifty");
        let weight: usize =
            cluster.host_of(1).disk.entries.iter().map(dss_raft::Entry::weight).sum();
        assert!(weight <= BYTES + BYTES / 2, "{weight} bytes are kept");
    }
    let covered = cluster.host_of(1).disk.snapshot.as_ref().unwrap().last.index;
    assert!(covered > index(400));
}
