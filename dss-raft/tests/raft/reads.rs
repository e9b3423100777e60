//! Linearizable reads (section 8, dissertation 6.4).

use bytes::Bytes;
use dss_raft::{LogIndex, MessageBody, Output, ReadId, RoleKind, Round};

use crate::cluster::{Cluster, TIMEOUT, index, message, node, outputs};

/// A cluster in which node 1 leads and has committed in its term.
fn led() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 10);
    cluster
}

fn read_ends(outputs: &[Output]) -> Vec<(ReadId, Option<LogIndex>)> {
    let end = |output: &Output| match output {
        Output::Read { read, index } => Some((*read, *index)),
        _ => None,
    };
    outputs.iter().filter_map(end).collect()
}

fn rounds_sent(outputs: &[Output]) -> Vec<Round> {
    let round = |output: &Output| match output {
        Output::Send { message, .. } => match message.body {
            MessageBody::Append { round, .. } => Some(round),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(round).collect()
}

#[test]
fn a_read_on_the_leader_is_confirmed_by_a_majority_at_the_commit_index() {
    let mut cluster = led();
    cluster.propose(1, "x");
    let now = cluster.now;
    let read = cluster.raft(1).read(now);
    cluster.settle();
    assert_eq!(cluster.host_of(1).reads, [(read, Some(index(2)))]);
}

#[test]
fn a_read_on_a_follower_is_confirmed_by_the_leader() {
    let mut cluster = led();
    cluster.propose(1, "x");
    let now = cluster.now;
    let read = cluster.raft(3).read(now);
    cluster.settle();
    assert_eq!(cluster.host_of(3).reads, [(read, Some(index(2)))]);
    // The round that confirmed it has also told the follower of the commit it must await.
    assert_eq!(cluster.raft(3).status().commit_index, index(2));
}

#[test]
fn reads_between_two_polls_share_a_round_and_a_question() {
    let mut cluster = led();
    let now = cluster.now;
    for number in [1, 3] {
        let before = cluster.delivered;
        let reads: Vec<_> = (0..20).map(|_| cluster.raft(number).read(now)).collect();
        cluster.settle();
        let expected: Vec<_> = reads.iter().map(|read| (*read, Some(index(1)))).collect();
        assert_eq!(cluster.host_of(number).reads, expected);
        assert!(cluster.delivered - before <= 6);
    }
}

#[test]
fn a_new_leader_answers_no_read_before_it_has_committed_in_its_term() {
    let mut cluster = Cluster::new(3);
    // Elected, but nobody has room on disk for its first entry yet.
    cluster.time_out(1);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    let mut cluster = Cluster::new(3);
    cluster.host_of(2).syncs = false;
    cluster.host_of(3).syncs = false;
    cluster.time_out(1);
    cluster.sync(2);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    let now = cluster.now;
    let read = cluster.raft(1).read(now);
    cluster.settle();
    // Both followers have answered its rounds; neither has the blank entry durably.
    assert_eq!(cluster.host_of(1).reads, []);
    cluster.sync(2);
    assert_eq!(cluster.host_of(1).reads, [(read, Some(index(1)))]);
}

#[test]
fn answers_to_rounds_begun_before_a_read_do_not_confirm_it() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(1);
    // A round before the read; its answers are still on their way.
    raft.propose(now, Bytes::from_static(b"x")).unwrap();
    let earlier = rounds_sent(&outputs(raft))[0];
    let read = raft.read(now);
    let later = rounds_sent(&outputs(raft))[0];
    assert!(later > earlier);
    let answer = |round| message(1, MessageBody::AppendAccepted { matched: index(1), round });
    for _ in 0..3 {
        raft.handle_message(now, node(2), answer(earlier));
        raft.handle_message(now, node(3), answer(earlier));
        assert_eq!(read_ends(&outputs(raft)), []);
    }
    raft.handle_message(now, node(2), answer(later));
    assert_eq!(read_ends(&outputs(raft)), [(read, Some(index(1)))]);
}

#[test]
fn a_read_begun_after_the_round_of_another_one_waits_for_its_own() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(1);
    let first = raft.read(now);
    let earlier = rounds_sent(&outputs(raft))[0];
    let second = raft.read(now);
    let later = rounds_sent(&outputs(raft))[0];
    assert!(later > earlier);
    let answer = |round| message(1, MessageBody::AppendAccepted { matched: index(1), round });
    raft.handle_message(now, node(2), answer(earlier));
    assert_eq!(read_ends(&outputs(raft)), [(first, Some(index(1)))]);
    raft.handle_message(now, node(2), answer(later));
    assert_eq!(read_ends(&outputs(raft)), [(second, Some(index(1)))]);
}

#[test]
fn answers_to_rounds_never_begun_confirm_no_later_read() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(1);
    let invented = MessageBody::AppendAccepted { matched: index(1), round: Round::new(1 << 40) };
    raft.handle_message(now, node(2), message(1, invented));
    raft.read(now);
    assert_eq!(read_ends(&outputs(raft)), []);
}

