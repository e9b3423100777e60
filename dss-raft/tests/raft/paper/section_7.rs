//! Section 7, log compaction, and figure 13, InstallSnapshot.

use bytes::Bytes;
use dss_raft::{LogId, Message, MessageBody, Output, Raft, Restored, Round, Snapshot, Term};

use super::{commit_index, later, said};
use crate::cluster::{
    Cluster, TIMEOUT, config, empty, id, index, message, node, outputs, restored, voters,
};

fn snapshot(last: LogId) -> Snapshot {
    Snapshot { last, configuration: voters(3), data: Bytes::from_static(b"state") }
}

fn install(term: u64, last: LogId) -> Message {
    let body =
        MessageBody::InstallSnapshot { snapshot: Box::new(snapshot(last)), round: Round::new(1) };
    message(term, body)
}

fn compacting(count: u64, entries: u64) -> Cluster {
    Cluster::configured(empty(count), |number| config(number).compaction(entries, 1 << 20))
}

/// "Each server takes snapshots independently, covering just the committed entries in its log."
#[test]
fn everybody_takes_snapshots_of_what_is_committed() {
    let mut cluster = compacting(3, 5);
    cluster.elect(1);
    for _ in 0..12 {
        cluster.propose(1, "x");
        for number in 1..=3 {
            let committed = commit_index(cluster.raft(number));
            let host = cluster.host_of(number);
            assert!(host.disk.snapshot.as_ref().is_none_or(|it| it.last.index <= committed));
        }
    }
    cluster.advance(TIMEOUT / 2);
    for number in 1..=3 {
        assert!(cluster.host_of(number).disk.snapshot.is_some(), "node {number}");
    }
}

/// "Raft also includes a small amount of metadata in the snapshot: the last included index ... the
/// last included term ... the latest configuration in the log as of last included index."
#[test]
fn a_snapshot_names_its_last_entry_and_the_configuration_there() {
    let mut cluster = compacting(3, 5);
    cluster.elect(1);
    for _ in 0..12 {
        cluster.propose(1, "x");
    }
    let disk = &cluster.host_of(1).disk;
    let taken = disk.snapshot.as_ref().unwrap();
    assert_eq!(taken.last.term, Term::new(1));
    assert_eq!(taken.configuration.voters, voters(3).voters);
    assert_eq!(taken.data, Bytes::from(format!("state after {}", taken.last.index)));
}

/// "Once a server completes writing a snapshot, it may delete all log entries up through the last
/// included index": all in one write, so that no crash falls in between.
#[test]
fn entries_go_with_the_write_of_the_snapshot_that_covers_them() {
    let mut cluster = compacting(1, 3);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    let mut compactions = 0;
    for _ in 0..20 {
        cluster.propose(1, "x");
        for persist in &cluster.host_of(1).unsynced {
            let Some(to) = persist.compact_to else { continue };
            let covered = persist.snapshot.as_ref().map(|it| it.last.index);
            assert!(covered.is_some_and(|covered| to <= covered), "{persist:?}");
            compactions += 1;
        }
        cluster.sync(1);
    }
    assert!(compactions >= 3, "{compactions} compactions");
    assert!(cluster.host_of(1).disk.entries.len() < 8);
}

/// "The leader must occasionally send snapshots to followers that lag behind. This happens when the
/// leader has already discarded the next log entry that it needs to send."
#[test]
fn a_snapshot_is_sent_to_those_whose_next_entry_is_gone_and_to_nobody_else() {
    for lag in [3, 200] {
        let mut cluster = compacting(3, 20);
        cluster.elect(1);
        cluster.isolate(3);
        cluster.advance(TIMEOUT * 2);
        for _ in 0..lag {
            cluster.propose(1, "x");
        }
        cluster.heal();
        cluster.advance(TIMEOUT * 2);
        assert_eq!(cluster.host_of(3).restored.len(), usize::from(lag == 200), "{lag} behind");
        assert!(cluster.host_of(2).restored.is_empty());
        let last = cluster.raft(1).status().last_index;
        assert_eq!(cluster.raft(3).status().applied_index, last);
    }
}

