//! The Raft group behind the cache: who takes part (the view and its leases), and main memory, or where that is.

mod client;
mod clock;
mod current;
mod leases;
mod machine;
mod membership;
mod memory;
mod register;
mod request;

pub(crate) use self::client::CacheGroup;
pub(crate) use self::current::CurrentCache;
pub(crate) use self::leases::Leases;
pub(crate) use self::machine::{CacheEvents, CacheMachine};
pub(crate) use self::membership::{Lives, Membership, Standing, follow_views};
pub(crate) use self::memory::RaftMemory;
#[cfg(test)]
pub(crate) use self::register::Register;
pub(crate) use self::register::{Claim, Found, RegisterCommand, RegisterReply};

/// What the cache calls the node that Raft calls `node`: the same number.
pub(crate) fn cache_id(node: dss_raft::NodeId) -> dss_mesi::NodeId {
    dss_mesi::NodeId::new(node.get())
}
