//! Section 5.2, leader election.

use std::collections::BTreeSet;
use std::time::Duration;

use dss_raft::{MessageBody, RoleKind, Term};

use super::{append, fresh, later, said, vote_request};
use crate::cluster::{Cluster, HEARTBEAT, TIMEOUT, empty, id, lone, node, outputs, restored};

/// "A server remains in follower state as long as it receives valid RPCs from a leader."
#[test]
fn a_follower_stays_one_while_it_hears_its_leader() {
    let mut raft = fresh();
    let mut now = later();
    for _ in 0..100 {
        raft.handle_message(now, node(2), append(1, id(0, 0), &[], 0));
        outputs(&mut raft);
        now = now + TIMEOUT * 999 / 1000;
        raft.handle_timeout(now);
        assert_eq!(raft.status().role, RoleKind::Follower);
        assert_eq!(said(&mut raft), []);
    }
}

/// "Leaders send periodic heartbeats ... to all followers."
#[test]
fn a_leader_sends_everybody_heartbeats_without_being_asked() {
    let mut cluster = Cluster::new(5);
    cluster.elect(1);
    cluster.settle();
    let raft = cluster.raft(1);
    for _ in 0..10 {
        let at = raft.poll_timeout().unwrap();
        raft.handle_timeout(at);
        let to: BTreeSet<_> = said(raft).into_iter().map(|(to, _)| to.get()).collect();
        assert!(to.is_empty() || to == BTreeSet::from([2, 3, 4, 5]), "{to:?}");
    }
}

/// "If a follower receives no communication over a period of time called the election timeout, then
/// it assumes there is no viable leader and begins an election." Here it asks first whether it would
/// win (dissertation 9.6).
#[test]
fn a_follower_that_hears_nothing_begins_an_election_when_its_timeout_ends() {
    let mut raft = lone(3, restored(0, &[]));
    let deadline = raft.poll_timeout().unwrap();
    raft.handle_timeout(dss_raft::Timestamp::since_origin(
        deadline.since(dss_raft::Timestamp::ZERO) - Duration::from_nanos(1),
    ));
    assert_eq!(raft.status().role, RoleKind::Follower);
    raft.handle_timeout(deadline);
    assert_eq!(raft.status().role, RoleKind::PreCandidate);
    let asked: Vec<_> = said(&mut raft).into_iter().map(|(to, _)| to).collect();
    assert_eq!(asked, [node(2), node(3)]);
}

