//! Who takes part, and the time that deadlines are measured in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A member of the cluster. Chosen by the user, unique, never reused for another machine.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NodeId(u64);

/// One life of a node: a node that restarts must take a new, larger one, since its cache is gone.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Incarnation(u64);

/// The number of a [`View`]. [`Epoch::ZERO`] is before the first one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Epoch(u64);

macro_rules! number {
    ($name:ident) => {
        impl $name {
            #[doc = concat!("The `", stringify!($name), "` with this number.")]
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number!(NodeId);
number!(Incarnation);
number!(Epoch);

impl Epoch {
    /// Before the first view.
    pub const ZERO: Self = Self(0);

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One life of one node, taking part in a [`View`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// Who takes part, from one membership change to the next.
///
/// The default is the view before the first one: [`Epoch::ZERO`], nobody.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct View {
    /// Its number: of two views the one with the larger epoch is in force.
    pub epoch: Epoch,
    /// The members, sorted by node, at most one life of each.
    pub members: Vec<Member>,
}

impl View {
    /// The life of `node` that takes part, if any does.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        let place = self.members.binary_search_by_key(&node, |member| member.node).ok()?;
        Some(self.members[place].incarnation)
    }

    /// Whether exactly this life of this node takes part.
    #[must_use]
    pub fn contains(&self, member: Member) -> bool {
        self.incarnation(member.node) == Some(member.incarnation)
    }

    /// The nodes that take part, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().map(|member| member.node)
    }
}

/// A point in time: how long after an origin of the driver's choosing, monotonic.
///
/// Only differences mean anything; timestamps of two nodes, or of two lives of one, have nothing
/// to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The origin.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The point this long after the origin.
    #[must_use]
    pub const fn since_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long after `earlier` this is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_life_of_a_member_is_not_contained() {
        let member =
            |node, life| Member { node: NodeId::new(node), incarnation: Incarnation::new(life) };
        let view = View { epoch: Epoch::new(3), members: vec![member(1, 7), member(4, 2)] };
        assert!(view.contains(member(4, 2)));
        assert!(!view.contains(member(4, 3)));
        assert_eq!(view.incarnation(NodeId::new(2)), None);
        assert_eq!(view.nodes().collect::<Vec<_>>(), [NodeId::new(1), NodeId::new(4)]);
    }
}
