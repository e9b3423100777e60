//! Sections 5.3 and 5.4.2 of the paper.

use bytes::Bytes;
use dss_raft::{
    Entries, Entry, LogIndex, Message, MessageBody, Output, Payload, PersistSeq, ProposalFate,
    Raft, Rejected, Restored, RoleKind, Round, Term, Timestamp,
};

use crate::cluster::{Cluster, TIMEOUT, id, index, lone, message, node, outputs, restored};

fn entry(term: u64, position: u64) -> Entry {
    Entry { id: id(term, position), payload: Payload::Command(Bytes::from_static(b"x")) }
}

fn append(term: u64, previous: (u64, u64), terms: &[u64], commit: u64) -> Message {
    let first = previous.1 + 1;
    let entries = terms.iter().zip(first..).map(|(term, at)| entry(*term, at));
    let body = MessageBody::Append {
        previous: id(previous.0, previous.1),
        entries: entries.collect::<Vec<_>>().into(),
        commit: index(commit),
        round: Round::new(1),
    };
    message(term, body)
}

fn answer(raft: &mut Raft) -> Option<MessageBody> {
    outputs(raft).into_iter().find_map(|output| match output {
        Output::Send { message, .. } => Some(message.body),
        _ => None,
    })
}

#[test]
fn a_leader_begins_with_a_blank_entry_of_its_term() {
    let mut cluster = Cluster::of((0..3).map(|_| restored(1, &[])));
    cluster.elect(2);
    for host in cluster.hosts.values() {
        assert_eq!(host.disk.entries, [Entry { id: id(2, 1), payload: Payload::Blank }]);
    }
    cluster.advance(TIMEOUT / 10);
    for host in cluster.hosts.values() {
        assert_eq!(host.raft.status().commit_index, index(1));
    }
}

#[test]
fn entries_are_replicated_committed_and_applied_in_order_everywhere() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let proposals: Vec<_> =
        ["a", "b", "c"].into_iter().map(|command| cluster.propose(1, command)).collect();
    cluster.advance(TIMEOUT / 10);
    for host in cluster.hosts.values() {
        assert_eq!(host.applied_commands(), [b"a", b"b", b"c"]);
    }
    let fates: Vec<_> = proposals
        .iter()
        .zip(2..)
        .map(|(proposal, at)| (*proposal, ProposalFate::Committed(index(at))))
        .collect();
    assert_eq!(cluster.host_of(1).fates, fates);
}

#[test]
fn what_is_proposed_between_two_polls_is_one_write_and_one_append_each() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    let now = cluster.now;
    let raft = cluster.raft(1);
    for _ in 0..50 {
        raft.propose(now, Bytes::from_static(b"x")).unwrap();
    }
    let outputs = outputs(raft);
    let [
        Output::Persist(persist),
        Output::Send { after: None, .. },
        Output::Send { after: None, .. },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(persist.entries.len(), 50);
}

#[test]
fn only_the_leader_takes_proposals() {
    let mut cluster = Cluster::new(3);
    let now = cluster.now;
    let rejected = cluster.raft(2).propose(now, Bytes::new());
    assert_eq!(rejected, Err(Rejected::NotLeader { leader: None }));
    cluster.elect(1);
    let now = cluster.now;
    let rejected = cluster.raft(2).propose(now, Bytes::new());
    assert_eq!(rejected, Err(Rejected::NotLeader { leader: Some(node(1)) }));
}

#[test]
fn a_leader_counts_its_own_copy_once_it_is_durable() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(3);
    cluster.host_of(1).syncs = false;
    cluster.propose(1, "x");
    // Node 2 has it durably: with the leader's own copy that would be a majority.
    assert_eq!(cluster.host_of(2).log_terms(), [1, 1]);
    assert_eq!(cluster.host_of(1).fates, []);
    cluster.sync(1);
    assert_eq!(cluster.host_of(1).fates.len(), 1);
}

#[test]
fn a_follower_accepts_entries_once_they_are_durable() {
    let mut raft = lone(3, Restored::default());
    raft.handle_message(Timestamp::ZERO, node(2), append(1, (0, 0), &[1, 1], 0));
    let outputs = outputs(&mut raft);
    let [Output::Persist(persist), Output::Send { after, message, .. }, ..] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*after, Some(persist.seq));
    let accepted = MessageBody::AppendAccepted { matched: index(2), round: Round::new(1) };
    assert_eq!(message.body, accepted);
}

