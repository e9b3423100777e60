//! What happens in a cluster, in lines that a person can read.

use dss_raft::{
    Configuration, Entry, LogId, Message, MessageBody, NodeId, Output, Payload, Persist,
    ProposalFate, RoleKind, Snapshot, Status,
};

/// Term and index.
fn at(id: LogId) -> String {
    format!("{}/{}", id.term, id.index)
}

fn members(configuration: &Configuration) -> String {
    let list = |nodes: &std::collections::BTreeSet<NodeId>| {
        nodes.iter().map(|node| node.get().to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut text = format!("voters {}", list(&configuration.voters));
    if configuration.is_joint() {
        text += &format!(" and {}", list(&configuration.outgoing));
    }
    if !configuration.learners.is_empty() {
        text += &format!(", learners {}", list(&configuration.learners));
    }
    text
}

fn entry(entry: &Entry) -> String {
    let what = match &entry.payload {
        Payload::Blank => "blank".to_owned(),
        Payload::Command(command) => String::from_utf8_lossy(command).into_owned(),
        Payload::Configuration(configuration) => members(configuration),
    };
    format!("[{} {what}]", at(entry.id))
}

fn entries(entries: &[Entry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn snapshot(snapshot: &Snapshot) -> String {
    format!("the snapshot up to {}, {}", at(snapshot.last), members(&snapshot.configuration))
}

pub(crate) fn message(from: NodeId, to: NodeId, message: &Message) -> String {
    let what = match &message.body {
        MessageBody::PreVoteRequest { last, .. } => {
            format!("would you vote for me? my log ends in {}", at(*last))
        }
        MessageBody::PreVoteResponse { granted: true } => "I would".to_owned(),
        MessageBody::PreVoteResponse { granted: false } => "I would not".to_owned(),
        MessageBody::VoteRequest { last, by_transfer } => {
            let why = if *by_transfer { ", the leader asked me to" } else { "" };
            format!("vote for me, my log ends in {}{why}", at(*last))
        }
        MessageBody::VoteResponse { granted: true } => "my vote".to_owned(),
        MessageBody::VoteResponse { granted: false } => "no vote".to_owned(),
        MessageBody::Append { previous, entries: sent, commit, .. } if sent.is_empty() => {
            format!("I lead; after {}; commit {commit}", at(*previous))
        }
        MessageBody::Append { previous, entries: sent, commit, .. } => {
            format!("after {}: {}; commit {commit}", at(*previous), entries(sent))
        }
        MessageBody::Committed { index } => format!("up to {index} all is committed"),
        MessageBody::AppendAccepted { matched, .. } => format!("I have up to {matched}"),
        MessageBody::AppendRejected { previous, hint, .. } => {
            format!("I lack {previous}, try {}", at(*hint))
        }
        MessageBody::InstallSnapshot { snapshot: offered, .. } => {
            format!("install {}", snapshot(offered))
        }
        MessageBody::ReadIndexRequest { .. } => "from where on may I read?".to_owned(),
        MessageBody::ReadIndexResponse { index: Some(index), .. } => {
            format!("read from {index} on")
        }
        MessageBody::ReadIndexResponse { index: None, .. } => "I cannot say".to_owned(),
        MessageBody::TimeoutNow => "campaign now".to_owned(),
    };
    format!("{from} -> {to}  term {}: {what}", message.term)
}

fn write(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(hard_state) = &persist.hard_state {
        let vote = hard_state.voted_for.map(|node| format!(", vote for {node}"));
        parts.push(format!("term {}{}", hard_state.term, vote.unwrap_or_default()));
    }
    if let Some(from) = persist.truncate_from {
        parts.push(format!("nothing from {from} on"));
    }
    if let Some(stored) = &persist.snapshot {
        parts.push(snapshot(stored));
    }
    if !persist.entries.is_empty() {
        parts.push(entries(&persist.entries));
    }
    if let Some(to) = persist.compact_to {
        parts.push(format!("nothing up to {to}"));
    }
    parts.join("; ")
}

/// What a node does, where that is not to send something: messages show when they arrive.
pub(crate) fn output(node: NodeId, output: &Output) -> Option<String> {
    let what = match output {
        Output::Send { .. } => return None,
        Output::Persist(persist) => format!("writes {}", write(persist)),
        Output::Apply(applied) => format!("applies {}", entries(applied)),
        Output::Restore { snapshot: restored, .. } => {
            format!("restores {}", snapshot(restored))
        }
        Output::TakeSnapshot { index } => format!("takes a snapshot at {index}"),
        Output::Proposal { fate: ProposalFate::Committed(index), .. } => {
            format!("has its proposal committed at {index}")
        }
        Output::Proposal { fate: ProposalFate::Unknown, .. } => {
            "does not know what becomes of its proposal".to_owned()
        }
        Output::Proposal { fate: ProposalFate::Rejected, .. } => {
            "has its proposal rejected".to_owned()
        }
        Output::Read { index: Some(index), .. } => format!("may read from {index} on"),
        Output::Read { index: None, .. } => "may not read".to_owned(),
        Output::Leadership(now) => match (now.role, now.leader) {
            (RoleKind::Leader, _) => format!("leads in term {}", now.term),
            (RoleKind::Follower | RoleKind::Learner, Some(leader)) => {
                format!("follows {leader} in term {}", now.term)
            }
            (role, _) => format!("is a {} in term {}", name(role), now.term),
        },
    };
    Some(format!("{node} {what}"))
}

fn name(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
        RoleKind::Learner => "learner",
    }
}

pub(crate) fn status(status: &Status) -> String {
    let Status { node, role, term, commit_index, last_index, configuration, .. } = status;
    format!(
        "{node} is a {} in term {term}; commit {commit_index} of {last_index}; {}",
        name(*role),
        members(configuration)
    )
}