#[test]
fn answers_of_another_term_or_of_strangers_confirm_nothing() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(1);
    raft.read(now);
    let round = rounds_sent(&outputs(raft))[0];
    let answer = |term| message(term, MessageBody::AppendAccepted { matched: index(1), round });
    raft.handle_message(now, node(2), answer(0));
    raft.handle_message(now, node(77), answer(1));
    assert_eq!(read_ends(&outputs(raft)), []);
}

#[test]
fn a_deposed_leader_serves_no_read() {
    let mut cluster = led();
    cluster.isolate(1);
    let now = cluster.now;
    let read = cluster.raft(1).read(now);
    cluster.advance(TIMEOUT * 3);
    assert_eq!(cluster.leaders().len(), 1);
    assert_eq!(cluster.host_of(1).reads, [(read, None)]);
}

#[test]
fn a_read_that_nobody_answers_ends_once_and_after_two_timeouts() {
    let mut cluster = led();
    cluster.isolate(3);
    let now = cluster.now;
    let read = cluster.raft(3).read(now);
    cluster.advance(TIMEOUT * 2 - TIMEOUT / 10);
    assert_eq!(cluster.host_of(3).reads, []);
    cluster.advance(TIMEOUT / 5);
    assert_eq!(cluster.host_of(3).reads, [(read, None)]);
    cluster.heal();
    cluster.advance(TIMEOUT * 3);
    assert_eq!(cluster.host_of(3).reads.len(), 1);
}

#[test]
fn a_lost_question_is_asked_again() {
    let mut cluster = led();
    cluster.cut(3, 1);
    let now = cluster.now;
    let read = cluster.raft(3).read(now);
    cluster.settle();
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.host_of(3).reads, [(read, Some(index(1)))]);
}

#[test]
fn a_read_without_a_leader_waits_for_one() {
    let mut cluster = Cluster::new(3);
    let read = cluster.raft(2).read(dss_raft::Timestamp::ZERO);
    cluster.settle();
    cluster.now = cluster.now + TIMEOUT;
    let now = cluster.now;
    cluster.advance(TIMEOUT);
    let _ = now;
    assert_eq!(cluster.leaders().len(), 1);
    cluster.advance(TIMEOUT / 10);
    assert_eq!(cluster.host_of(2).reads.len(), 1);
    assert_eq!(cluster.host_of(2).reads[0].0, read);
    assert!(cluster.host_of(2).reads[0].1.is_some());
}

#[test]
fn a_repeated_answer_confirms_no_later_read() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(3);
    let first = raft.read(now);
    outputs(raft);
    let answer = message(1, MessageBody::ReadIndexResponse { read: first, index: Some(index(1)) });
    raft.handle_message(now, node(1), answer.clone());
    assert_eq!(read_ends(&outputs(raft)), [(first, Some(index(1)))]);
    let second = raft.read(now);
    assert_ne!(first, second);
    raft.handle_message(now, node(1), answer.clone());
    assert_eq!(read_ends(&outputs(raft)), []);
    // Nor one that another life of the node began.
    cluster.restart(3);
    cluster.advance(TIMEOUT / 2);
    let now = cluster.now;
    let raft = cluster.raft(3);
    let third = raft.read(now);
    outputs(raft);
    raft.handle_message(now, node(1), answer);
    assert_eq!(read_ends(&outputs(raft)), []);
    assert!(![first, second].contains(&third));
}

#[test]
fn a_read_begun_after_a_question_was_sent_is_not_answered_by_it() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(3);
    let first = raft.read(now);
    outputs(raft);
    // What is committed meanwhile, the second one must see.
    let second = raft.read(now);
    let asks = |output: &Output| match output {
        Output::Send { message, .. } => match message.body {
            MessageBody::ReadIndexRequest { read } => Some(read),
            _ => None,
        },
        _ => None,
    };
    assert_eq!(outputs(raft).iter().filter_map(asks).collect::<Vec<_>>(), [second]);
    let answer = MessageBody::ReadIndexResponse { read: first, index: Some(index(1)) };
    raft.handle_message(now, node(1), message(1, answer));
    assert_eq!(read_ends(&outputs(raft)), [(first, Some(index(1)))]);
}

#[test]
fn an_answer_that_comes_before_the_question_is_sent_confirms_nothing() {
    let mut cluster = led();
    let now = cluster.now;
    let raft = cluster.raft(3);
    let read = raft.read(now);
    let answer = MessageBody::ReadIndexResponse { read, index: Some(index(1)) };
    raft.handle_message(now, node(1), message(1, answer.clone()));
    assert_eq!(read_ends(&outputs(raft)), []);
    // Nor one of a node that does not lead.
    raft.handle_message(now, node(2), message(1, answer));
    assert_eq!(read_ends(&outputs(raft)), []);
}

#[test]
fn reads_of_a_single_node_need_nobody() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    let now = cluster.now;
    let read = cluster.raft(1).read(now);
    cluster.settle();
    assert_eq!(cluster.host_of(1).reads, [(read, Some(index(1)))]);
}