/// "It increments its current term ... votes for itself and issues RequestVote RPCs in parallel to
/// each of the other servers."
#[test]
fn a_candidate_increments_its_term_votes_for_itself_and_asks_all_the_others() {
    let mut cluster = Cluster::new(5);
    cluster.host_of(1).syncs = false;
    cluster.time_out(1);
    let written = cluster.host_of(1).unsynced[0].hard_state.unwrap();
    assert_eq!((written.term, written.voted_for), (Term::new(1), Some(node(1))));
    cluster.sync(1);
    for number in 2..=5 {
        assert_eq!(cluster.host_of(number).disk.hard_state.voted_for, Some(node(1)));
    }
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served
/// basis", also after a crash.
#[test]
fn one_vote_a_term_also_across_a_crash() {
    for crashes in [false, true] {
        let mut cluster = Cluster::new(5);
        cluster.now = later();
        let now = cluster.now;
        cluster.raft(1).handle_message(now, node(2), vote_request(3, id(0, 0)));
        cluster.perform(1);
        cluster.wire.clear();
        if crashes {
            cluster.restart(1);
            cluster.now = now + TIMEOUT * 2;
        }
        let now = cluster.now;
        for rival in [3, 4, 5] {
            cluster.raft(1).handle_message(now, node(rival), vote_request(3, id(9, 9)));
            let refused = MessageBody::VoteResponse { granted: false };
            assert_eq!(said(cluster.raft(1))[0].1.body, refused);
        }
        cluster.raft(1).handle_message(now, node(3), vote_request(4, id(9, 9)));
        let granted = MessageBody::VoteResponse { granted: true };
        assert_eq!(said(cluster.raft(1))[0].1.body, granted, "a new term has a new vote");
    }
}

/// "A candidate wins an election if it receives votes from a majority of the servers in the full
/// cluster for the same term": votes of other terms, of strangers and repeated ones do not count.
#[test]
fn only_different_voters_of_the_same_term_are_counted() {
    let mut cluster = Cluster::new(5);
    cluster.sets_aside = Some(|body| matches!(body, MessageBody::VoteResponse { .. }));
    cluster.time_out(1);
    assert_eq!(cluster.role(1), RoleKind::Candidate);
    let now = cluster.now;
    let vote = |term| crate::cluster::message(term, MessageBody::VoteResponse { granted: true });
    for (from, term) in [(2, 1), (2, 1), (2, 1), (3, 0), (77, 1), (78, 1), (1, 1)] {
        cluster.raft(1).handle_message(now, node(from), vote(term));
        assert_eq!(cluster.role(1), RoleKind::Candidate, "{from} votes in term {term}");
    }
    cluster.raft(1).handle_message(now, node(3), vote(1));
    assert_eq!(cluster.role(1), RoleKind::Leader);
}

/// "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all
/// of the other servers to establish its authority and prevent new elections."
#[test]
fn a_new_leader_says_so_at_once() {
    let mut cluster = Cluster::new(5);
    // No time passes after the timeout.
    cluster.time_out(1);
    for number in 2..=5 {
        assert_eq!(cluster.raft(number).status().leader, Some(node(1)));
    }
}

/// "If the leader's term ... is at least as large as the candidate's current term, then the
/// candidate recognizes the leader as legitimate and returns to follower state. If the term in the
/// RPC is smaller ... the candidate rejects the RPC and continues in candidate state."
#[test]
fn a_candidate_yields_to_a_leader_of_its_term_or_a_later_one_only() {
    for (term, role) in [
        (0, RoleKind::Candidate),
        (1, RoleKind::Candidate),
        (2, RoleKind::Follower),
        (3, RoleKind::Follower),
    ] {
        let mut cluster = Cluster::of((0..3).map(|_| restored(1, &[])));
        cluster.host_of(1).syncs = false;
        cluster.time_out(1);
        assert_eq!(cluster.role(1), RoleKind::Candidate);
        let now = cluster.now;
        cluster.raft(1).handle_message(now, node(2), append(term, id(0, 0), &[], 0));
        assert_eq!(cluster.role(1), role, "a leader of term {term}");
    }
}

/// "Each candidate will time out and start a new election by incrementing its term."
#[test]
fn a_candidate_without_a_majority_tries_again_in_a_later_term() {
    let mut cluster = Cluster::new(4);
    cluster.sets_aside = Some(|body| matches!(body, MessageBody::VoteResponse { .. }));
    cluster.time_out(1);
    assert_eq!(
        (cluster.role(1), cluster.raft(1).status().term),
        (RoleKind::Candidate, Term::new(1))
    );
    cluster.sets_aside = None;
    cluster.advance(TIMEOUT * 4);
    let leaders = cluster.leaders();
    let [leader] = leaders[..] else { panic!("{leaders:?}") };
    assert!(cluster.raft(leader.get()).status().term > Term::new(1));
}

/// "Election timeouts are chosen randomly from a fixed interval ... In most cases only a single
/// server will time out."
#[test]
fn timeouts_are_spread_so_that_most_elections_need_one_term() {
    let mut first = 0;
    for seed in 0..100 {
        let mut cluster = Cluster::configured(empty(5), |number| {
            dss_raft::Config::new(node(number), seed * 10 + number)
        });
        cluster.advance(TIMEOUT * 4);
        let leaders = cluster.leaders();
        let [leader] = leaders[..] else { panic!("seed {seed}: {leaders:?}") };
        first += usize::from(cluster.raft(leader.get()).status().term == Term::new(1));
    }
    assert!(first >= 80, "{first} of 100 elections need one term");
}

/// "broadcastTime ≪ electionTimeout" (5.6): a heartbeat that is lost now and then elects nobody.
#[test]
fn a_lost_heartbeat_is_no_election() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    for _ in 0..20 {
        cluster.isolate(1);
        cluster.advance(HEARTBEAT * 3);
        cluster.heal();
        cluster.advance(HEARTBEAT * 2);
    }
    assert_eq!(cluster.leaders(), [node(1)]);
    assert!(!cluster.host_of(2).leadership.iter().any(|now| now.term > Term::new(1)));
}
