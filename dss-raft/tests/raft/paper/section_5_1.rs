//! Section 5.1, Raft basics: terms.

use dss_raft::{MessageBody, Priority, RoleKind, Term};

use super::{append, fresh, later, said, vote_request};
use crate::cluster::{Cluster, TIMEOUT, id, index, message, node};

/// "Servers ... current term ... increases monotonically over time."
#[test]
fn a_term_never_falls() {
    let mut raft = fresh();
    let mut highest = Term::ZERO;
    for term in [3, 1, 7, 7, 2, 9, 0, 8] {
        raft.handle_message(later(), node(2), append(term, id(0, 0), &[], 0));
        highest = highest.max(Term::new(term));
        assert_eq!(raft.status().term, highest);
    }
}

/// "Current terms are exchanged whenever servers communicate."
#[test]
fn every_message_carries_its_senders_term() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.elect(2);
    let now = cluster.now;
    cluster.raft(2).propose(now, "x".into()).unwrap();
    cluster.raft(3).read(now);
    let mut messages = 0;
    for number in 1..=3 {
        let term = cluster.raft(number).status().term;
        for (_, message) in said(cluster.raft(number)) {
            assert_eq!(message.term, term);
            messages += 1;
        }
    }
    assert!(messages >= 3);
}

/// "If one server's current term is smaller than the other's, then it updates its current term to
/// the larger value", whatever it is that carries it.
#[test]
fn a_larger_term_is_taken_over_from_whatever_carries_it() {
    let bodies = [
        MessageBody::VoteRequest { last: id(0, 0), by_transfer: false },
        MessageBody::VoteResponse { granted: false },
        MessageBody::PreVoteResponse { granted: false },
        MessageBody::AppendAccepted { matched: index(0), round: dss_raft::Round::new(1) },
        MessageBody::AppendRejected {
            previous: index(1),
            hint: id(0, 0),
            round: dss_raft::Round::new(1),
        },
        MessageBody::ReadIndexRequest { read: dss_raft::ReadId::new(1) },
        MessageBody::TimeoutNow,
    ];
    for body in bodies {
        let mut raft = fresh();
        raft.handle_message(later(), node(2), message(5, body.clone()));
        assert_eq!(raft.status().term, Term::new(5), "{body:?}");
    }
    // But for what is about a term that nobody is in yet (dissertation 9.6).
    for body in [
        MessageBody::PreVoteRequest { last: id(0, 0), priority: Priority::Normal },
        MessageBody::PreVoteResponse { granted: true },
    ] {
        let mut raft = fresh();
        raft.handle_message(later(), node(2), message(5, body));
        assert_eq!(raft.status().term, Term::ZERO);
    }
}

/// "If a candidate or leader discovers that its term is out of date, it immediately reverts to
/// follower state."
#[test]
fn an_outdated_leader_or_candidate_becomes_a_follower() {
    for syncs in [true, false] {
        let mut cluster = Cluster::new(3);
        cluster.host_of(1).syncs = syncs;
        cluster.time_out(1);
        let expected = if syncs { RoleKind::Leader } else { RoleKind::Candidate };
        assert_eq!(cluster.role(1), expected);
        let now = cluster.now;
        let newer = message(9, MessageBody::VoteResponse { granted: false });
        cluster.raft(1).handle_message(now, node(2), newer);
        assert_eq!(cluster.role(1), RoleKind::Follower);
        assert_eq!(cluster.raft(1).status().leader, None);
    }
}

/// "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn a_stale_request_is_rejected_with_the_term_that_makes_it_stale() {
    let requests = [
        append(4, id(0, 0), &[4, 4], 2),
        vote_request(4, id(4, 9)),
        message(4, MessageBody::ReadIndexRequest { read: dss_raft::ReadId::new(1) }),
    ];
    for request in requests {
        let mut raft = super::follower(5, &[]);
        raft.handle_message(later(), node(2), request);
        let answers = said(&mut raft);
        let [(to, answer)] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((*to, answer.term), (node(2), Term::new(5)));
        let refused = matches!(
            answer.body,
            MessageBody::AppendRejected { .. }
                | MessageBody::VoteResponse { granted: false }
                | MessageBody::ReadIndexResponse { index: None, .. }
        );
        assert!(refused, "{answer:?}");
        assert_eq!(raft.status().last_index, index(0));
    }
}

/// "Some terms may end with no leader": a split vote is followed by another term.
#[test]
fn a_term_may_have_no_leader_and_never_two() {
    let mut terms = std::collections::BTreeMap::new();
    for seed in 0..30 {
        let mut cluster = Cluster::configured(crate::cluster::empty(4), |number| {
            dss_raft::Config::new(node(number), seed * 10 + number)
        });
        for _ in 0..3 {
            cluster.advance(TIMEOUT * 4);
            for leader in cluster.leaders() {
                cluster.isolate(leader.get());
            }
            cluster.advance(TIMEOUT * 2);
            cluster.heal();
        }
        terms.clear();
        for (number, host) in &cluster.hosts {
            for leadership in host.leadership.iter().filter(|it| it.role == RoleKind::Leader) {
                let earlier = terms.insert(leadership.term, *number);
                assert!(earlier.is_none_or(|earlier| earlier == *number), "seed {seed}");
            }
        }
        assert!(terms.len() >= 2, "seed {seed}: {terms:?}");
    }
}
