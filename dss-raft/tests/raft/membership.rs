//! Section 6 and dissertation 4: who belongs to a group, and how that changes.

use std::time::Duration;

use dss_raft::{
    ChangeError, Configuration, LogIndex, MessageBody, NodeId, Payload, ProposalFate, ProposalId,
    RoleKind,
};

use crate::cluster::{Cluster, TIMEOUT, index, message, node, voters};

fn of(numbers: &[u64]) -> Configuration {
    Configuration::of_voters(numbers.iter().copied().map(node))
}

fn change(cluster: &mut Cluster, leader: u64, target: Configuration) -> ProposalId {
    let now = cluster.now;
    let expected = cluster.raft(leader).status().configuration;
    let proposal = cluster.raft(leader).change(now, &expected, target).unwrap();
    cluster.settle();
    proposal
}

fn fate(cluster: &mut Cluster, number: u64, proposal: ProposalId) -> Option<ProposalFate> {
    let fates = &cluster.host_of(number).fates;
    let mut found = fates.iter().filter(|(id, _)| *id == proposal).map(|(_, fate)| *fate);
    let fate = found.next();
    assert_eq!(found.next(), None, "a proposal has one fate");
    fate
}

fn members(cluster: &mut Cluster, number: u64) -> Vec<u64> {
    let voters = cluster.raft(number).status().configuration.voters;
    voters.into_iter().map(NodeId::get).collect()
}

/// Nodes 1 to `count`, of which the first `of` are voters.
fn cluster(count: u64, of: u64) -> Cluster {
    Cluster::with_members(count, voters(of))
}

/// The configurations in a node's stored log.
fn configurations(cluster: &mut Cluster, number: u64) -> Vec<Configuration> {
    let entries = &cluster.host_of(number).disk.entries;
    entries
        .iter()
        .filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some((**configuration).clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_voter_is_added_once_it_has_the_log_and_counts_from_then_on() {
    let mut cluster = cluster(4, 3);
    cluster.elect(1);
    cluster.propose(1, "x");
    let proposal = change(&mut cluster, 1, of(&[1, 2, 3, 4]));
    assert!(matches!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Committed(_))));
    cluster.advance(TIMEOUT / 10);
    assert_eq!(cluster.host_of(4).applied_commands(), [b"x"]);
    assert_eq!(members(&mut cluster, 4), [1, 2, 3, 4]);
    // One voter more takes no joint configuration.
    assert!(configurations(&mut cluster, 1).iter().all(|configuration| !configuration.is_joint()));
    // Two of four are no majority any more.
    cluster.isolate(3);
    cluster.isolate(4);
    cluster.propose(1, "y");
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.host_of(2).applied_commands(), [b"x"]);
}

#[test]
fn nothing_is_written_before_a_new_voter_has_caught_up() {
    let mut cluster = cluster(4, 3);
    cluster.elect(1);
    cluster.isolate(4);
    let before = cluster.raft(1).status().last_index;
    let proposal = change(&mut cluster, 1, of(&[1, 2, 3, 4]));
    cluster.advance(TIMEOUT);
    assert_eq!(cluster.raft(1).status().last_index, before);
    assert_eq!(fate(&mut cluster, 1, proposal), None);
    // And in the end it is given up, as rejected: it is in no log.
    cluster.advance(TIMEOUT * 10);
    assert_eq!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Rejected));
    assert_eq!(cluster.raft(1).status().last_index, before);
    cluster.heal();
    let proposal = change(&mut cluster, 1, of(&[1, 2, 3, 4]));
    cluster.advance(TIMEOUT);
    assert!(matches!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Committed(_))));
}

