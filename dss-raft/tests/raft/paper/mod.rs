//! The extended paper (Ongaro and Ousterhout 2014), claim by claim. The claim stands above its test
//! in the paper's words, as far as they are short enough.

mod section_5_1;
mod section_5_2;
mod section_5_3;
mod section_5_4;
mod section_6;
mod section_7;
mod section_8;

use dss_raft::{
    Entries, Entry, LogId, LogIndex, Message, MessageBody, NodeId, Output, Payload, Raft, Restored,
    Round, Timestamp,
};

use crate::cluster::{TIMEOUT, id, index, lone, message, outputs};

/// When nobody has heard from a leader for long.
fn later() -> Timestamp {
    Timestamp::since_origin(TIMEOUT * 3)
}

fn vote_request(term: u64, last: LogId) -> Message {
    message(term, MessageBody::VoteRequest { last, by_transfer: false })
}

/// An append of entries of these terms behind `previous`, with this commit index.
fn append(term: u64, previous: LogId, terms: &[u64], commit: u64) -> Message {
    let entries: Vec<Entry> = terms
        .iter()
        .zip(previous.index.get() + 1..)
        .map(|(term, at)| Entry { id: id(*term, at), payload: Payload::Blank })
        .collect();
    let entries = Entries::from(entries);
    let round = Round::new(1);
    message(term, MessageBody::Append { previous, entries, commit: index(commit), round })
}

/// What a node says to whom.
fn said(raft: &mut Raft) -> Vec<(NodeId, Message)> {
    let say = |output| match output {
        Output::Send { to, message, .. } => Some((to, message)),
        _ => None,
    };
    outputs(raft).into_iter().filter_map(say).collect()
}

fn commit_index(raft: &Raft) -> LogIndex {
    raft.status().commit_index
}

/// A follower of three with a log of these terms.
fn follower(term: u64, terms: &[u64]) -> Raft {
    lone(3, crate::cluster::restored(term, terms))
}

/// A node that has never started before.
fn fresh() -> Raft {
    lone(3, Restored::default())
}
