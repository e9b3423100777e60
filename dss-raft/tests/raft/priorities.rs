//! Who should lead, where several could.

use std::time::Duration;

use dss_raft::{MessageBody, Output, Priority, Raft, Restored, RoleKind, Timestamp};

use crate::cluster::{
    Cluster, TIMEOUT, config, empty, id, lone, message, node, outputs, restored, voters,
};

fn with(priorities: &'static [Priority]) -> impl Fn(u64) -> dss_raft::Config {
    move |number| {
        let position = usize::try_from(number - 1).unwrap();
        config(number).priority(priorities[position])
    }
}

/// Whether a node of `priority`, whose log has these terms, would elect a node of priority
/// `candidate` whose log ends in `last`.
fn would_elect(
    priority: Priority,
    terms: &[u64],
    candidate: Priority,
    last: dss_raft::LogId,
) -> bool {
    let config = config(1).priority(priority);
    let mut raft = Raft::new(config, voters(3), restored(2, terms), Timestamp::ZERO).unwrap();
    let request = message(3, MessageBody::PreVoteRequest { last, priority: candidate });
    raft.handle_message(Timestamp::since_origin(TIMEOUT * 3), node(2), request);
    let [Output::Send { message, .. }] = &outputs(&mut raft)[..] else { panic!() };
    message.body == MessageBody::PreVoteResponse { granted: true }
}

#[test]
fn of_equal_logs_the_one_of_higher_priority_is_elected() {
    for own in Priority::ALL {
        for candidate in Priority::ALL {
            let granted = would_elect(own, &[1, 2], candidate, id(2, 2));
            assert_eq!(granted, candidate >= own, "{candidate:?} asks {own:?}");
        }
    }
}

#[test]
fn a_longer_log_outweighs_every_priority() {
    for own in Priority::ALL {
        for candidate in Priority::ALL {
            assert!(would_elect(own, &[1, 2], candidate, id(2, 3)));
            assert!(would_elect(own, &[1, 2], candidate, id(3, 1)));
            assert!(!would_elect(own, &[1, 2], candidate, id(2, 1)));
        }
    }
}

#[test]
fn a_vote_is_refused_to_no_priority() {
    // Only pre-votes know of it: whoever has come as far as to campaign is not held up.
    let mut raft = lone(3, Restored::default());
    let request = message(1, MessageBody::VoteRequest { last: id(0, 0), by_transfer: false });
    raft.handle_message(Timestamp::since_origin(TIMEOUT * 3), node(2), request);
    assert!(outputs(&mut raft).iter().any(|output| matches!(output,
        Output::Send { message, .. } if message.body == MessageBody::VoteResponse { granted: true })));
}

#[test]
fn patience_depends_on_priority() {
    // In quarters of the election timeout, at least and less than.
    let table = [(Priority::High, 4, 6), (Priority::Normal, 4, 8), (Priority::Low, 8, 12)];
    for (priority, shortest, longest) in table {
        for seed in 0..200 {
            let config = dss_raft::Config::new(node(1), seed).priority(priority);
            let raft = Raft::new(config, voters(3), Restored::default(), Timestamp::ZERO).unwrap();
            let patience = raft.poll_timeout().unwrap().since(Timestamp::ZERO);
            let bounds = TIMEOUT / 4 * shortest..TIMEOUT / 4 * longest;
            assert!(bounds.contains(&patience), "{priority:?} waits {patience:?}");
        }
    }
}

/// Which node leads, over and over, where each is as the others but for its priority.
fn first_leaders(priorities: &'static [Priority]) -> Vec<u64> {
    let leader = |seed: u64| {
        let count = priorities.len() as u64;
        let mut cluster = Cluster::configured(empty(count), |number| {
            let position = usize::try_from(number - 1).unwrap();
            dss_raft::Config::new(node(number), seed * 100 + number).priority(priorities[position])
        });
        cluster.advance(TIMEOUT * 6);
        let leaders = cluster.leaders();
        let [leader] = leaders[..] else { panic!("seed {seed}: {leaders:?}") };
        leader.get()
    };
    (0..40).map(leader).collect()
}

#[test]
fn whoever_should_lead_usually_does() {
    use Priority::{High, Low, Normal};
    let leaders = first_leaders(&[Low, Normal, High]);
    assert!(leaders.iter().all(|leader| *leader != 1), "{leaders:?}");
    assert!(leaders.iter().filter(|leader| **leader == 3).count() > 30, "{leaders:?}");
    let leaders = first_leaders(&[Normal, Normal, Normal]);
    for node in 1..=3 {
        assert!(leaders.contains(&node), "{leaders:?}");
    }
}

#[test]
fn the_lowest_priority_leads_where_nobody_else_will() {
    let mut cluster =
        Cluster::configured(empty(3), with(&[Priority::Low, Priority::High, Priority::High]));
    cluster.elect(2);
    cluster.isolate(3);
    cluster.propose(2, "node 3 lacks this");
    cluster.heal();
    cluster.isolate(2);
    cluster.wire.clear();
    cluster.advance(TIMEOUT * 8);
    assert_eq!(cluster.role(1), RoleKind::Leader);
}

#[test]
fn a_higher_priority_deposes_nobody() {
    let mut cluster =
        Cluster::configured(empty(3), with(&[Priority::Low, Priority::High, Priority::High]));
    cluster.elect_by_transfer(1);
    let term = cluster.raft(1).status().term;
    cluster.advance(TIMEOUT * 10);
    assert_eq!(cluster.leaders(), [node(1)]);
    assert_eq!(cluster.raft(1).status().term, term);
}

#[test]
fn a_priority_delays_no_failover_for_long() {
    use Priority::{High, Low};
    let mut cluster = Cluster::configured(empty(3), with(&[High, Low, Low]));
    cluster.elect(1);
    cluster.advance(TIMEOUT);
    cluster.isolate(1);
    let lost = cluster.now;
    while !cluster.leaders().iter().any(|leader| *leader != node(1)) {
        cluster.advance(Duration::from_millis(10));
    }
    assert!(cluster.now.since(lost) < TIMEOUT * 4);
}
