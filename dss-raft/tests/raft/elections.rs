//! Sections 5.1, 5.2 and 5.4.1 of the paper.

use std::collections::BTreeSet;

use dss_raft::{
    Entries, HardState, LogIndex, MessageBody, NodeId, Output, Priority, Raft, Restored, RoleKind,
    Round, Term, Timestamp,
};

use crate::cluster::{
    Cluster, HEARTBEAT, TIMEOUT, config, id, index, lone, message, node, outputs, restored, voters,
};

fn heartbeat(term: u64) -> dss_raft::Message {
    let body = MessageBody::Append {
        previous: id(0, 0),
        entries: Entries::EMPTY,
        commit: LogIndex::ZERO,
        round: Round::new(1),
    };
    message(term, body)
}

fn vote_request(term: u64, last: dss_raft::LogId) -> dss_raft::Message {
    message(term, MessageBody::VoteRequest { last, by_transfer: false })
}

/// The vote that a node sends among its outputs, if it sends one.
fn vote(raft: &mut Raft) -> Option<(NodeId, bool)> {
    outputs(raft).into_iter().find_map(|output| match output {
        Output::Send { to, message, .. } => match message.body {
            MessageBody::VoteResponse { granted } => Some((to, granted)),
            _ => None,
        },
        _ => None,
    })
}

fn after_timeout() -> Timestamp {
    Timestamp::since_origin(TIMEOUT * 3)
}

#[test]
fn nodes_start_as_followers() {
    let raft = lone(3, Restored::default());
    assert_eq!(raft.status().role, RoleKind::Follower);
    assert_eq!(raft.status().leader, None);
}

#[test]
fn every_role_follows_a_higher_term() {
    for role in [RoleKind::Follower, RoleKind::PreCandidate, RoleKind::Candidate, RoleKind::Leader]
    {
        let mut cluster = Cluster::new(3);
        match role {
            RoleKind::Leader => cluster.elect(1),
            RoleKind::Candidate => {
                cluster.host_of(1).syncs = false;
                cluster.time_out(1);
            }
            RoleKind::PreCandidate => {
                cluster.isolate(1);
                cluster.time_out(1);
            }
            _ => {}
        }
        assert_eq!(cluster.role(1), role);
        let now = cluster.now;
        cluster.raft(1).handle_message(now, node(2), heartbeat(7));
        let status = cluster.raft(1).status();
        assert_eq!(status.term, Term::new(7));
        assert_eq!(status.role, RoleKind::Follower);
        assert_eq!(status.leader, Some(node(2)));
    }
}

#[test]
fn messages_of_older_terms_change_nothing_and_are_answered_with_the_newer_term() {
    let mut raft = lone(3, restored(5, &[1, 2]));
    let before = raft.status();
    raft.handle_message(after_timeout(), node(2), heartbeat(4));
    raft.handle_message(after_timeout(), node(2), vote_request(4, id(9, 9)));
    assert_eq!(raft.status(), before);
    let answers = outputs(&mut raft);
    assert_eq!(answers.len(), 2);
    for answer in answers {
        let Output::Send { to, message, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((to, message.term), (node(2), Term::new(5)));
    }
}

#[test]
fn leaders_send_heartbeats_at_their_interval() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let before = cluster.delivered;
    cluster.advance(HEARTBEAT * 10);
    let rounds = (cluster.delivered - before) / 4;
    assert!((9..=12).contains(&rounds), "{rounds} heartbeats to two followers in ten intervals");
    assert_eq!(cluster.leaders(), [node(1)]);
}

#[test]
fn campaigns_enter_a_new_term_with_a_durable_vote_for_oneself() {
    let mut cluster = Cluster::new(3);
    cluster.host_of(1).syncs = false;
    cluster.time_out(1);
    assert_eq!(cluster.role(1), RoleKind::Candidate);
    let written = cluster.host_of(1).unsynced[0].hard_state.unwrap();
    assert_eq!((written.term, written.voted_for), (Term::new(1), Some(node(1))));
    // The request waits for the write, so nobody has heard of the term.
    assert_eq!(cluster.raft(2).status().term, Term::ZERO);
    cluster.sync(1);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    assert_eq!(cluster.host_of(2).disk.hard_state.voted_for, Some(node(1)));
}

