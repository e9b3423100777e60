//! What a leader has under way is bounded: messages and bytes to each follower, and bytes that are
//! not committed.

use bytes::Bytes;
use dss_raft::{
    Config, Entries, Entry, MessageBody, NodeId, Output, Payload, ProposalFate, Raft, Rejected,
    Round,
};

use crate::cluster::{Cluster, TIMEOUT, config, empty, index, message, node, outputs, restored};

/// A cluster that node 1 leads, all of it answered.
fn led(configure: impl Fn(u64) -> Config) -> Cluster {
    let mut cluster = Cluster::configured(empty(3), configure);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    cluster
}

/// A command whose entry weighs a hundred bytes.
fn hundred() -> Bytes {
    let overhead = Entry { id: dss_raft::LogId::ZERO, payload: Payload::Blank }.weight();
    Bytes::from(vec![b'x'; 100 - overhead])
}

/// The appends with entries for `to` among a node's outputs.
fn appends(raft: &mut Raft, to: NodeId) -> Vec<Entries> {
    let append = |output| match output {
        Output::Send { to: receiver, message, .. } if receiver == to => match message.body {
            MessageBody::Append { entries, .. } if !entries.is_empty() => Some(entries),
            _ => None,
        },
        _ => None,
    };
    outputs(raft).into_iter().filter_map(append).collect()
}

fn weight(entries: &Entries) -> usize {
    entries.iter().map(Entry::weight).sum()
}

fn accept(cluster: &mut Cluster, from: u64, matched: u64) {
    let now = cluster.now;
    let body = MessageBody::AppendAccepted { matched: index(matched), round: Round::new(1) };
    cluster.raft(1).handle_message(now, node(from), message(1, body));
}

#[test]
fn a_follower_is_sent_no_more_messages_than_the_limit_until_it_answers() {
    let mut cluster = led(|number| config(number).in_flight(3, 1 << 20, 1 << 20));
    let now = cluster.now;
    let mut sent = Vec::new();
    for _ in 0..10 {
        let raft = cluster.raft(1);
        raft.propose(now, hundred()).unwrap();
        sent.extend(appends(raft, node(2)));
    }
    assert_eq!(sent.iter().map(|entries| entries.len()).collect::<Vec<_>>(), [1, 1, 1]);
    // One answer makes room for one message, which takes along all that has gathered.
    accept(&mut cluster, 2, 2);
    let next = appends(cluster.raft(1), node(2));
    assert_eq!(next.iter().map(|entries| entries.len()).collect::<Vec<_>>(), [7]);
    // The same answer again makes none.
    cluster.raft(1).propose(now, hundred()).unwrap();
    accept(&mut cluster, 2, 2);
    assert_eq!(appends(cluster.raft(1), node(2)), []);
    // An answer to the last one answers them all.
    accept(&mut cluster, 2, 11);
    assert_eq!(appends(cluster.raft(1), node(2)).len(), 1);
}

#[test]
fn a_follower_is_sent_no_more_bytes_than_the_limit_until_it_answers() {
    let mut cluster = led(|number| config(number).in_flight(100, 1000, 300));
    let now = cluster.now;
    for _ in 0..50 {
        cluster.raft(1).propose(now, hundred()).unwrap();
    }
    let sent = appends(cluster.raft(1), node(2));
    assert_eq!(sent.iter().map(weight).collect::<Vec<_>>(), [300, 300, 300, 100]);
    // What is answered may be under way again, no byte more.
    accept(&mut cluster, 2, 1 + 3);
    let sent = appends(cluster.raft(1), node(2));
    assert_eq!(sent.iter().map(weight).collect::<Vec<_>>(), [300]);
    accept(&mut cluster, 2, 1 + 10);
    let sent = appends(cluster.raft(1), node(2));
    assert_eq!(sent.iter().map(weight).sum::<usize>(), 700);
}

#[test]
fn an_entry_beyond_the_limits_travels_alone() {
    let mut cluster = led(|number| config(number).in_flight(4, 50, 50));
    let now = cluster.now;
    for _ in 0..3 {
        cluster.raft(1).propose(now, hundred()).unwrap();
    }
    let sent = appends(cluster.raft(1), node(2));
    assert_eq!(sent.iter().map(|entries| entries.len()).collect::<Vec<_>>(), [1]);
    cluster.settle();
    // One after the other all of them arrive.
    let mut cluster = led(|number| config(number).in_flight(1, 1, 1));
    for _ in 0..3 {
        cluster.propose(1, "more than a byte");
    }
    cluster.advance(TIMEOUT);
    assert_eq!(cluster.host_of(3).applied_commands().len(), 3);
}