#[test]
fn a_change_of_several_voters_goes_through_a_joint_configuration() {
    let mut cluster = cluster(5, 3);
    cluster.elect(1);
    let proposal = change(&mut cluster, 1, of(&[1, 4, 5]));
    cluster.advance(TIMEOUT);
    assert!(matches!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Committed(_))));
    let configurations = configurations(&mut cluster, 5);
    let [.., joint, last] = &configurations[..] else { panic!("{configurations:?}") };
    assert_eq!((&joint.outgoing, &joint.voters), (&of(&[1, 2, 3]).voters, &of(&[1, 4, 5]).voters));
    assert!(!last.is_joint());
    cluster.isolate(2);
    cluster.isolate(3);
    cluster.propose(1, "x");
    cluster.advance(TIMEOUT / 5);
    assert_eq!(cluster.host_of(5).applied_commands(), [b"x"]);
}

#[test]
fn a_joint_configuration_needs_both_majorities() {
    let mut cluster = cluster(5, 3);
    cluster.elect(1);
    cluster.isolate(2);
    cluster.isolate(3);
    let commit = cluster.raft(1).status().commit_index;
    let proposal = change(&mut cluster, 1, of(&[1, 4, 5]));
    // The joint entry is on all of the new voters, and on one of the old ones.
    assert!(cluster.raft(1).status().configuration.is_joint());
    assert_eq!(cluster.raft(1).status().commit_index, commit);
    assert_eq!(fate(&mut cluster, 1, proposal), None);
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    assert!(!cluster.raft(1).status().configuration.is_joint());
}

#[test]
fn a_new_leader_leaves_a_joint_configuration_that_it_inherits() {
    let mut cluster = cluster(5, 3);
    cluster.elect(1);
    // The leader disappears as soon as another node has the joint entry.
    let now = cluster.now;
    let expected = cluster.raft(1).status().configuration;
    let proposal = cluster.raft(1).change(now, &expected, of(&[2, 4, 5])).unwrap();
    cluster.step_until(|cluster| cluster.raft(2).status().configuration.is_joint());
    cluster.isolate(1);
    cluster.wire.clear();
    cluster.elect(2);
    cluster.advance(TIMEOUT);
    let configuration = cluster.raft(2).status().configuration;
    assert_eq!((configuration.is_joint(), &configuration.voters), (false, &of(&[2, 4, 5]).voters));
    cluster.advance(TIMEOUT * 2);
    // The deposed leader cannot know what became of it.
    assert!(matches!(
        fate(&mut cluster, 1, proposal),
        Some(ProposalFate::Unknown | ProposalFate::Committed(_))
    ));
}

#[test]
fn a_truncated_configuration_is_rolled_back() {
    let mut cluster = cluster(4, 3);
    cluster.elect(1);
    cluster.isolate(1);
    cluster.heal_from(1, 4);
    let target = of(&[1, 2, 4]);
    let proposal = change(&mut cluster, 1, target);
    assert_eq!(cluster.raft(4).status().configuration.voters, of(&[1, 2, 4]).voters);
    cluster.cut(1, 4);
    cluster.elect(2);
    cluster.propose(2, "x");
    cluster.heal();
    cluster.advance(TIMEOUT * 3);
    assert_eq!(members(&mut cluster, 1), [1, 2, 3]);
    assert_eq!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Unknown));
}

#[test]
fn a_removed_leader_hands_over_then_steps_down() {
    let mut cluster = cluster(3, 3);
    cluster.elect(1);
    let proposal = change(&mut cluster, 1, of(&[2, 3]));
    assert!(matches!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Committed(_))));
    cluster.advance(TIMEOUT / 5);
    assert_ne!(cluster.role(1), RoleKind::Leader);
    let leaders = cluster.leaders();
    let [leader] = leaders[..] else { panic!("{leaders:?}") };
    let by_transfer = cluster.host_of(leader.get()).leadership.last().unwrap().by_transfer;
    assert!(by_transfer, "it was handed over, not waited for");
    // It knows that it was removed, and leaves the others alone.
    assert_eq!(cluster.role(1), RoleKind::Learner);
    let term = cluster.raft(2).status().term;
    cluster.advance(TIMEOUT * 5);
    assert_eq!(cluster.raft(2).status().term, term);
}

