//! Section 6, cluster membership changes.

use dss_raft::{Configuration, MessageBody, NodeId, Payload, RoleKind, Term};

use super::commit_index;
use crate::cluster::{Cluster, TIMEOUT, node, voters};

fn of(numbers: &[u64]) -> Configuration {
    Configuration::of_voters(numbers.iter().copied().map(node))
}

fn change(cluster: &mut Cluster, leader: u64, target: Configuration) {
    let now = cluster.now;
    let expected = cluster.raft(leader).status().configuration;
    cluster.raft(leader).change(now, &expected, target).unwrap();
    cluster.settle();
}

fn configuration(cluster: &mut Cluster, number: u64) -> Configuration {
    cluster.raft(number).status().configuration
}

fn is_configuration(body: &MessageBody) -> bool {
    matches!(body, MessageBody::Append { entries, .. }
        if entries.iter().any(|entry| matches!(entry.payload, Payload::Configuration(_))))
}

/// "A server always uses the latest configuration in its log, regardless of whether the entry is
/// committed."
#[test]
fn a_configuration_is_used_from_when_it_is_in_the_log() {
    let mut cluster = Cluster::with_members(5, voters(3));
    cluster.elect(1);
    cluster.isolate(2);
    cluster.isolate(3);
    cluster.wire.clear();
    let before = commit_index(cluster.raft(1));
    change(&mut cluster, 1, of(&[1, 4, 5]));
    for number in [1, 4, 5] {
        let joint = configuration(&mut cluster, number);
        assert_eq!((&joint.voters, &joint.outgoing), (&of(&[1, 4, 5]).voters, &voters(3).voters));
    }
    assert_eq!(commit_index(cluster.raft(1)), before);
}

/// "Log entries are replicated to all servers in both configurations."
#[test]
fn a_joint_configuration_sends_entries_to_both() {
    let mut cluster = Cluster::with_members(5, voters(3));
    cluster.elect(1);
    cluster.isolate(2);
    cluster.isolate(3);
    change(&mut cluster, 1, of(&[1, 4, 5]));
    cluster.heal();
    cluster.propose(1, "during the change");
    for number in 1..=5 {
        cluster.advance(TIMEOUT / 4);
        let has = cluster.host_of(number).disk.entries.iter().any(
            |entry| matches!(&entry.payload, Payload::Command(it) if it == "during the change"),
        );
        assert!(has, "node {number}");
    }
}

/// "Any server from either configuration may serve as leader."
#[test]
fn a_joint_configuration_may_be_led_by_old_and_new() {
    for leader in [2, 3, 4, 5] {
        let mut cluster = Cluster::with_members(5, voters(3));
        cluster.elect(1);
        cluster.advance(TIMEOUT / 5);
        let now = cluster.now;
        let expected = configuration(&mut cluster, 1);
        cluster.raft(1).change(now, &expected, of(&[1, 4, 5])).unwrap();
        // Everybody has the joint entry, and the leader is gone before it is committed.
        cluster
            .step_until(|cluster| (2..=5).all(|number| configuration(cluster, number).is_joint()));
        cluster.isolate(1);
        cluster.wire.clear();
        cluster.elect(leader);
        // Whoever it was, the new members are left, and lead, in the end.
        cluster.heal();
        cluster.advance(TIMEOUT * 3);
        assert_eq!(configuration(&mut cluster, 4).voters, of(&[1, 4, 5]).voters);
        assert_eq!(cluster.leaders().len(), 1);
    }
}

/// "Agreement (for elections and entry commitment) requires separate majorities from both the old
/// and new configurations."
#[test]
fn an_election_in_a_joint_configuration_needs_both_majorities() {
    // Who votes besides node 1, which is in both, and whether that is enough.
    let table: [(&[u64], bool); 6] = [
        (&[], false),
        (&[2, 3], false),
        (&[4, 5], false),
        (&[2, 4], true),
        (&[3, 5], true),
        (&[2, 3, 4, 5], true),
    ];
    for (reachable, wins) in table {
        let mut cluster = Cluster::with_members(5, voters(3));
        cluster.elect(1);
        cluster.advance(TIMEOUT / 5);
        let now = cluster.now;
        let expected = configuration(&mut cluster, 1);
        cluster.raft(1).change(now, &expected, of(&[1, 4, 5])).unwrap();
        cluster
            .step_until(|cluster| (2..=5).all(|number| configuration(cluster, number).is_joint()));
        cluster.wire.clear();
        cluster.restart(1);
        for number in (2..=5).filter(|number| !reachable.contains(number)) {
            cluster.isolate(number);
        }
        cluster.time_out(1);
        assert_eq!(cluster.role(1) == RoleKind::Leader, wins, "{reachable:?} vote");
    }
}