#[test]
fn elections_are_won_by_a_majority_of_votes() {
    // Cluster size, other voters that answer, outcome.
    let table = [
        (1, 0, RoleKind::Leader),
        (2, 0, RoleKind::PreCandidate),
        (2, 1, RoleKind::Leader),
        (3, 0, RoleKind::PreCandidate),
        (3, 1, RoleKind::Leader),
        (4, 1, RoleKind::PreCandidate),
        (4, 2, RoleKind::Leader),
        (5, 1, RoleKind::PreCandidate),
        (5, 2, RoleKind::Leader),
        (7, 2, RoleKind::PreCandidate),
        (7, 3, RoleKind::Leader),
    ];
    for (size, answering, outcome) in table {
        let mut cluster = Cluster::new(size);
        for silent in answering + 2..=size {
            cluster.isolate(silent);
        }
        cluster.time_out(1);
        assert_eq!(cluster.role(1), outcome, "{answering} of {size} answer");
    }
}

#[test]
fn a_voter_votes_once_in_a_term_first_come_first_served() {
    let mut raft = lone(3, Restored::default());
    raft.handle_message(after_timeout(), node(2), vote_request(1, id(0, 0)));
    assert_eq!(vote(&mut raft), Some((node(2), true)));
    raft.handle_message(after_timeout(), node(3), vote_request(1, id(0, 0)));
    assert_eq!(vote(&mut raft), Some((node(3), false)));
    // The same candidate asks again: its answer was lost.
    raft.handle_message(after_timeout(), node(2), vote_request(1, id(0, 0)));
    assert_eq!(vote(&mut raft), Some((node(2), true)));
}

#[test]
fn votes_survive_a_restart() {
    let state = Restored {
        hard_state: HardState {
            term: Term::new(3),
            voted_for: Some(node(2)),
            ..HardState::default()
        },
        ..Restored::default()
    };
    let mut raft = lone(3, state);
    raft.handle_message(after_timeout(), node(3), vote_request(3, id(0, 0)));
    assert_eq!(vote(&mut raft), Some((node(3), false)));
    raft.handle_message(after_timeout(), node(2), vote_request(3, id(0, 0)));
    assert_eq!(vote(&mut raft), Some((node(2), true)));
}

#[test]
fn votes_are_persisted_before_they_are_sent() {
    let mut raft = lone(3, Restored::default());
    raft.handle_message(after_timeout(), node(2), vote_request(1, id(0, 0)));
    let outputs = outputs(&mut raft);
    let [Output::Persist(persist), Output::Send { after, .. }, ..] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let written = persist.hard_state.unwrap();
    assert_eq!((written.term, written.voted_for), (Term::new(1), Some(node(2))));
    assert_eq!(*after, Some(persist.seq));
}

#[test]
fn voters_refuse_candidates_whose_log_is_behind() {
    // The voter's terms, the candidate's last entry, the answer (section 5.4.1).
    let table: [(&[u64], _, _); 8] = [
        (&[], (0, 0), true),
        (&[1], (0, 0), false),
        (&[1], (1, 1), true),
        (&[1], (1, 2), true),
        (&[1, 1], (1, 1), false),
        (&[1, 1], (2, 1), true),
        (&[1, 2], (1, 9), false),
        (&[1, 2], (2, 2), true),
    ];
    for (terms, (term, position), granted) in table {
        let mut raft = lone(3, restored(2, terms));
        raft.handle_message(after_timeout(), node(2), vote_request(3, id(term, position)));
        assert_eq!(vote(&mut raft), Some((node(2), granted)), "{terms:?} {term}/{position}");
        let mut raft = lone(3, restored(2, terms));
        let request =
            MessageBody::PreVoteRequest { last: id(term, position), priority: Priority::Normal };
        raft.handle_message(after_timeout(), node(2), message(3, request));
        let [Output::Send { message, .. }] = &outputs(&mut raft)[..] else { panic!() };
        assert_eq!(message.body, MessageBody::PreVoteResponse { granted });
    }
}