#[test]
fn learners_receive_everything_and_decide_nothing() {
    let mut cluster = cluster(3, 1);
    cluster.elect(1);
    let target = of(&[1]).with_learners([node(2), node(3)]);
    change(&mut cluster, 1, target);
    cluster.propose(1, "x");
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.host_of(3).applied_commands(), [b"x"]);
    assert_eq!(cluster.role(3), RoleKind::Learner);
    cluster.isolate(2);
    cluster.isolate(3);
    cluster.propose(1, "y");
    assert_eq!(cluster.host_of(1).applied_commands(), [&b"x"[..], b"y"]);
    cluster.advance(TIMEOUT * 5);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    assert_eq!(cluster.role(2), RoleKind::Learner);
}

#[test]
fn a_change_is_a_compare_and_set() {
    let mut cluster = cluster(4, 3);
    cluster.elect(1);
    let now = cluster.now;
    let wrong = cluster.raft(1).change(now, &of(&[1, 2]), of(&[1, 2, 3, 4]));
    assert!(matches!(wrong, Err(ChangeError::Unexpected { current }) if current.voters.len() == 3));
    let follower = cluster.raft(2).change(now, &voters(3), of(&[1, 2]));
    assert_eq!(follower, Err(ChangeError::NotLeader { leader: Some(node(1)) }));
    for target in [of(&[]), of(&[1]).with_learners([node(1)])] {
        assert_eq!(cluster.raft(1).change(now, &voters(3), target), Err(ChangeError::Invalid));
    }
    assert!(cluster.raft(1).change(now, &voters(3), of(&[1, 2])).is_ok());
    let second = cluster.raft(1).change(now, &voters(3), of(&[1, 3]));
    assert_eq!(second, Err(ChangeError::InProgress));
}

#[test]
fn a_new_leader_changes_nothing_before_it_has_committed() {
    let mut cluster = cluster(3, 3);
    cluster.elect(1);
    cluster.propose(1, "x");
    for number in [1, 2, 3] {
        cluster.host_of(number).syncs = false;
    }
    cluster.time_out(2);
    cluster.sync(2);
    cluster.sync(3);
    cluster.sync(1);
    assert_eq!(cluster.role(2), RoleKind::Leader);
    let now = cluster.now;
    let refused = cluster.raft(2).change(now, &voters(3), of(&[2, 3]));
    assert_eq!(refused, Err(ChangeError::InProgress));
}

#[test]
fn a_node_that_lost_its_storage_has_no_vote_until_it_is_added_anew() {
    let mut cluster = cluster(3, 3);
    cluster.elect(1);
    cluster.propose(1, "x");
    cluster.advance(TIMEOUT / 2);
    cluster.wipe(3);
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.raft(1).status().strangers, [node(3)]);
    // It is sent everything, as a learner is.
    assert_eq!(cluster.host_of(3).applied_commands(), [b"x"]);
    assert_eq!(cluster.role(3), RoleKind::Learner);
    // And is not counted.
    cluster.isolate(2);
    cluster.propose(1, "y");
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.host_of(3).applied_commands(), [b"x"]);
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    let expected = cluster.raft(1).status().configuration;
    let now = cluster.now;
    cluster.raft(1).change(now, &expected, of(&[1, 2])).unwrap();
    cluster.advance(TIMEOUT / 2);
    change(&mut cluster, 1, of(&[1, 2, 3]));
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.raft(1).status().strangers, []);
    assert_eq!(cluster.role(3), RoleKind::Follower);
    cluster.isolate(2);
    cluster.propose(1, "z");
    assert_eq!(cluster.host_of(1).applied_commands().last(), Some(&&b"z"[..]));
}

#[test]
fn a_wiped_node_helps_nobody_to_a_log_that_lacks_what_it_acknowledged() {
    let mut cluster = cluster(3, 3);
    cluster.elect(1);
    cluster.propose(1, "known");
    cluster.advance(TIMEOUT / 2);
    cluster.isolate(3);
    cluster.propose(1, "on 1 and 2");
    cluster.isolate(1);
    cluster.heal_from(2, 3);
    cluster.wipe(2);
    // Node 3 lacks the last command; with node 2's vote it would lead without it.
    cluster.time_out(3);
    cluster.advance(TIMEOUT * 3);
    assert_eq!(cluster.leaders(), [], "the old leader has stepped down, and nobody follows it");
}

