//! Section 8, client interaction.

use dss_raft::{LogIndex, MessageBody, ReadId, Rejected, RoleKind};

use crate::cluster::{Cluster, TIMEOUT, id, index, node, restored};

fn read(cluster: &mut Cluster, number: u64) -> ReadId {
    let now = cluster.now;
    let read = cluster.raft(number).read(now);
    cluster.settle();
    read
}

fn answer(cluster: &mut Cluster, number: u64, read: ReadId) -> Option<Option<LogIndex>> {
    let reads = &cluster.host_of(number).reads;
    reads.iter().find(|(ended, _)| *ended == read).map(|(_, index)| *index)
}

/// "If the client's first choice is not the leader, that server will reject the client's request and
/// supply information about the most recent leader it has heard from."
#[test]
fn whoever_does_not_lead_names_who_does() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for leader in [2, 3, 1] {
        cluster.elect(leader);
        for other in (1..=3).filter(|other| *other != leader) {
            let now = cluster.now;
            let refused = cluster.raft(other).propose(now, "x".into());
            assert_eq!(refused, Err(Rejected::NotLeader { leader: Some(node(leader)) }));
        }
    }
}

/// "Each leader ... commit[s] a blank no-op entry into the log at the start of its term" so that it
/// knows what is committed, before it answers a read.
#[test]
fn a_read_waits_until_the_leader_knows_what_is_committed() {
    // Entry 2 may be committed or not: node 1 cannot know before it has committed in its term.
    let states = [restored(1, &[1, 1]), restored(1, &[1, 1]), restored(1, &[1])];
    let mut cluster = Cluster::of(states);
    cluster.sets_aside =
        Some(|body| matches!(body, MessageBody::Append { entries, .. } if !entries.is_empty()));
    cluster.elect(1);
    let asked = read(&mut cluster, 1);
    cluster.advance(TIMEOUT / 2);
    assert_eq!(answer(&mut cluster, 1, asked), None);
    assert_eq!(cluster.host_of(1).raft.status().commit_index, index(0));
    cluster.release();
    cluster.advance(TIMEOUT / 2);
    assert_eq!(answer(&mut cluster, 1, asked), Some(Some(index(3))));
    assert_eq!(cluster.host_of(1).applied.last().unwrap().id, id(2, 3));
}

/// "A leader must check whether it has been deposed before processing a read-only request ... by
/// having the leader exchange heartbeat messages with a majority of the cluster."
#[test]
fn a_read_needs_a_majority_that_still_follows() {
    for (size, reachable, answered) in
        [(3, 0, false), (3, 1, true), (5, 1, false), (5, 2, true), (7, 2, false), (7, 3, true)]
    {
        let mut cluster = Cluster::new(size);
        cluster.elect(1);
        cluster.advance(TIMEOUT / 5);
        for silent in reachable + 2..=size {
            cluster.isolate(silent);
        }
        let asked = read(&mut cluster, 1);
        let confirmed = answer(&mut cluster, 1, asked).is_some_and(|index| index.is_some());
        assert_eq!(confirmed, answered, "{reachable} of {size} answer");
    }
}

/// Reads see what was acknowledged before they began, whoever is asked and whoever leads by then.
#[test]
fn a_read_sees_every_write_that_was_acknowledged_before_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for leader in [1, 2, 3, 1] {
        if cluster.role(leader) != RoleKind::Leader {
            cluster.elect(leader);
        }
        cluster.propose(leader, "x");
        let acknowledged = cluster.host_of(leader).raft.status().commit_index;
        for number in 1..=3 {
            let asked = read(&mut cluster, number);
            let seen = answer(&mut cluster, number, asked).flatten();
            assert!(seen >= Some(acknowledged), "{seen:?} after {acknowledged}");
            // And the state machine here has come that far, or will.
            assert!(seen <= Some(cluster.host_of(number).raft.status().last_index));
        }
    }
}

/// "The leader ... rel[ies] on the heartbeat mechanism to provide a form of lease" is an option (see
/// `leases`); without it a partitioned leader answers nothing.
#[test]
fn a_partitioned_leader_answers_nothing() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 5);
    cluster.isolate(1);
    let asked = read(&mut cluster, 1);
    cluster.advance(TIMEOUT * 5);
    assert_eq!(answer(&mut cluster, 1, asked), Some(None));
}
