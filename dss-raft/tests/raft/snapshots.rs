//! Snapshots and compaction (section 7).

use bytes::Bytes;
use dss_raft::{
    Config, Entry, LogIndex, MessageBody, Output, Payload, Raft, Restored, Round, Snapshot,
    StartError, Term, Timestamp,
};

use crate::cluster::{
    Cluster, TIMEOUT, config, empty, id, index, lone, message, node, outputs, restored, voters,
};

fn compacting(count: u64) -> Cluster {
    Cluster::configured(empty(count), |number| config(number).compaction(10, 1 << 20))
}

fn snapshot(term: u64, position: u64) -> Snapshot {
    Snapshot {
        last: id(term, position),
        configuration: voters(3),
        data: Bytes::from_static(b"state"),
    }
}

fn install(term: u64, snapshot: Snapshot) -> dss_raft::Message {
    message(term, MessageBody::InstallSnapshot { snapshot: snapshot.into(), round: Round::new(1) })
}

#[test]
fn the_log_is_cut_behind_a_snapshot_and_a_little_of_it_kept() {
    let mut cluster = compacting(3);
    cluster.elect(1);
    for _ in 0..100 {
        cluster.propose(1, "x");
    }
    cluster.advance(TIMEOUT / 2);
    for host in cluster.hosts.values() {
        let snapshot = host.disk.snapshot.as_ref().unwrap();
        assert!(snapshot.last.index >= index(90));
        let text = format!("state after {}", snapshot.last.index);
        assert_eq!(snapshot.data, Bytes::from(text));
        assert!((1..=25).contains(&host.disk.entries.len()), "{}", host.disk.entries.len());
        let first = host.disk.entries[0].id.index;
        assert!(first <= snapshot.last.index.next());
        assert!(first < snapshot.last.index, "some entries stay for those a little behind");
    }
}

#[test]
fn weight_alone_calls_for_a_snapshot() {
    let mut cluster = Cluster::configured([Restored::default()], |number| {
        config(number).compaction(1_000_000, 1000)
    });
    cluster.elect(1);
    for _ in 0..50 {
        cluster.propose(1, "a command of some weight, forty-odd bytes");
    }
    let host = cluster.host_of(1);
    assert!(host.disk.snapshot.is_some());
    assert!(host.disk.entries.len() < 30);
}

#[test]
fn a_follower_behind_the_log_is_sent_the_snapshot_and_then_the_rest() {
    let mut cluster = compacting(3);
    cluster.elect(1);
    cluster.isolate(3);
    for _ in 0..100 {
        cluster.propose(1, "x");
    }
    cluster.advance(TIMEOUT / 2);
    cluster.heal();
    cluster.advance(TIMEOUT * 2);
    let last = cluster.raft(1).status().last_index;
    let host = cluster.host_of(3);
    assert_eq!(host.restored.len(), 1);
    assert_eq!(host.raft.status().commit_index, last);
    assert_eq!(host.raft.status().applied_index, last);
    // What came after it was applied from the log, in order, without a gap.
    let first = host.applied.iter().find(|e| e.id.index > host.restored[0].last.index).unwrap();
    assert_eq!(first.id.index, host.restored[0].last.index.next());
    cluster.elect(3);
}

#[test]
fn a_lost_snapshot_is_sent_again() {
    let mut cluster = compacting(3);
    cluster.elect(1);
    cluster.isolate(3);
    for _ in 0..100 {
        cluster.propose(1, "x");
    }
    cluster.heal();
    // Node 3 asks, and what it is sent is lost for a while.
    cluster.cut(1, 3);
    cluster.advance(TIMEOUT / 2);
    cluster.heal();
    cluster.advance(TIMEOUT * 3);
    let last = cluster.raft(1).status().last_index;
    assert_eq!(cluster.raft(3).status().commit_index, last);
}