#[test]
fn a_snapshot_carries_the_configuration_of_its_last_entry() {
    let mut cluster = Cluster::configured_with_members(4, voters(3), |number| {
        crate::cluster::config(number).compaction(10, 1 << 20)
    });
    cluster.elect(1);
    change(&mut cluster, 1, of(&[1, 2, 3]).with_learners([node(4)]));
    cluster.isolate(4);
    for _ in 0..40 {
        cluster.propose(1, "x");
    }
    cluster.heal();
    cluster.advance(Duration::from_secs(2));
    cluster.restart(1);
    let status = cluster.raft(1).status();
    assert_eq!(status.configuration.learners, [node(4)].into());
    let installed = &cluster.host_of(4).restored;
    assert!(installed.iter().all(|snapshot| snapshot.configuration.learners.contains(&node(4))));
    assert!(!installed.is_empty());
    assert!(cluster.raft(4).status().commit_index > index(40));
}

#[test]
fn the_removed_leader_of_two_may_still_be_needed_and_comes_back_to_finish() {
    let mut cluster = cluster(2, 2);
    cluster.elect(1);
    cluster.isolate(2);
    change(&mut cluster, 1, of(&[2]));
    // The entry that removes it is nowhere but on the node that it removes.
    cluster.restart(1);
    cluster.heal();
    cluster.advance(TIMEOUT * 6);
    assert_eq!(cluster.leaders(), [node(2)]);
    assert_eq!(members(&mut cluster, 2), [2]);
}

/// The leader of nodes 1 to 3, at the commit of a configuration of a change to `target`, before it
/// has had the time to do anything about it; and what becomes of the change when it is deposed then.
fn fate_when_deposed_at(target: &Configuration, is_joint: bool) -> (LogIndex, ProposalFate) {
    let mut cluster = cluster(5, 3);
    cluster.elect(1);
    let now = cluster.now;
    let proposal = cluster.raft(1).change(now, &voters(3), target.clone()).unwrap();
    cluster.step_until(|cluster| {
        let status = cluster.raft(1).status();
        status.configuration.voters == target.voters
            && status.configuration.is_joint() == is_joint
            && status.commit_index == status.last_index
    });
    assert_eq!(fate(&mut cluster, 1, proposal), None);
    let committed = cluster.raft(1).status().commit_index;
    let refusal = message(1000, MessageBody::VoteResponse { granted: false });
    cluster.raft(1).handle_message(now, node(2), refusal);
    cluster.perform(1);
    assert_eq!(cluster.role(1), RoleKind::Follower);
    (committed, fate(&mut cluster, 1, proposal).expect("it does not lead any more"))
}

#[test]
fn a_leader_deposed_at_the_commit_of_a_change_says_what_became_of_it() {
    // Another leader may be the one that leaves the joint configuration.
    let (_, fate) = fate_when_deposed_at(&of(&[1, 4, 5]), true);
    assert_eq!(fate, ProposalFate::Unknown);
    let (committed, fate) = fate_when_deposed_at(&of(&[1, 4, 5]), false);
    assert_eq!(fate, ProposalFate::Committed(committed));
}

#[test]
fn a_new_voter_has_several_rounds_to_catch_up_in() {
    let mut cluster = cluster(4, 3);
    cluster.elect(1);
    cluster.isolate(4);
    let proposal = change(&mut cluster, 1, of(&[1, 2, 3, 4]));
    // Longer than a round should take.
    cluster.advance(TIMEOUT * 2);
    assert_eq!(fate(&mut cluster, 1, proposal), None);
    cluster.heal();
    cluster.advance(TIMEOUT);
    assert!(matches!(fate(&mut cluster, 1, proposal), Some(ProposalFate::Committed(_))));
}