#[test]
fn a_repeated_append_waits_for_the_same_write() {
    let mut raft = lone(3, Restored::default());
    let both = append(1, (0, 0), &[1, 1], 0);
    raft.handle_message(Timestamp::ZERO, node(2), both.clone());
    outputs(&mut raft);
    raft.handle_message(Timestamp::ZERO, node(2), both.clone());
    let [Output::Send { after, .. }] = &outputs(&mut raft)[..] else { panic!() };
    assert_eq!(*after, Some(PersistSeq::new(1)));
    raft.handle_persisted(Timestamp::ZERO, PersistSeq::new(1));
    raft.handle_message(Timestamp::ZERO, node(2), both);
    let [Output::Send { after: None, .. }] = &outputs(&mut raft)[..] else { panic!() };
}

#[test]
fn every_append_waits_for_the_write_of_its_own_last_entry() {
    let mut raft = lone(3, Restored::default());
    let waits_for = |raft: &mut Raft, message| {
        raft.handle_message(Timestamp::ZERO, node(2), message);
        outputs(raft).into_iter().find_map(|output| match output {
            Output::Send { after, .. } => after,
            _ => None,
        })
    };
    let (first, second) = (append(1, (0, 0), &[1], 0), append(1, (1, 1), &[1], 0));
    assert_eq!(waits_for(&mut raft, first.clone()), Some(PersistSeq::new(1)));
    assert_eq!(waits_for(&mut raft, second), Some(PersistSeq::new(2)));
    // What came since is not waited for by a repetition of the first one.
    assert_eq!(waits_for(&mut raft, first), Some(PersistSeq::new(1)));
}

#[test]
fn a_heartbeat_is_answered_at_once_with_what_is_durable() {
    let mut raft = lone(3, restored(1, &[1]));
    raft.handle_message(Timestamp::ZERO, node(2), append(1, (1, 1), &[1, 1], 0));
    outputs(&mut raft);
    raft.handle_message(Timestamp::ZERO, node(2), append(1, (1, 3), &[], 0));
    let [Output::Send { after: None, message, .. }] = &outputs(&mut raft)[..] else { panic!() };
    let accepted = MessageBody::AppendAccepted { matched: index(1), round: Round::new(1) };
    assert_eq!(message.body, accepted);
}

#[test]
fn an_append_behind_a_missing_entry_is_rejected_with_where_to_look() {
    // The follower's terms, the append's previous entry, the hint.
    let table: [(&[u64], _, _); 6] = [
        (&[], (1, 5), (0, 0)),
        (&[1, 1], (1, 5), (1, 2)),
        (&[1, 1, 2, 2], (3, 4), (1, 2)),
        (&[1, 1, 2, 2], (3, 3), (1, 2)),
        (&[2, 2], (3, 2), (0, 0)),
        (&[1, 2, 3], (2, 3), (2, 2)),
    ];
    for (terms, previous, hint) in table {
        let mut raft = lone(3, restored(3, terms));
        raft.handle_message(Timestamp::ZERO, node(2), append(3, previous, &[3], 9));
        let rejected = MessageBody::AppendRejected {
            previous: index(previous.1),
            hint: id(hint.0, hint.1),
            round: Round::new(1),
        };
        assert_eq!(answer(&mut raft), Some(rejected), "{terms:?} after {previous:?}");
        assert_eq!(raft.status().commit_index, LogIndex::ZERO);
    }
}

#[test]
fn conflicting_entries_are_replaced_and_others_kept() {
    // The follower's terms, the append, the terms after it, where it is truncated.
    let table: [(&[u64], _, &[u64], &[u64], _); 6] = [
        (&[1, 1], (1, 2), &[2], &[1, 1, 2], None),
        (&[1, 1], (1, 1), &[2], &[1, 2], Some(2)),
        (&[1, 1, 1], (0, 0), &[2], &[2], Some(1)),
        // A delayed append of entries that are there does not cut off what came after them.
        (&[1, 1, 2], (0, 0), &[1, 1], &[1, 1, 2], None),
        (&[1, 1, 2], (1, 1), &[1, 2, 2], &[1, 1, 2, 2], None),
        (&[1, 1, 1, 1], (1, 1), &[1, 2], &[1, 1, 2], Some(3)),
    ];
    for (terms, previous, sent, expected, truncated) in table {
        let mut raft = lone(3, restored(2, terms));
        raft.handle_message(Timestamp::ZERO, node(2), append(2, previous, sent, 0));
        let mut stored = terms.to_vec();
        for output in outputs(&mut raft) {
            if let Output::Persist(persist) = output {
                assert_eq!(persist.truncate_from, truncated.map(index));
                if let Some(from) = persist.truncate_from {
                    stored.truncate(usize::try_from(from.get() - 1).unwrap());
                }
                stored.extend(persist.entries.iter().map(|entry| entry.id.term.get()));
            }
        }
        assert_eq!(stored, expected, "{terms:?} with {sent:?} after {previous:?}");
        assert_eq!(raft.status().last_index, index(expected.len() as u64));
    }
}

