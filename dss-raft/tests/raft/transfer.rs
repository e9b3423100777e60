//! Leadership transfer (dissertation 3.10).

use bytes::Bytes;
use dss_raft::{MessageBody, Output, Rejected, RoleKind, TransferError};

use crate::cluster::{Cluster, TIMEOUT, message, node, outputs};

#[test]
fn leadership_is_handed_over_at_once_and_the_successor_says_so() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    let now = cluster.now;
    assert_eq!(cluster.raft(1).transfer_leadership(now, Some(node(3))), Ok(node(3)));
    cluster.settle();
    assert_eq!(cluster.leaders(), [node(3)]);
    assert!(cluster.host_of(3).leadership.last().unwrap().by_transfer);
    assert!(!cluster.host_of(1).leadership.iter().any(|leadership| leadership.by_transfer));
}

#[test]
fn without_a_name_the_most_up_to_date_voter_is_chosen() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    cluster.isolate(2);
    cluster.propose(1, "x");
    let now = cluster.now;
    assert_eq!(cluster.raft(1).transfer_leadership(now, None), Ok(node(3)));
    cluster.settle();
    assert_eq!(cluster.leaders(), [node(3)]);
}

#[test]
fn a_receiver_that_is_behind_is_brought_up_to_date_first() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.propose(1, "x");
    let now = cluster.now;
    cluster.raft(1).transfer_leadership(now, Some(node(3))).unwrap();
    cluster.settle();
    assert_eq!(cluster.leaders(), [node(1)]);
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.leaders(), [node(3)]);
    assert_eq!(cluster.host_of(3).applied_commands(), [b"x"]);
}

#[test]
fn proposals_are_refused_meanwhile_and_taken_again_if_it_fails() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    let now = cluster.now;
    cluster.raft(1).transfer_leadership(now, Some(node(3))).unwrap();
    let refused = cluster.raft(1).propose(now, Bytes::new());
    assert_eq!(refused, Err(Rejected::Transferring { to: node(3) }));
    let again = cluster.raft(1).transfer_leadership(now, None);
    assert_eq!(again, Err(TransferError::Transferring { to: node(3) }));
    cluster.advance(TIMEOUT + TIMEOUT / 5);
    assert_eq!(cluster.leaders(), [node(1)]);
    cluster.propose(1, "x");
}

#[test]
fn what_cannot_be_handed_over_is_refused() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    let not_leader = TransferError::NotLeader { leader: Some(node(1)) };
    assert_eq!(cluster.raft(2).transfer_leadership(now, None), Err(not_leader));
    let stranger = TransferError::NotAVoter { node: node(9) };
    assert_eq!(cluster.raft(1).transfer_leadership(now, Some(node(9))), Err(stranger));
    assert_eq!(cluster.raft(1).transfer_leadership(now, Some(node(1))), Ok(node(1)));
    assert_eq!(cluster.role(1), RoleKind::Leader);

    let mut alone = Cluster::new(1);
    alone.elect(1);
    let now = alone.now;
    let nobody = alone.raft(1).transfer_leadership(now, None);
    assert_eq!(nobody, Err(TransferError::NoCandidate));
}

#[test]
fn only_the_leader_may_ask_a_node_to_campaign() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    for from in [1, 3] {
        let raft = cluster.raft(2);
        raft.handle_message(now, node(from), message(1, MessageBody::TimeoutNow));
        let asks = outputs(raft).iter().any(|output| {
            matches!(output, Output::Send { message, .. }
                if matches!(message.body, MessageBody::VoteRequest { by_transfer: true, .. }))
        });
        assert_eq!(asks, from == 1);
    }
}

#[test]
fn a_failed_campaign_of_a_receiver_is_repeated_without_the_privilege() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(2);
    let now = cluster.now;
    cluster.raft(2).handle_message(now, node(1), message(1, MessageBody::TimeoutNow));
    cluster.settle();
    assert_eq!(cluster.role(2), RoleKind::Candidate);
    cluster.advance(TIMEOUT);
    assert_eq!(cluster.role(2), RoleKind::PreCandidate);
}
