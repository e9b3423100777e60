//! Reads by lease (dissertation 6.4.1): answered by the leader alone for as long as nobody else can
//! have been elected.

use std::time::Duration;

use dss_raft::{Config, ConfigError, LogIndex, MessageBody, Output, ReadId, RoleKind, Round, Term};

use crate::cluster::{Cluster, HEARTBEAT, TIMEOUT, config, empty, index, message, node, outputs};

/// Clocks that differ by no more than 50 thousandths, so a lease of nine tenths of a timeout.
const DRIFT: u32 = 50;
const LEASE: Duration = TIMEOUT.saturating_mul(9).checked_div(10).expect("ten is not zero");

fn leasing(number: u64) -> Config {
    config(number).lease_reads(DRIFT).unwrap()
}

/// Node 1 leads by lease.
fn led() -> Cluster {
    let mut cluster = Cluster::configured(empty(3), leasing);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    cluster
}

/// What a read on node 1 leads to at once: its answer, if any, and how many messages.
fn read(cluster: &mut Cluster) -> (Option<Option<LogIndex>>, usize) {
    let now = cluster.now;
    let raft = cluster.raft(1);
    let read = raft.read(now);
    let outputs = outputs(raft);
    let sent = outputs.iter().filter(|output| matches!(output, Output::Send { .. })).count();
    let answer = outputs.iter().find_map(|output| match output {
        Output::Read { read: answered, index } if *answered == read => Some(*index),
        _ => None,
    });
    (answer, sent)
}

/// Has node 2 answer the newest round of node 1; with its own voice the leader has a majority.
fn confirm(cluster: &mut Cluster) {
    let now = cluster.now;
    let matched = cluster.raft(1).status().last_index;
    let body = MessageBody::AppendAccepted { matched, round: Round::new(1 << 40) };
    let term = cluster.raft(1).status().term.get();
    cluster.raft(1).handle_message(now, node(2), message(term, body));
    outputs(cluster.raft(1));
}

/// Begins a round on node 1, and has it confirmed `later`.
fn round_confirmed(cluster: &mut Cluster, later: Duration) {
    let now = cluster.now;
    cluster.raft(1).read(now);
    outputs(cluster.raft(1));
    cluster.now = now + later;
    confirm(cluster);
}

#[test]
fn a_leader_with_a_lease_asks_nobody() {
    let mut cluster = led();
    cluster.propose(1, "x");
    assert_eq!(read(&mut cluster), (Some(Some(index(2))), 0));
}

#[test]
fn a_leader_with_a_lease_answers_others_at_once() {
    let mut cluster = led();
    let now = cluster.now;
    let asked = ReadId::new(77);
    let raft = cluster.raft(1);
    raft.handle_message(now, node(3), message(1, MessageBody::ReadIndexRequest { read: asked }));
    let [Output::Send { to, message, after: None }] = &outputs(raft)[..] else { panic!() };
    assert_eq!(*to, node(3));
    let answer = MessageBody::ReadIndexResponse { read: asked, index: Some(index(1)) };
    assert_eq!(message.body, answer);
}

#[test]
fn without_asking_for_leases_every_read_is_confirmed() {
    let mut cluster = Cluster::configured(empty(3), config);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    assert_eq!(read(&mut cluster), (None, 2));
}

#[test]
fn a_lease_runs_from_when_its_round_was_sent_and_as_long_as_clocks_allow() {
    // How much later the answers came, and when the read is: both counted from the sending.
    let just_before = LEASE.checked_sub(Duration::from_millis(1)).unwrap();
    let table = [
        (Duration::ZERO, Duration::ZERO, true),
        (Duration::ZERO, just_before, true),
        (Duration::ZERO, LEASE, false),
        (LEASE / 2, just_before, true),
        (LEASE / 2, LEASE, false),
        (LEASE * 2, LEASE * 2, false),
    ];
    for (answered, asked, at_once) in table {
        let mut cluster = led();
        let sent = cluster.now;
        round_confirmed(&mut cluster, answered);
        cluster.now = sent + asked;
        let (answer, messages) = read(&mut cluster);
        assert_eq!(answer.is_some(), at_once, "answered after {answered:?}, read {asked:?}");
        assert_eq!(messages == 0, at_once);
    }
}

#[test]
fn a_single_answer_of_five_extends_no_lease() {
    let mut cluster = Cluster::configured(empty(5), leasing);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    cluster.now = cluster.now + LEASE;
    round_confirmed(&mut cluster, Duration::ZERO);
    assert_eq!(read(&mut cluster).0, None);
}

#[test]
fn there_is_no_lease_before_the_first_commit_of_the_term() {
    let mut cluster = Cluster::configured(empty(3), leasing);
    cluster.host_of(2).syncs = false;
    cluster.host_of(3).syncs = false;
    cluster.time_out(1);
    cluster.sync(2);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    // Heartbeats are answered, and the blank entry is on one disk only.
    cluster.advance(HEARTBEAT * 2);
    assert_eq!(cluster.raft(1).status().commit_index, LogIndex::ZERO);
    assert_eq!(read(&mut cluster).0, None);
    cluster.sync(2);
    cluster.advance(HEARTBEAT * 2);
    assert_eq!(read(&mut cluster), (Some(Some(index(1))), 0));
}