#[test]
fn a_follower_commits_no_further_than_its_log_is_verified() {
    let mut raft = lone(3, restored(1, &[1, 1, 1]));
    // The heartbeat proves the first entry only; the others may be another leader's.
    raft.handle_message(Timestamp::ZERO, node(2), append(2, (1, 1), &[], 3));
    outputs(&mut raft);
    assert_eq!(raft.status().commit_index, index(1));
    raft.handle_message(Timestamp::ZERO, node(2), append(2, (1, 1), &[1], 3));
    outputs(&mut raft);
    assert_eq!(raft.status().commit_index, index(2));
}

#[test]
fn what_is_verified_in_one_term_proves_nothing_in_the_next() {
    let mut raft = lone(3, Restored::default());
    raft.handle_message(Timestamp::ZERO, node(2), append(1, (0, 0), &[1, 1, 1], 0));
    raft.handle_message(Timestamp::ZERO, node(3), append(2, (1, 1), &[], 3));
    outputs(&mut raft);
    assert_eq!(raft.status().commit_index, index(1));
}

#[test]
fn committed_entries_are_never_replaced_whoever_asks() {
    let mut raft = lone(3, Restored::default());
    raft.handle_message(Timestamp::ZERO, node(2), append(1, (0, 0), &[1, 1], 2));
    outputs(&mut raft);
    raft.handle_message(Timestamp::ZERO, node(3), append(2, (0, 0), &[2, 2], 2));
    assert!(!outputs(&mut raft).iter().any(|output| matches!(output,
        Output::Persist(persist) if persist.truncate_from.is_some())));
    assert_eq!(raft.status().last_index, index(2));
}

#[test]
fn entries_that_no_leader_can_have_sent_are_ignored() {
    let term_falls = vec![entry(2, 1), entry(1, 2)];
    let gap = vec![entry(1, 1), entry(1, 3)];
    let of_the_future = vec![entry(9, 1)];
    let misplaced = vec![entry(1, 5)];
    for entries in [term_falls, gap, of_the_future, misplaced] {
        let mut raft = lone(3, Restored::default());
        let body = MessageBody::Append {
            previous: id(0, 0),
            entries: Entries::from(entries),
            commit: index(0),
            round: Round::new(1),
        };
        raft.handle_message(Timestamp::ZERO, node(2), message(2, body));
        assert_eq!(answer(&mut raft), None);
        assert_eq!(raft.status().last_index, index(0));
    }
}

#[test]
fn figure_7_every_follower_is_brought_in_line() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for (name, follower) in ('a'..).zip(followers) {
        // The third node only votes.
        let states = [restored(7, leader), restored(7, follower), restored(7, &[])];
        let mut cluster = Cluster::of(states);
        cluster.cut(1, 2);
        cluster.cut(2, 1);
        cluster.elect(1);
        cluster.heal();
        let before = cluster.delivered;
        cluster.advance(TIMEOUT / 4);
        let expected = [leader, &[8]].concat();
        for number in 1..=3 {
            assert_eq!(cluster.host_of(number).log_terms(), expected, "follower ({name})");
            assert_eq!(cluster.raft(number).status().commit_index, index(11));
        }
        // Backing up goes by terms, not entry by entry.
        assert!(cluster.delivered - before < 30, "follower ({name})");
    }
}

