//! Section 5.4, safety.

use dss_raft::{LogId, MessageBody, Payload, RoleKind, Term};

use super::{commit_index, later, said, vote_request};
use crate::cluster::{Cluster, TIMEOUT, id, index, node, restored};

/// Section 5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the
/// candidate": later term first, then length. Every pair of short logs.
#[test]
fn a_vote_goes_to_logs_that_are_at_least_as_up_to_date() {
    let ends = [(0, 0), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)];
    for own in ends {
        for candidate in ends {
            let terms: Vec<u64> = (1..=own.1).map(|_| own.0).collect();
            let mut raft = super::follower(3, &terms);
            raft.handle_message(later(), node(2), vote_request(4, id(candidate.0, candidate.1)));
            let granted = candidate >= own;
            let answer = &said(&mut raft)[0].1.body;
            assert_eq!(
                *answer,
                MessageBody::VoteResponse { granted },
                "{candidate:?} asks {own:?}"
            );
        }
    }
}

/// "A candidate ... must contact a majority of the cluster ... every committed entry must be
/// present in at least one of those servers": whoever lacks one cannot win, whoever lets it try.
#[test]
fn nobody_leads_without_what_is_committed() {
    for behind in 2..=5 {
        let mut cluster = Cluster::new(5);
        cluster.elect(1);
        cluster.isolate(behind);
        cluster.propose(1, "committed");
        cluster.isolate(1);
        // The links of the one that is behind are back; the old leader is gone.
        for other in 2..=5 {
            cluster.heal_from(behind, other);
        }
        cluster.wire.clear();
        for _ in 0..5 {
            cluster.time_out(behind);
            assert_ne!(cluster.role(behind), RoleKind::Leader);
        }
        cluster.advance(TIMEOUT * 6);
        let others: Vec<_> = cluster.leaders().into_iter().filter(|it| *it != node(1)).collect();
        let [leader] = others[..] else { panic!("{others:?}") };
        assert_eq!(cluster.host_of(leader.get()).applied_commands(), [b"committed"]);
    }
}

/// Leader Completeness: "if a log entry is committed in a given term, then that entry will be
/// present in the logs of the leaders for all higher-numbered terms."
#[test]
fn every_later_leader_has_every_committed_entry() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    let mut committed: Vec<LogId> = Vec::new();
    for round in 0..20 {
        let leaders = cluster.leaders();
        let leader = *leaders.last().unwrap();
        let last = {
            cluster.propose(leader.get(), "x");
            cluster.host_of(leader.get()).applied.last().unwrap().id
        };
        committed.push(last);
        cluster.isolate(leader.get());
        if round % 3 == 0 {
            cluster.isolate(leader.get() % 5 + 1);
        }
        cluster.advance(TIMEOUT * 4);
        let newest = |it: &dss_raft::NodeId| cluster.hosts[it].raft.status().term;
        let next = cluster.leaders().into_iter().max_by_key(newest).unwrap();
        assert_ne!(next, leader);
        let log = &cluster.hosts[&next].disk.entries;
        for id in &committed {
            assert!(log.iter().any(|entry| entry.id == *id), "{next} lacks {id:?}");
        }
        cluster.heal();
        cluster.advance(TIMEOUT * 2);
    }
}

/// Section 5.4.2: "Raft never commits log entries from previous terms by counting replicas."
#[test]
fn entries_of_older_terms_are_committed_along_with_one_of_the_leaders_own() {
    let states = [restored(2, &[1, 2]), restored(2, &[1, 2]), restored(2, &[1, 2])];
    let mut cluster = Cluster::of(states);
    // All three have the old entries; nobody gets the new one.
    cluster.sets_aside =
        Some(|body| matches!(body, MessageBody::Append { entries, .. } if !entries.is_empty()));
    cluster.elect(1);
    cluster.advance(TIMEOUT * 3 / 4);
    assert_eq!(commit_index(cluster.raft(1)), index(0));
    cluster.release();
    cluster.advance(TIMEOUT / 2);
    assert_eq!(commit_index(cluster.raft(1)), index(3));
}

/// "Having the leader commit a blank no-op entry into the log at the start of its term" (section 8)
/// is what brings that about without a client.
#[test]
fn a_leader_needs_no_client_to_commit_what_it_inherits() {
    let states = [restored(1, &[1, 1, 1]), restored(1, &[]), restored(1, &[])];
    let mut cluster = Cluster::of(states);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    let last = cluster.host_of(3).disk.entries.last().unwrap().clone();
    assert_eq!((last.id, last.payload), (id(2, 4), Payload::Blank));
    assert_eq!(cluster.host_of(3).applied_commands().len(), 3);
}

/// State Machine Safety: "if a server has applied a log entry at a given index to its state machine,
/// no other server will ever apply a different log entry for the same index."
#[test]
fn everybody_applies_the_same_entry_at_an_index() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for round in 0..12_u64 {
        let victim = round % 3 + 1;
        cluster.isolate(victim);
        for number in 1..=3 {
            let now = cluster.now;
            let command = format!("{round} by {number}");
            let _ = cluster.raft(number).propose(now, command.into());
        }
        cluster.advance(TIMEOUT * 4);
        cluster.heal();
        cluster.advance(TIMEOUT * 2);
    }
    let applied: Vec<_> = cluster.hosts.values().map(|host| host.applied.clone()).collect();
    assert!(applied.iter().all(|log| log.len() > 12));
    for at in 0..applied.iter().map(Vec::len).min().unwrap() {
        assert!(applied.iter().all(|log| log[at] == applied[0][at]));
    }
    assert!(cluster.raft(1).status().term > Term::new(4));
}
