//! The Raft group of what operators decide: tokens, and how far the audit log of each node goes.
//!
//! It is small and changes rarely. Every node has all of it at hand ([`ControlGroup::state`]), so
//! that a request is judged without asking anybody; a change is there a heartbeat after it was
//! committed. What else operators decide belongs here too, as one more [`ControlCommand`].

mod client;
mod heads;
mod machine;
mod members;
mod tokens;

#[cfg(test)]
pub(crate) use self::client::ControlCourier;
pub(crate) use self::client::{ControlGroup, NoMajority};
pub(crate) use self::heads::{AuditHead, Chain};
pub(crate) use self::machine::{ControlCommand, ControlMachine, ControlReply, ControlState};
pub(crate) use self::members::{
    ChangedMember, MemberChanges, MemberCommand, MemberReply, Standing,
};
pub(crate) use self::tokens::{Role, SecretHash, Token, TokenCommand, TokenReply};
