//! A coherent distributed cache: the MESI protocol, linearizable per key through crashes.

pub mod membership;
mod view;

pub use membership::{
    LeaseConfig, LeaseConfigError, LeaseGranter, LeaseHolder, Refused, Renewal, ViewCommand,
    ViewDecodeError, ViewTable,
};
pub use view::{Epoch, Incarnation, Member, NodeId, Timestamp, View};
