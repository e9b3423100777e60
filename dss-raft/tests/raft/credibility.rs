//! Numbers that no cluster gets to, and limits that are exact.

use dss_raft::{
    Entries, Entry, LogId, LogIndex, Message, MessageBody, Payload, Priority, ReadId, Restored,
    RoleKind, Round, Snapshot, Term,
};

use crate::cluster::{Cluster, TIMEOUT, id, lone, message, node, outputs, voters};

/// Whatever is said with a number from here on is not believed.
const LIMIT: u64 = 1 << 62;

fn at(index: u64) -> LogId {
    id(1, index)
}

/// Every kind of message that carries a number of which there could be too many, with that number
/// at `extreme`.
fn bodies(extreme: u64) -> Vec<MessageBody> {
    let append = |previous: u64, commit: u64, round: u64, last: Option<LogId>| {
        let entry = last.map(|id| Entry { id, payload: Payload::Blank });
        MessageBody::Append {
            previous: at(previous),
            entries: entry.map_or(Entries::EMPTY, |entry| vec![entry].into()),
            commit: LogIndex::new(commit),
            round: Round::new(round),
        }
    };
    let rejected = |previous: u64, hint: LogId| MessageBody::AppendRejected {
        previous: LogIndex::new(previous),
        hint,
        round: Round::new(1),
    };
    let install = |last: LogId| MessageBody::InstallSnapshot {
        snapshot: Snapshot { last, configuration: voters(3), data: bytes::Bytes::new() }.into(),
        round: Round::new(1),
    };
    let latest = LogId::new(Term::new(extreme), LogIndex::new(1));
    vec![
        MessageBody::VoteRequest { last: at(extreme), by_transfer: false },
        MessageBody::VoteRequest { last: latest, by_transfer: false },
        append(extreme, 0, 1, None),
        append(0, extreme, 1, None),
        append(0, 0, extreme, None),
        append(extreme - 1, 0, 1, Some(at(extreme))),
        MessageBody::Committed { index: LogIndex::new(extreme) },
        MessageBody::AppendAccepted { matched: LogIndex::new(extreme), round: Round::new(1) },
        rejected(extreme, at(1)),
        rejected(1, at(extreme)),
        rejected(1, latest),
        install(at(extreme)),
        MessageBody::ReadIndexResponse {
            read: ReadId::new(1),
            index: Some(LogIndex::new(extreme)),
        },
    ]
}

/// The term of a fresh node that has been sent this.
fn term_after(message: Message) -> Term {
    let mut raft = lone(3, Restored::default());
    let now = dss_raft::Timestamp::since_origin(TIMEOUT * 3);
    raft.handle_message(now, node(2), message);
    let _ = outputs(&mut raft);
    raft.status().term
}

#[test]
fn numbers_beyond_all_that_count_are_not_believed() {
    for body in bodies(LIMIT) {
        let found = term_after(message(9, body.clone()));
        assert_eq!(found, Term::ZERO, "{body:?}");
    }
    for body in bodies(LIMIT - 1) {
        let found = term_after(message(9, body.clone()));
        assert_eq!(found, Term::new(9), "{body:?}");
    }
}

#[test]
fn terms_beyond_all_that_count_are_not_believed() {
    let vote = |term| message(term, MessageBody::VoteRequest { last: at(1), by_transfer: false });
    assert_eq!(term_after(vote(LIMIT)), Term::ZERO);
    assert_eq!(term_after(vote(LIMIT - 1)), Term::new(LIMIT - 1));
}

#[test]
fn a_question_for_a_vote_beyond_all_that_count_is_not_answered() {
    for (index, answers) in [(LIMIT, 0), (LIMIT - 1, 1)] {
        let mut raft = lone(3, Restored::default());
        let body = MessageBody::PreVoteRequest { last: at(index), priority: Priority::Normal };
        let now = dss_raft::Timestamp::since_origin(TIMEOUT * 3);
        let _ = outputs(&mut raft);
        raft.handle_message(now, node(2), message(9, body));
        assert_eq!(outputs(&mut raft).len(), answers, "{index}");
    }
}

#[test]
fn a_leader_without_support_steps_down_exactly_after_an_election_timeout() {
    let mut cluster = Cluster::new(3);
    cluster.elect(1);
    cluster.isolate(1);
    let moment = std::time::Duration::from_millis(10);
    cluster.advance(TIMEOUT - moment);
    assert_eq!(cluster.role(1), RoleKind::Leader);
    cluster.advance(moment);
    assert_eq!(cluster.role(1), RoleKind::Follower);
}
