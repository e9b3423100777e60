//! How followers learn of a commit when nothing else is sent to them.

use dss_raft::{Entries, MessageBody, Output, PersistSeq, Raft, RoleKind, Round, Timestamp};

use crate::cluster::{TIMEOUT, id, index, lone, message, node, outputs, restored};

fn sent(raft: &mut Raft) -> Vec<(u64, MessageBody)> {
    let messages = outputs(raft).into_iter().filter_map(|output| match output {
        Output::Send { to, message, .. } => Some((to.get(), message.body)),
        _ => None,
    });
    messages.collect()
}

#[test]
fn a_follower_believes_a_notice_as_far_as_its_log_is_known_to_match_and_does_not_answer() {
    let mut raft = lone(3, restored(2, &[2, 2]));
    let now = Timestamp::since_origin(TIMEOUT);
    let notice = |term| message(term, MessageBody::Committed { index: index(2) });
    raft.handle_message(now, node(2), notice(2));
    assert_eq!(sent(&mut raft), []);
    assert_eq!(raft.status().commit_index, index(0), "nothing is known to match");

    let heartbeat = MessageBody::Append {
        previous: id(2, 1),
        entries: Entries::EMPTY,
        commit: index(0),
        round: Round::new(1),
    };
    raft.handle_message(now, node(2), message(2, heartbeat));
    assert_eq!(sent(&mut raft).len(), 1);
    raft.handle_message(now, node(2), notice(1));
    raft.handle_message(now, node(3), notice(2));
    assert_eq!(sent(&mut raft), []);
    assert_eq!(raft.status().commit_index, index(0), "neither of them leads");
    raft.handle_message(now, node(2), notice(2));
    assert_eq!(sent(&mut raft), []);
    assert_eq!(raft.status().commit_index, index(1), "the second one is not known to match");
}

#[test]
fn whoever_has_acknowledged_everything_is_told_without_being_asked() {
    let mut raft = lone(3, restored(3, &[]));
    let now = Timestamp::since_origin(TIMEOUT * 3);
    raft.handle_timeout(now);
    raft.handle_message(now, node(2), message(4, MessageBody::PreVoteResponse { granted: true }));
    outputs(&mut raft);
    raft.handle_persisted(now, PersistSeq::new(1));
    raft.handle_message(now, node(2), message(4, MessageBody::VoteResponse { granted: true }));
    assert_eq!(raft.status().role, RoleKind::Leader);
    outputs(&mut raft);
    raft.handle_persisted(now, PersistSeq::new(2));
    let accepted = MessageBody::AppendAccepted { matched: index(1), round: Round::new(1) };
    raft.handle_message(now, node(2), message(4, accepted));
    assert_eq!(raft.status().commit_index, index(1));
    assert_eq!(sent(&mut raft), [], "the next message may tell of it");

    let notice_at = raft.poll_timeout().unwrap();
    raft.handle_timeout(notice_at);
    let told = sent(&mut raft);
    let [first, (3, MessageBody::Append { entries, commit, .. })] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(*first, (2, MessageBody::Committed { index: index(1) }));
    // What node 3 lacks may have been lost: the answer to this tells.
    assert_eq!((entries.len(), *commit), (0, index(1)));
}