#[test]
fn candidates_follow_a_leader_of_their_term() {
    let mut cluster = Cluster::new(3);
    cluster.host_of(1).syncs = false;
    cluster.time_out(1);
    assert_eq!(cluster.role(1), RoleKind::Candidate);
    let now = cluster.now;
    cluster.raft(1).handle_message(now, node(3), heartbeat(1));
    assert_eq!(cluster.role(1), RoleKind::Follower);
    assert_eq!(cluster.raft(1).status().leader, Some(node(3)));
}

#[test]
fn a_leader_ignores_another_that_claims_its_term() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    cluster.raft(1).handle_message(now, node(3), heartbeat(1));
    assert_eq!(cluster.role(1), RoleKind::Leader);
    cluster.raft(2).handle_message(now, node(3), heartbeat(1));
    assert_eq!(cluster.raft(2).status().leader, Some(node(1)));
}

#[test]
fn patience_is_drawn_anew_and_between_one_and_two_timeouts() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let config = dss_raft::Config::new(node(1), seed);
        let raft = Raft::new(config, voters(3), Restored::default(), Timestamp::ZERO).unwrap();
        let patience = raft.poll_timeout().unwrap().since(Timestamp::ZERO);
        assert!(patience >= TIMEOUT && patience < TIMEOUT * 2, "{patience:?}");
        seen.insert(patience);
    }
    assert!(seen.len() > 190);
    // One node, leader after leader: each stay in the role has a patience of its own.
    let mut raft = Raft::new(config(1), voters(3), Restored::default(), Timestamp::ZERO).unwrap();
    let mut drawn = BTreeSet::new();
    for term in 1..=20 {
        raft.handle_message(Timestamp::ZERO, node(2), heartbeat(term));
        drawn.insert(raft.poll_timeout());
    }
    assert!(drawn.len() > 15);
}

#[test]
fn failed_campaigns_are_retried_sooner_each_after_a_time_of_its_own() {
    let mut cluster = Cluster::new(3);
    cluster.isolate(1);
    cluster.time_out(1);
    let mut waits = BTreeSet::new();
    for _ in 0..20 {
        let deadline = cluster.raft(1).poll_timeout().unwrap();
        let wait = deadline.since(cluster.now);
        assert!(wait >= TIMEOUT / 3 && wait <= TIMEOUT * 2 / 3, "{wait:?}");
        waits.insert(wait);
        cluster.now = deadline;
        cluster.raft(1).handle_timeout(deadline);
        cluster.settle();
    }
    assert!(waits.len() > 15);
}

#[test]
fn split_votes_end() {
    for seed in 0..50 {
        let mut cluster = Cluster::configured((0..4).map(|_| Restored::default()), |number| {
            dss_raft::Config::new(node(number), seed * 10 + number)
        });
        // All four campaign at the same moment, for themselves.
        cluster.now = Timestamp::since_origin(TIMEOUT * 2);
        let now = cluster.now;
        for host in cluster.hosts.values_mut() {
            host.raft.handle_timeout(now);
        }
        cluster.settle();
        cluster.advance(TIMEOUT * 3);
        assert_eq!(cluster.leaders().len(), 1, "seed {seed}");
    }
}

#[test]
fn a_node_without_a_vote_never_campaigns() {
    let mut raft = Raft::new(config(9), voters(3), Restored::default(), Timestamp::ZERO).unwrap();
    assert_eq!(raft.status().role, RoleKind::Learner);
    assert_eq!(raft.poll_timeout(), None);
    raft.handle_timeout(Timestamp::since_origin(TIMEOUT * 100));
    raft.handle_message(after_timeout(), node(2), message(0, MessageBody::TimeoutNow));
    assert_eq!(outputs(&mut raft), []);
    assert_eq!(raft.status().last_index, index(0));
}