/// "It is now safe for the leader to create a log entry describing C-new", which it does by itself.
#[test]
fn a_joint_configuration_ends_by_itself() {
    let mut cluster = Cluster::with_members(6, voters(3));
    cluster.elect(1);
    change(&mut cluster, 1, of(&[4, 5, 6]));
    cluster.advance(TIMEOUT * 2);
    for number in 4..=6 {
        let now = configuration(&mut cluster, number);
        assert!(!now.is_joint());
        assert_eq!(now.voters, of(&[4, 5, 6]).voters);
    }
}

/// "There is no time when C-old and C-new can both make decisions independently", wherever the
/// leader is cut off during the change.
#[test]
fn old_and_new_never_decide_apart() {
    for cut_after in 0..40 {
        let mut cluster = Cluster::with_members(5, voters(3));
        cluster.elect(1);
        cluster.advance(TIMEOUT / 5);
        let now = cluster.now;
        let expected = configuration(&mut cluster, 1);
        cluster.raft(1).change(now, &expected, of(&[1, 4, 5])).unwrap();
        let steps = std::cell::Cell::new(0);
        let limit = |_: &mut Cluster| {
            steps.set(steps.get() + 1);
            steps.get() > cut_after
        };
        cluster.step_some(limit);
        // The old ones on this side, the new ones on that, and the leader with them.
        for old in [2, 3] {
            for new in [1, 4, 5] {
                cluster.cut(old, new);
                cluster.cut(new, old);
            }
        }
        cluster.wire.clear();
        cluster.advance(TIMEOUT * 6);
        let terms: Vec<(NodeId, Term)> = cluster
            .leaders()
            .into_iter()
            .map(|leader| (leader, cluster.hosts[&leader].raft.status().term))
            .collect();
        assert!(terms.len() <= 1, "after {cut_after} messages both sides have a leader: {terms:?}");
    }
}

/// "New servers join the cluster as non-voting members ... Once the new servers have caught up with
/// the rest of the cluster, the reconfiguration can proceed."
#[test]
fn new_servers_catch_up_before_they_count() {
    let mut cluster = Cluster::with_members(5, voters(3));
    cluster.elect(1);
    for _ in 0..100 {
        cluster.propose(1, "x");
    }
    cluster.sets_aside = Some(is_configuration);
    change(&mut cluster, 1, of(&[1, 2, 3, 4, 5]));
    // The first configuration that anybody is sent comes behind everything else.
    for number in [4, 5] {
        let entries = cluster.host_of(number).disk.entries.len();
        assert!(entries == 0 || entries >= 100, "node {number} has {entries} entries");
    }
    cluster.release();
    cluster.advance(TIMEOUT);
    assert_eq!(configuration(&mut cluster, 5).voters.len(), 5);
}

/// "The cluster leader may not be part of the new configuration. In this case, the leader steps down
/// ... once it has committed the C-new log entry"; until then "it replicates log entries but does
/// not count itself in majorities."
#[test]
fn a_leader_that_leaves_does_not_count_itself() {
    let mut cluster = Cluster::with_members(4, voters(4));
    cluster.elect(1);
    cluster.advance(TIMEOUT / 5);
    cluster.isolate(4);
    cluster.isolate(3);
    change(&mut cluster, 1, of(&[2, 3, 4]));
    // On the leader and on node 2: two of four, and one of the three that will be.
    let status = cluster.raft(1).status();
    assert!(status.commit_index < status.last_index);
    assert_eq!(status.role, RoleKind::Leader);
    cluster.heal_from(1, 3);
    cluster.advance(TIMEOUT);
    assert_ne!(cluster.role(1), RoleKind::Leader);
    assert_eq!(configuration(&mut cluster, 2).voters, of(&[2, 3, 4]).voters);
}

/// "Removed servers ... will not receive heartbeats, so they will time out and start new elections"
/// and must not disrupt: "servers disregard RequestVote RPCs when they believe a current leader
/// exists."
#[test]
fn removed_servers_disturb_nobody() {
    let mut cluster = Cluster::new(4);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 5);
    // Node 4 never hears that it was removed.
    cluster.isolate(4);
    change(&mut cluster, 1, of(&[1, 2, 3]));
    cluster.advance(TIMEOUT / 2);
    cluster.heal();
    cluster.cut(1, 4);
    let term = cluster.raft(1).status().term;
    cluster.advance(TIMEOUT * 20);
    assert_eq!(cluster.leaders(), [node(1)]);
    assert_eq!(cluster.raft(1).status().term, term);
}
