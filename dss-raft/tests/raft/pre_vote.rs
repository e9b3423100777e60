//! Pre-votes (dissertation 9.6) and stickiness to a leader that is heard (4.2.3).

use dss_raft::{MessageBody, Output, Priority, Restored, RoleKind, Term, Timestamp};

use crate::cluster::{Cluster, TIMEOUT, id, index, lone, message, node, outputs, restored};

fn later() -> Timestamp {
    Timestamp::since_origin(TIMEOUT * 3)
}

#[test]
fn pre_votes_have_no_side_effects_granted_or_not() {
    for (last, granted) in [(id(2, 5), true), (id(1, 1), false)] {
        let mut raft = lone(3, restored(2, &[1, 2]));
        raft.handle_applied(later(), index(0));
        let (status, timeout) = (raft.status(), raft.poll_timeout());
        let request = message(3, MessageBody::PreVoteRequest { last, priority: Priority::Normal });
        raft.handle_message(later(), node(2), request);
        let outputs = outputs(&mut raft);
        // Nothing is written, no term entered, no timer moved; the answer waits for nothing.
        let [Output::Send { message, after: None, .. }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(message.body, MessageBody::PreVoteResponse { granted });
        assert_eq!((raft.status(), raft.poll_timeout()), (status, timeout));
    }
}

#[test]
fn both_of_two_rivals_get_a_pre_vote() {
    let mut raft = lone(3, Restored::default());
    for rival in [2, 3] {
        let request =
            message(1, MessageBody::PreVoteRequest { last: id(0, 0), priority: Priority::Normal });
        raft.handle_message(later(), node(rival), request);
        let [Output::Send { message, .. }] = &outputs(&mut raft)[..] else { panic!() };
        assert_eq!(message.body, MessageBody::PreVoteResponse { granted: true });
    }
}

#[test]
fn a_node_that_returns_from_a_partition_disturbs_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.advance(TIMEOUT * 10);
    assert_eq!(cluster.role(3), RoleKind::PreCandidate);
    cluster.heal();
    cluster.advance(TIMEOUT * 3);
    assert_eq!(cluster.leaders(), [node(1)]);
    assert_eq!(cluster.role(3), RoleKind::Follower);
    for number in 1..=3 {
        assert_eq!(cluster.raft(number).status().term, Term::new(1));
    }
}

#[test]
fn votes_are_refused_while_a_leader_is_heard_even_in_a_higher_term() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    let request = MessageBody::VoteRequest { last: id(9, 9), by_transfer: false };
    for number in [1, 2] {
        cluster.raft(number).handle_message(now, node(3), message(9, request.clone()));
        assert_eq!(cluster.raft(number).status().term, Term::new(1));
    }
    cluster.settle();
    assert_eq!(cluster.leaders(), [node(1)]);
}

#[test]
fn a_restart_counts_as_having_just_heard_from_a_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.restart(2);
    let start = cluster.now;
    for (span, granted) in [(TIMEOUT / 2, false), (TIMEOUT, true)] {
        let request =
            message(2, MessageBody::PreVoteRequest { last: id(1, 1), priority: Priority::Normal });
        cluster.raft(2).handle_message(start + span, node(3), request);
        let answer = outputs(cluster.raft(2)).into_iter().find_map(|output| match output {
            Output::Send { message, .. } => Some(message.body),
            _ => None,
        });
        assert_eq!(answer, Some(MessageBody::PreVoteResponse { granted }), "after {span:?}");
    }
}

#[test]
fn the_time_of_contact_is_kept_across_terms() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    // Something raises the term without there being a leader of it.
    let response = message(4, MessageBody::VoteResponse { granted: false });
    cluster.raft(2).handle_message(now, node(3), response);
    assert_eq!(cluster.raft(2).status().term, Term::new(4));
    assert_eq!(cluster.raft(2).status().leader, None);
    let request = MessageBody::VoteRequest { last: id(9, 9), by_transfer: false };
    cluster.raft(2).handle_message(now + TIMEOUT / 2, node(3), message(4, request.clone()));
    let refused = outputs(cluster.raft(2)).into_iter().any(|output| {
        matches!(output, Output::Send { message, .. }
            if message.body == MessageBody::VoteResponse { granted: false })
    });
    assert!(refused);
    cluster.raft(2).handle_message(now + TIMEOUT, node(3), message(4, request));
    let granted = outputs(cluster.raft(2)).into_iter().any(|output| {
        matches!(output, Output::Send { message, .. }
            if message.body == MessageBody::VoteResponse { granted: true })
    });
    assert!(granted);
}

#[test]
fn a_deposed_leader_keeps_to_itself_for_as_long_as_its_followers_do() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT);
    let now = cluster.now;
    let response = message(4, MessageBody::VoteResponse { granted: false });
    cluster.raft(1).handle_message(now, node(3), response);
    outputs(cluster.raft(1));
    let request =
        message(5, MessageBody::PreVoteRequest { last: id(9, 9), priority: Priority::Normal });
    cluster.raft(1).handle_message(now + TIMEOUT / 2, node(3), request.clone());
    let [Output::Send { message, .. }] = &outputs(cluster.raft(1))[..] else { panic!() };
    assert_eq!(message.body, MessageBody::PreVoteResponse { granted: false });
}

#[test]
fn a_minority_of_a_higher_term_is_joined_not_deadlocked_with() {
    // Two nodes of term 1 with the longer log, one of term 5 without: no one of them can win
    // before the terms have met.
    for first in 1..=3 {
        let states = [restored(1, &[1, 1]), restored(1, &[1, 1]), restored(5, &[1])];
        let mut cluster = Cluster::of(states);
        cluster.time_out(first);
        cluster.advance(TIMEOUT * 4);
        let leaders = cluster.leaders();
        assert_eq!(leaders.len(), 1, "node {first} first");
        assert_ne!(leaders[0], node(3));
        assert!(cluster.raft(3).status().term > Term::new(5));
    }
}