/// What becomes of a log of terms 1 1 2 2 2, when this is installed: whether the state machine is
/// replaced, the last entry, the commit index.
fn installed(last: LogId) -> (bool, u64, u64) {
    let mut raft = super::follower(3, &[1, 1, 2, 2, 2]);
    raft.handle_message(later(), node(2), install(3, last));
    let replaced = outputs(&mut raft).iter().any(|it| matches!(it, Output::Restore { .. }));
    let status = raft.status();
    (replaced, status.last_index.get(), status.commit_index.get())
}

/// Figure 13: "5. ... discard any existing ... snapshot with a smaller index. 6. If existing log
/// entry has same index and term as snapshot's last included entry, retain log entries following
/// it and reply. 7. Discard the entire log. 8. Reset state machine using snapshot contents."
#[test]
fn figure_13_what_of_the_log_is_kept() {
    let table = [
        (id(2, 4), (false, 5, 4)),
        (id(2, 5), (false, 5, 5)),
        (id(1, 1), (false, 5, 1)),
        (id(3, 5), (true, 5, 5)),
        (id(3, 2), (true, 2, 2)),
        (id(3, 9), (true, 9, 9)),
    ];
    for (last, expected) in table {
        assert_eq!(installed(last), expected, "a snapshot up to {last:?}");
    }
}

/// Figure 13: "1. Reply immediately if term < currentTerm."
#[test]
fn a_snapshot_of_a_deposed_leader_is_refused() {
    let mut raft = super::follower(5, &[1]);
    let before = raft.status();
    raft.handle_message(later(), node(2), install(4, id(4, 9)));
    let answers = said(&mut raft);
    let [(_, answer)] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(answer.term, Term::new(5));
    assert!(matches!(answer.body, MessageBody::AppendRejected { .. }));
    assert_eq!(raft.status(), before);
}

/// "If instead the follower receives a snapshot that describes a prefix of its log (due to
/// retransmission or by mistake) ... entries following the snapshot are still valid."
#[test]
fn a_snapshot_that_comes_again_takes_nothing_back() {
    let mut raft = super::follower(3, &[]);
    raft.handle_message(later(), node(2), install(3, id(3, 5)));
    raft.handle_message(later(), node(2), super::append(3, id(3, 5), &[3, 3], 7));
    outputs(&mut raft);
    let before = raft.status();
    assert_eq!((before.last_index, before.commit_index), (index(7), index(7)));
    raft.handle_message(later(), node(2), install(3, id(3, 5)));
    raft.handle_message(later(), node(2), install(3, id(2, 3)));
    let done = outputs(&mut raft);
    assert!(done.iter().all(|it| matches!(it, Output::Send { .. })), "{done:?}");
    assert_eq!(raft.status(), before);
}

/// A node whose log is nothing but a snapshot votes and is consistent by that snapshot's end.
#[test]
fn a_snapshots_end_stands_for_the_entry_that_was_there() {
    let state = Restored { snapshot: Some(snapshot(id(2, 8))), ..restored(3, &[]) };
    let start = || {
        let mut raft =
            Raft::new(config(1), voters(3), state.clone(), dss_raft::Timestamp::ZERO).unwrap();
        outputs(&mut raft);
        raft
    };
    let mut raft = start();
    for (last, granted) in [(id(2, 7), false), (id(1, 99), false), (id(2, 8), true)] {
        raft.handle_message(later(), node(2), super::vote_request(4, last));
        assert_eq!(said(&mut raft)[0].1.body, MessageBody::VoteResponse { granted });
    }
    let mut raft = start();
    raft.handle_message(later(), node(2), super::append(4, id(2, 8), &[4], 9));
    assert_eq!(raft.status().last_index, index(9));
    assert_eq!(commit_index(&raft), index(9));
}
