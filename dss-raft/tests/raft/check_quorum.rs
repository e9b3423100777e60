//! A leader that its followers do not hear, or that does not hear them, stops leading; and so does
//! one whose disk has failed or hangs.

use bytes::Bytes;
use dss_raft::{ProposalFate, Rejected, RoleKind, Term, Timestamp};

use crate::cluster::{Cluster, HEARTBEAT, TIMEOUT, node, outputs};

#[test]
fn a_leader_without_a_majority_steps_down_within_a_timeout_and_a_heartbeat() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    for silent in [3, 4, 5] {
        cluster.isolate(silent);
    }
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    cluster.advance(TIMEOUT / 2 + HEARTBEAT * 2);
    assert_ne!(cluster.role(1), RoleKind::Leader);
    assert_eq!(cluster.raft(1).status().term, Term::new(1));
}

#[test]
fn a_leader_with_a_bare_majority_stays() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    for silent in [4, 5] {
        cluster.isolate(silent);
    }
    cluster.advance(TIMEOUT * 10);
    assert_eq!(cluster.leaders(), [node(1)]);
}

#[test]
fn a_leader_that_hears_nobody_makes_way_for_another() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    // Its heartbeats arrive, so nobody campaigns; the answers do not.
    cluster.cut(2, 1);
    cluster.cut(3, 1);
    cluster.advance(TIMEOUT * 4);
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1);
    assert_ne!(leaders[0], node(1));
}

#[test]
fn a_proposal_of_a_leader_without_a_majority_ends_as_unknown() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    let proposal = cluster.propose(1, "lost?");
    assert_eq!(cluster.host_of(1).fates, []);
    cluster.advance(TIMEOUT * 2);
    assert_eq!(cluster.host_of(1).fates, [(proposal, ProposalFate::Unknown)]);
    cluster.heal();
    cluster.advance(TIMEOUT * 4);
    assert_eq!(cluster.host_of(1).fates.len(), 1, "a fate is final");
}

#[test]
fn a_failed_storage_ends_everything_that_promises() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    cluster.host_of(1).syncs = false;
    let raft = cluster.raft(1);
    let proposal = raft.propose(now, Bytes::from_static(b"x")).unwrap();
    let read = raft.read(now);
    outputs(raft);
    raft.handle_storage_failed(now);
    let ends = outputs(raft);
    let fate = ProposalFate::Unknown;
    assert!(ends.contains(&dss_raft::Output::Proposal { proposal, fate }), "{ends:?}");
    assert!(ends.contains(&dss_raft::Output::Read { read, index: None }), "{ends:?}");
    assert_eq!(raft.status().role, RoleKind::Follower);
    assert_eq!(raft.propose(now, Bytes::new()), Err(Rejected::StorageFailed));
    assert_eq!(raft.poll_timeout(), None);
    // A later success of the same disk changes nothing.
    raft.handle_persisted(now, dss_raft::PersistSeq::new(u64::MAX));
    raft.handle_timeout(Timestamp::since_origin(TIMEOUT * 100));
    let vote =
        dss_raft::MessageBody::VoteRequest { last: crate::cluster::id(9, 9), by_transfer: true };
    raft.handle_message(now, node(2), crate::cluster::message(9, vote));
    assert_eq!(outputs(raft), []);
    let read = raft.read(now);
    assert_eq!(outputs(raft), [dss_raft::Output::Read { read, index: None }]);
}

#[test]
fn a_leader_whose_disk_hangs_makes_way_for_another() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    let proposal = cluster.propose(1, "on the others' disks");
    // The group does not need the leader's disk to commit.
    assert_eq!(cluster.host_of(1).fates.len(), 1);
    assert_eq!(cluster.host_of(1).fates[0].0, proposal);
    cluster.advance(TIMEOUT * 3);
    assert_eq!(cluster.leaders(), [node(1)]);
    cluster.advance(TIMEOUT * 6);
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1);
    assert_ne!(leaders[0], node(1));
}