#[test]
fn a_snapshot_replaces_a_log_that_contradicts_it() {
    let mut raft = lone(3, restored(3, &[1, 1, 2, 2, 2]));
    raft.handle_message(Timestamp::ZERO, node(2), install(3, snapshot(3, 4)));
    let outputs = outputs(&mut raft);
    let [
        Output::Persist(persist),
        Output::Restore { snapshot: restored, after },
        Output::Send { message, after: promised, .. },
        ..,
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    // Figure 13, step 7: the whole log goes.
    assert_eq!(persist.truncate_from, Some(index(1)));
    assert_eq!(persist.snapshot, Some(snapshot(3, 4).into()));
    assert_eq!(**restored, snapshot(3, 4));
    assert_eq!(*after, persist.seq);
    assert_eq!(*promised, Some(persist.seq));
    let accepted = MessageBody::AppendAccepted { matched: index(4), round: Round::new(1) };
    assert_eq!(message.body, accepted);
    assert_eq!(raft.status().last_index, index(4));
    assert_eq!(raft.status().commit_index, index(4));
}

#[test]
fn a_snapshot_that_the_log_contains_keeps_what_follows_it() {
    // Figure 13, step 6: retain the entries that follow.
    let mut raft = lone(3, restored(3, &[1, 1, 2, 2, 2]));
    raft.handle_message(Timestamp::ZERO, node(2), install(3, snapshot(2, 4)));
    let outputs = outputs(&mut raft);
    assert_eq!(raft.status().last_index, index(5));
    assert_eq!(raft.status().commit_index, index(4));
    assert!(!outputs.iter().any(|output| matches!(output, Output::Restore { .. })));
}

#[test]
fn a_snapshot_of_the_past_changes_nothing_and_is_accepted() {
    let mut raft = lone(3, Restored { snapshot: Some(snapshot(2, 8)), ..restored(3, &[]) });
    raft.handle_message(Timestamp::ZERO, node(2), install(3, snapshot(1, 4)));
    let outputs = outputs(&mut raft);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Restore { .. })));
    assert_eq!(raft.status().commit_index, index(8));
    assert!(outputs.iter().any(|output| matches!(output, Output::Send { message, .. }
        if matches!(message.body, MessageBody::AppendAccepted { .. }))));
}

#[test]
fn a_restart_continues_behind_the_snapshot() {
    let mut cluster = compacting(3);
    cluster.elect(1);
    for _ in 0..40 {
        cluster.propose(1, "x");
    }
    cluster.advance(TIMEOUT / 2);
    for number in 1..=3 {
        let covered = cluster.host_of(number).disk.snapshot.as_ref().unwrap().last.index;
        let last = cluster.raft(number).status().last_index;
        cluster.restart(number);
        let status = cluster.raft(number).status();
        assert_eq!((status.commit_index, status.last_index), (covered, last));
    }
    cluster.elect(2);
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.raft(3).status().commit_index, index(42));
}

#[test]
fn snapshots_that_nobody_asked_for_are_ignored() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.propose(1, "x");
    let now = cluster.now;
    for at in [0, 1, 2, 3, 99] {
        cluster.raft(1).handle_snapshot_taken(now, index(at), Bytes::new());
    }
    assert_eq!(outputs(cluster.raft(1)), []);
}

#[test]
fn state_that_contradicts_itself_is_refused() {
    let start = |state: Restored| Raft::new(config(1), voters(3), state, Timestamp::ZERO);
    let entry = |term, position| Entry { id: id(term, position), payload: Payload::Blank };
    let with = |snapshot: Option<Snapshot>, entries: Vec<Entry>| Restored {
        snapshot,
        entries,
        ..restored(5, &[])
    };
    let gap = start(with(None, vec![entry(1, 2)]));
    assert_eq!(gap.unwrap_err(), StartError::Gap { first: index(2), snapshot: LogIndex::ZERO });
    let gap = start(with(Some(snapshot(1, 4)), vec![entry(1, 6)]));
    assert_eq!(gap.unwrap_err(), StartError::Gap { first: index(6), snapshot: index(4) });
    let jump = start(with(None, vec![entry(1, 1), entry(1, 3)]));
    assert_eq!(jump.unwrap_err(), StartError::NotConsecutive);
    let future = start(with(None, vec![entry(6, 1)]));
    let error = StartError::FutureTerm { last: id(6, 1), seen: Term::new(5) };
    assert_eq!(future.unwrap_err(), error);
    let conflict = start(with(Some(snapshot(2, 2)), vec![entry(1, 1), entry(1, 2), entry(2, 3)]));
    assert_eq!(conflict.unwrap_err(), StartError::SnapshotConflict { snapshot: id(2, 2) });
    let around = start(with(Some(snapshot(1, 2)), vec![entry(1, 1), entry(1, 2), entry(2, 3)]));
    assert_eq!(around.unwrap().status().last_index, index(3));
}

#[test]
fn a_config_takes_no_zero() {
    let config = Config::new(node(1), 1).compaction(0, 0);
    let mut raft = Raft::new(config, voters(1), Restored::default(), Timestamp::ZERO).unwrap();
    assert_eq!(outputs(&mut raft), []);
}