#[test]
fn a_transfer_ends_leases_for_the_rest_of_the_term_even_if_it_fails() {
    let mut cluster = led();
    assert_eq!(read(&mut cluster).1, 0);
    // The receiver is told to campaign: others will elect it in spite of this leader. But the
    // message goes astray.
    cluster.cut(1, 3);
    let now = cluster.now;
    cluster.raft(1).transfer_leadership(now, Some(node(3))).unwrap();
    cluster.settle();
    assert_eq!(read(&mut cluster).0, None);
    cluster.heal();
    cluster.sets_aside = Some(|body| matches!(body, MessageBody::TimeoutNow));
    cluster.advance(TIMEOUT * 3);
    assert_eq!((cluster.leaders(), cluster.raft(1).status().term), (vec![node(1)], Term::new(1)));
    assert_eq!(read(&mut cluster).0, None, "the message may still arrive");
    // It does, and another node leads while this one still believes that it does.
    cluster.cut(2, 1);
    cluster.cut(3, 1);
    cluster.release();
    assert_eq!(cluster.leaders(), [node(1), node(3)]);
    assert_eq!(read(&mut cluster).0, None);
    // Leases are back with the next term.
    cluster.heal();
    cluster.advance(TIMEOUT * 3);
    assert_eq!(cluster.leaders(), [node(3)]);
    let now = cluster.now;
    let raft = cluster.raft(3);
    let read = raft.read(now);
    assert!(outputs(raft).iter().any(|output| matches!(output,
        Output::Read { read: answered, index: Some(_) } if *answered == read)));
}

#[test]
fn a_transfer_that_has_told_nobody_ends_no_lease() {
    let mut cluster = led();
    cluster.isolate(3);
    cluster.propose(1, "node 3 lacks this");
    let now = cluster.now;
    cluster.raft(1).transfer_leadership(now, Some(node(3))).unwrap();
    assert_eq!(read(&mut cluster).0, Some(Some(index(2))));
}

#[test]
fn a_leader_that_was_paused_serves_nothing_by_the_lease_it_had() {
    let mut cluster = led();
    assert_eq!(read(&mut cluster).1, 0);
    // The leader does nothing while time passes for everybody; the others elect one, and write.
    cluster.isolate(1);
    let paused = cluster.hosts.remove(&node(1)).unwrap();
    for _ in 0..300 {
        cluster.now = cluster.now + Duration::from_millis(10);
        let now = cluster.now;
        for host in cluster.hosts.values_mut() {
            host.raft.handle_timeout(now);
        }
        for number in [2, 3] {
            cluster.perform(number);
        }
        while let Some((from, to, message)) = cluster.wire.pop_front() {
            cluster.host_of(to.get()).raft.handle_message(now, from, message);
            cluster.perform(to.get());
        }
    }
    let leaders = cluster.leaders();
    let [leader] = leaders[..] else { panic!("{leaders:?}") };
    let now = cluster.now;
    cluster.raft(leader.get()).propose(now, "unseen by node 1".into()).unwrap();
    // It wakes up, and a read is the first that it hears of.
    cluster.hosts.insert(node(1), paused);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    assert_eq!(read(&mut cluster).0, None);
    cluster.advance(TIMEOUT * 3);
    assert!(cluster.host_of(1).reads.iter().all(|(_, index)| index.is_none()));
    // Once the others are heard, it answers what they have.
    cluster.heal();
    cluster.advance(TIMEOUT * 2);
    let now = cluster.now;
    let read = cluster.raft(1).read(now);
    cluster.settle();
    let last = cluster.raft(leader.get()).status().last_index;
    assert!(cluster.host_of(1).reads.contains(&(read, Some(last))));
}

#[test]
fn followers_support_nobody_while_a_lease_may_run() {
    let mut cluster = led();
    let sent = cluster.now;
    round_confirmed(&mut cluster, Duration::ZERO);
    // Node 2 has answered the round that the lease rests on; by the slowest clock that is allowed
    // it is still within its election timeout when the lease ends.
    let end = sent + LEASE * (1000 - DRIFT) / 1000;
    let last = cluster.raft(2).status().last_index;
    let request = MessageBody::VoteRequest {
        last: dss_raft::LogId::new(Term::new(1), last),
        by_transfer: false,
    };
    cluster.raft(2).handle_message(end, node(3), message(2, request));
    assert_eq!(cluster.raft(2).status().term, Term::new(1));
    assert_eq!(outputs(cluster.raft(2)), []);
}

#[test]
fn clocks_that_leave_no_lease_are_refused() {
    for drift in [0, 1, 499] {
        assert!(config(1).lease_reads(drift).is_ok());
    }
    for drift in [500, 1000, u32::MAX] {
        assert_eq!(config(1).lease_reads(drift), Err(ConfigError::Drift));
    }
}
