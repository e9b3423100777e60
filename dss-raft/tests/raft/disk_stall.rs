//! A leader whose disk does not answer: its heartbeats would hide from everybody that it cannot
//! take part any more.

use dss_raft::{ProposalFate, RoleKind};

use crate::cluster::{Cluster, TIMEOUT, node};

/// How long a disk may be silent, and what it takes after that until the next heartbeat looks.
const PATIENCE: std::time::Duration = TIMEOUT.saturating_mul(5);

#[test]
fn a_leader_whose_disk_hangs_hands_over_before_it_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    cluster.host_of(1).syncs = false;
    cluster.propose(1, "on the others' disks");
    cluster.advance(PATIENCE - TIMEOUT);
    assert_eq!(cluster.leaders(), [node(1)], "a slow disk is no dead one");
    cluster.advance(TIMEOUT + TIMEOUT / 5);
    let leaders = cluster.leaders();
    let [leader] = leaders[..] else { panic!("{leaders:?}") };
    assert_ne!(leader, node(1));
    assert!(cluster.host_of(leader.get()).leadership.last().unwrap().by_transfer);
    // Nobody has waited for an election timeout, and nothing is lost.
    cluster.propose(leader.get(), "next");
    let applied = cluster.host_of(leader.get()).applied_commands();
    assert_eq!(applied, [&b"on the others' disks"[..], b"next"]);
}

#[test]
fn a_leader_whose_disk_hangs_steps_down_where_nobody_can_take_over() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    for number in [1, 2, 3] {
        cluster.host_of(number).syncs = false;
    }
    // It is durable nowhere, so nobody has all that a successor needs.
    let proposal = cluster.propose(1, "nowhere");
    cluster.advance(PATIENCE + TIMEOUT * 2);
    assert_ne!(cluster.role(1), RoleKind::Leader);
    assert_eq!(cluster.host_of(1).fates, [(proposal, ProposalFate::Unknown)]);
}

#[test]
fn a_disk_that_answers_in_time_costs_nobody_the_leadership() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    for _ in 0..5 {
        cluster.propose(1, "slow");
        cluster.advance(PATIENCE - TIMEOUT);
        cluster.sync(1);
    }
    assert_eq!(cluster.leaders(), [node(1)]);
}

#[test]
fn a_node_alone_leads_on_whatever_its_disk_does() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    cluster.propose(1, "x");
    cluster.advance(PATIENCE * 3);
    assert_eq!(cluster.leaders(), [node(1)]);
    cluster.sync(1);
    assert_eq!(cluster.host_of(1).applied_commands(), [b"x"]);
}

#[test]
fn what_is_committed_elsewhere_is_applied_before_ones_own_disk_has_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    cluster.propose(1, "x");
    assert_eq!(cluster.host_of(1).applied_commands(), [b"x"]);
    assert_eq!(cluster.host_of(1).log_terms(), [1], "only the blank entry is on its disk");
    // A crash forgets the state machine together with the entry, and both come back.
    cluster.restart(1);
    cluster.advance(TIMEOUT * 4);
    assert_eq!(cluster.host_of(1).applied_commands(), [b"x"]);
}
