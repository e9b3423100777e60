//! A coherent distributed cache: the MESI protocol, linearizable per key through crashes.

mod view;

pub use view::{Epoch, Incarnation, Member, NodeId, Timestamp, View};