#[test]
fn figure_8_an_entry_of_an_older_term_is_not_committed_by_counting() {
    // (c): S1 leads again, in term 4, with its entry of term 2 on S1, S2 and, by now, S3.
    let states = [
        restored(3, &[1, 2]),
        restored(3, &[1, 2]),
        restored(3, &[1]),
        restored(3, &[1]),
        restored(3, &[1, 3]),
    ];
    let mut cluster = Cluster::configured(states, |number| {
        // Room for one entry in a message, so that the old entry arrives without the new one.
        crate::cluster::config(number)
    });
    cluster.isolate(5);
    cluster.isolate(4);
    // The leader's own new entry stays on its disk queue, and is cut out of its messages.
    cluster.time_out(1);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    assert_eq!(cluster.raft(1).status().term, Term::new(4));
    // With the entry of term 4 on a majority, that of term 2 is committed, but not before.
    assert_eq!(cluster.raft(1).status().commit_index, index(3));

    // The same with the answers in hand: S2 and S3 say that they match up to the old entry.
    let mut raft = lone(5, restored(3, &[1, 2]));
    let now = Timestamp::since_origin(TIMEOUT * 3);
    raft.handle_timeout(now);
    for voter in [2, 3] {
        let granted = MessageBody::PreVoteResponse { granted: true };
        raft.handle_message(now, node(voter), message(4, granted));
    }
    outputs(&mut raft);
    raft.handle_persisted(now, PersistSeq::new(1));
    for voter in [2, 3] {
        let granted = MessageBody::VoteResponse { granted: true };
        raft.handle_message(now, node(voter), message(4, granted));
    }
    assert_eq!(raft.status().role, RoleKind::Leader);
    outputs(&mut raft);
    raft.handle_persisted(now, PersistSeq::new(2));
    let accepted = |matched| {
        message(4, MessageBody::AppendAccepted { matched: index(matched), round: Round::new(1) })
    };
    for follower in [2, 3, 4] {
        raft.handle_message(now, node(follower), accepted(2));
    }
    assert_eq!(raft.status().commit_index, index(0), "four of five have it, and it may go");
    for follower in [2, 3] {
        raft.handle_message(now, node(follower), accepted(3));
    }
    assert_eq!(raft.status().commit_index, index(3));
}

#[test]
fn lost_appends_are_sent_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.cut(1, 2);
    cluster.propose(1, "a");
    cluster.propose(1, "b");
    cluster.heal();
    cluster.advance(TIMEOUT / 2);
    assert_eq!(cluster.host_of(2).applied_commands(), [b"a", b"b"]);
}

#[test]
fn a_silent_follower_is_not_sent_more_than_the_limit() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    let mut sent = 0;
    let now = cluster.now;
    for _ in 0..100 {
        let raft = cluster.raft(1);
        raft.propose(now, Bytes::from_static(b"x")).unwrap();
        for output in outputs(raft) {
            sent += usize::from(matches!(output, Output::Send { to, .. } if to == node(2)));
        }
    }
    assert_eq!(sent, 16, "the default number of messages in flight");
}

#[test]
fn answers_that_cannot_be_true_are_not_counted() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    let now = cluster.now;
    let committed = cluster.raft(1).status().commit_index;
    let raft = cluster.raft(1);
    raft.propose(now, Bytes::from_static(b"x")).unwrap();
    outputs(raft);
    let accepted = |matched| {
        message(1, MessageBody::AppendAccepted { matched: index(matched), round: Round::new(99) })
    };
    // Beyond the log, and from strangers.
    for (from, matched) in [(2, 99), (3, 99), (77, 2), (78, 2)] {
        raft.handle_message(now, node(from), accepted(matched));
    }
    assert_eq!(raft.status().commit_index, committed);
}

#[test]
fn a_single_node_commits_once_its_disk_has_it() {
    let mut cluster = Cluster::new(1);
    cluster.elect(1);
    cluster.host_of(1).syncs = false;
    cluster.propose(1, "x");
    assert_eq!(cluster.host_of(1).fates, []);
    cluster.sync(1);
    assert_eq!(cluster.host_of(1).applied_commands(), [b"x"]);
}

#[test]
fn too_much_uncommitted_is_refused_until_some_is_committed() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.advance(TIMEOUT / 2);
    let now = cluster.now;
    let megabyte = Bytes::from(vec![0; 1 << 20]);
    let raft = cluster.raft(1);
    let taken = (0..100).take_while(|_| raft.propose(now, megabyte.clone()).is_ok()).count();
    assert_eq!(
        taken, 63,
        "the default limit is 64 MiB, and an entry is a little more than its command"
    );
    assert_eq!(raft.propose(now, megabyte.clone()), Err(Rejected::Overloaded));
    cluster.settle();
    assert!(cluster.raft(1).propose(now, megabyte).is_ok());
}
