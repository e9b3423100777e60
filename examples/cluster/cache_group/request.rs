//! What nodes ask the leader of the cache's group.

use std::time::Duration;

use bytes::Bytes;
use dss_mesi::Member;
use serde::{Deserialize, Serialize};

use super::machine::CacheReply;

/// A request between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Commit this command.
    Propose(Bytes),
    /// Extend this member's lease.
    Renew(Member),
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The command was committed and applied.
    Reply(CacheReply),
    /// The lease runs for this long from the moment at which the request was sent.
    Lease(Duration),
    /// The member is not in the view any more, or is about to be removed: it must stop acting.
    LifeIsOver,
    /// Ask another node.
    NotLeader,
    /// Ask again; whether anything was done is unknown.
    Unavailable,
}

pub(super) fn encode(message: &impl Serialize) -> Bytes {
    postcard::to_allocvec(message).expect("it holds nothing that has no form").into()
}

pub(super) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}
