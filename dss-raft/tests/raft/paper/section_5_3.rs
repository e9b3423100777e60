//! Section 5.3, log replication.

use dss_raft::{MessageBody, Output, Payload, ProposalFate, RoleKind};

use super::{append, commit_index, fresh, later, said};
use crate::cluster::{Cluster, TIMEOUT, empty, id, index, node, outputs, restored};

/// "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in
/// parallel to each of the other servers."
#[test]
fn a_command_becomes_an_entry_that_everybody_is_sent() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    let now = cluster.now;
    cluster.raft(1).propose(now, "x".into()).unwrap();
    let sent: Vec<u64> = said(cluster.raft(1))
        .into_iter()
        .filter(|(_, message)| {
            matches!(&message.body, MessageBody::Append { entries, .. }
                if entries.iter().any(|entry| entry.payload == Payload::Command("x".into())))
        })
        .map(|(to, _)| to.get())
        .collect();
    assert_eq!(sent, [2, 3, 4, 5]);
}

/// "A log entry is committed once the leader that created the entry has replicated it on a majority
/// of the servers."
#[test]
fn an_entry_is_committed_with_a_majority_and_not_before() {
    // Cluster size, and how many followers have it when it is committed.
    for (size, needed) in [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)] {
        for holders in 0..size {
            let mut cluster = Cluster::new(size);
            cluster.elect(1);
            for number in holders + 2..=size {
                cluster.isolate(number);
            }
            cluster.propose(1, "x");
            let committed = commit_index(cluster.raft(1)) == index(2);
            assert_eq!(committed, holders >= needed, "{holders} followers of {size} have it");
        }
    }
}

/// "This also commits all preceding entries in the leader's log, including entries created by
/// previous leaders."
#[test]
fn a_commit_is_one_of_everything_before_too() {
    for terms in [&[1][..], &[1, 1], &[1, 2, 2], &[1, 1, 2, 3, 3]] {
        let states = [restored(3, terms), restored(3, &[1]), restored(3, &[1])];
        let mut cluster = Cluster::of(states);
        cluster.elect(1);
        cluster.advance(TIMEOUT / 2);
        for number in 1..=3 {
            assert_eq!(commit_index(cluster.raft(number)), index(terms.len() as u64 + 1));
            assert_eq!(cluster.host_of(number).applied_commands().len(), terms.len());
        }
    }
}