#[test]
fn a_follower_whose_log_is_not_known_is_sent_one_message_at_a_time() {
    let mut cluster = Cluster::of((0..3).map(|_| restored(1, &[])));
    cluster.isolate(3);
    cluster.elect(1);
    let now = cluster.now;
    let mut sent = 0;
    for _ in 0..20 {
        let raft = cluster.raft(1);
        raft.propose(now, hundred()).unwrap();
        sent += appends(raft, node(3)).len();
    }
    assert_eq!(sent, 0, "the first message to it is not answered");
}

#[test]
fn slow_followers_bound_what_is_sent_and_not_what_is_committed() {
    let mut cluster = led(|number| config(number).in_flight(2, 1 << 20, 1 << 20));
    cluster.isolate(3);
    for _ in 0..50 {
        cluster.propose(1, "x");
    }
    assert_eq!(cluster.host_of(1).applied_commands().len(), 50);
    cluster.heal();
    cluster.advance(TIMEOUT);
    assert_eq!(cluster.host_of(3).applied_commands().len(), 50);
}

#[test]
fn uncommitted_bytes_are_bounded_and_commits_make_room() {
    let mut cluster = led(|number| config(number).uncommitted_bytes(1000));
    let now = cluster.now;
    let raft = cluster.raft(1);
    let taken = (0..100).take_while(|_| raft.propose(now, hundred()).is_ok()).count();
    assert_eq!(taken, 10);
    let last = raft.status().last_index;
    assert_eq!(raft.propose(now, hundred()), Err(Rejected::Overloaded));
    // Refused means that it is in no log.
    assert_eq!(raft.status().last_index, last);
    // Nothing but a commit makes room: neither time nor being written and sent.
    cluster.isolate(1);
    cluster.settle();
    assert_eq!(cluster.raft(1).propose(now, hundred()), Err(Rejected::Overloaded));
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.host_of(1).fates.len(), 10);
    let raft = cluster.raft(1);
    let taken = (0..100).take_while(|_| raft.propose(now, hundred()).is_ok()).count();
    assert_eq!(taken, 10, "all of it is there again");
}

#[test]
fn a_command_beyond_the_limit_is_taken_where_nothing_else_waits() {
    let mut cluster = led(|number| config(number).uncommitted_bytes(10));
    let now = cluster.now;
    let large = cluster.raft(1).propose(now, hundred()).unwrap();
    assert_eq!(cluster.raft(1).propose(now, Bytes::new()), Err(Rejected::Overloaded));
    cluster.settle();
    assert_eq!(cluster.host_of(1).fates, [(large, ProposalFate::Committed(index(2)))]);
    cluster.raft(1).propose(now, Bytes::new()).unwrap();
}

#[test]
fn what_a_new_leader_inherits_counts_until_it_is_committed() {
    // Three entries of an earlier term, on nobody else's disk.
    let states = [restored(1, &[1, 1, 1]), restored(1, &[]), restored(1, &[])];
    let inherited: usize = states[0].entries.iter().map(Entry::weight).sum();
    let limit = inherited + 100;
    let mut cluster = Cluster::configured(states, |number| config(number).uncommitted_bytes(limit));
    cluster.sets_aside = Some(|body| {
        matches!(body, MessageBody::Append { .. } | MessageBody::AppendAccepted { .. })
    });
    cluster.elect(1);
    let now = cluster.now;
    // The leader's blank entry weighs something too.
    assert_eq!(cluster.raft(1).propose(now, hundred()), Err(Rejected::Overloaded));
    cluster.release();
    assert!(cluster.raft(1).propose(now, hundred()).is_ok());
}

#[test]
fn the_limit_ends_with_the_leadership_that_it_belongs_to() {
    let mut cluster = led(|number| config(number).uncommitted_bytes(1000));
    cluster.isolate(1);
    let now = cluster.now;
    while cluster.raft(1).propose(now, hundred()).is_ok() {}
    cluster.advance(TIMEOUT * 3);
    let not_leader = Err(Rejected::NotLeader { leader: None });
    let now = cluster.now;
    assert_eq!(cluster.raft(1).propose(now, hundred()), not_leader);
    assert!(cluster.host_of(1).fates.iter().all(|(_, fate)| *fate == ProposalFate::Unknown));
    assert_eq!(cluster.host_of(1).fates.len(), 10);
    // The next leader has none of them, and all of the room.
    let leaders = cluster.leaders();
    let [leader] = leaders[..] else { panic!("{leaders:?}") };
    let raft = cluster.raft(leader.get());
    assert_eq!((0..100).take_while(|_| raft.propose(now, hundred()).is_ok()).count(), 10);
}