/// "Once a follower learns that a log entry is committed, it applies the entry to its local state
/// machine (in log order)."
#[test]
fn followers_apply_in_log_order_and_no_further_than_the_commit_index() {
    let mut raft = fresh();
    let table = [(0, vec![]), (1, vec![1]), (1, vec![]), (4, vec![2, 3, 4]), (9, vec![5])];
    raft.handle_message(later(), node(2), append(1, id(0, 0), &[1, 1, 1, 1, 1], 0));
    outputs(&mut raft);
    for (commit, expected) in table {
        raft.handle_message(later(), node(2), append(1, id(1, 5), &[], commit));
        let applied: Vec<u64> = outputs(&mut raft)
            .into_iter()
            .filter_map(|output| match output {
                Output::Apply(entries) => Some(entries),
                _ => None,
            })
            .flat_map(|entries| {
                entries.iter().map(|entry| entry.id.index.get()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(applied, expected, "commit {commit}");
    }
}

/// "The leader ... retries AppendEntries RPCs indefinitely (even after it has responded to the
/// client) until all followers eventually store all log entries."
#[test]
fn a_leader_retries_until_everybody_has_everything() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    for round in 0..20 {
        cluster.isolate(4);
        cluster.cut(1, 5);
        let proposal = cluster.propose(1, "x");
        assert_eq!(cluster.host_of(1).fates.last().unwrap().0, proposal);
        if round % 5 == 0 {
            cluster.advance(TIMEOUT / 3);
        }
        cluster.heal();
    }
    cluster.advance(TIMEOUT * 2);
    for number in 1..=5 {
        assert_eq!(cluster.host_of(number).applied_commands().len(), 20);
    }
}

/// The Log Matching Property: "if two entries in different logs have the same index and term, then
/// they store the same command, and the logs are identical in all preceding entries."
#[test]
fn logs_that_share_an_entry_share_everything_before_it() {
    let mut cluster = Cluster::configured(empty(5), crate::cluster::config);
    cluster.elect(1);
    for leader in [2, 3, 4, 5, 1, 3] {
        for silent in 1..=5 {
            if silent % 2 == leader % 2 && silent != leader {
                cluster.isolate(silent);
            }
        }
        let leading = cluster.leaders();
        for number in leading {
            let now = cluster.now;
            let _ = cluster.raft(number.get()).propose(now, format!("by {number}").into());
        }
        cluster.settle();
        cluster.heal();
        cluster.time_out(leader);
        cluster.advance(TIMEOUT / 10);
        let logs: Vec<_> = cluster.hosts.values().map(|host| host.disk.entries.clone()).collect();
        for one in &logs {
            for other in &logs {
                let shared = (0..one.len().min(other.len()))
                    .rev()
                    .find(|at| one[*at].id == other[*at].id)
                    .map_or(0, |at| at + 1);
                assert_eq!(one[..shared], other[..shared]);
            }
        }
    }
}

/// "If the follower does not find an entry in its log with the same index and term, then it refuses
/// the new entries."
#[test]
fn a_follower_takes_entries_only_behind_one_that_it_has() {
    for (terms, previous, takes) in [
        (&[][..], (0, 0), true),
        (&[1], (0, 0), true),
        (&[1], (1, 1), true),
        (&[1], (2, 1), false),
        (&[1], (1, 2), false),
        (&[1, 2], (2, 2), true),
        (&[1, 2], (1, 2), false),
    ] {
        let mut raft = super::follower(3, terms);
        raft.handle_message(later(), node(2), append(3, id(previous.0, previous.1), &[3], 0));
        let said = said(&mut raft);
        let [(_, answer)] = &said[..] else { panic!("{said:?}") };
        let accepted = matches!(answer.body, MessageBody::AppendAccepted { .. });
        assert_eq!(accepted, takes, "{terms:?} behind {previous:?}");
    }
}

/// "The leader handles inconsistencies by forcing the followers' logs to duplicate its own", and
/// "never overwrites or deletes entries in its own log".
#[test]
fn followers_are_made_to_agree_and_the_leader_keeps_what_it_has() {
    let logs: [&[u64]; 7] = [&[], &[1], &[1, 1], &[1, 2], &[1, 2, 2], &[1, 1, 3], &[1, 1, 3, 3]];
    for leader in logs {
        for follower in logs {
            // The third one decides the election, whoever's log is better.
            let states = [restored(3, leader), restored(3, follower), restored(3, &[])];
            let mut cluster = Cluster::of(states);
            cluster.isolate(2);
            cluster.elect(1);
            let before = cluster.host_of(1).log_terms();
            assert_eq!(before[..leader.len()], *leader);
            cluster.heal();
            cluster.advance(TIMEOUT / 2);
            for number in 1..=3 {
                assert_eq!(cluster.host_of(number).log_terms(), before, "{follower:?}");
            }
        }
    }
}

/// "A leader never commits by itself what a minority has": it ends as unknown when another leads.
#[test]
fn a_minority_commits_nothing() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    let before = commit_index(cluster.raft(1));
    for silent in [3, 4, 5] {
        cluster.isolate(silent);
    }
    let proposal = cluster.propose(1, "x");
    cluster.advance(TIMEOUT * 2);
    assert_eq!(commit_index(cluster.raft(1)), before);
    assert_ne!(cluster.role(1), RoleKind::Leader);
    assert_eq!(cluster.host_of(1).fates, [(proposal, ProposalFate::Unknown)]);
}

/// "AppendEntries ... idempotent" (5.5): once or a hundred times, late or not, is the same.
#[test]
fn repeated_appends_change_nothing() {
    let mut raft = fresh();
    let both = append(1, id(0, 0), &[1, 1, 1], 2);
    raft.handle_message(later(), node(2), both.clone());
    outputs(&mut raft);
    let status = raft.status();
    for part in [both, append(1, id(0, 0), &[1], 1), append(1, id(1, 1), &[1], 0)] {
        raft.handle_message(later(), node(2), part);
        let written = outputs(&mut raft);
        assert!(written.iter().all(|it| matches!(it, Output::Send { .. })), "{written:?}");
        assert_eq!(raft.status(), status);
    }
}
