//! What clients ask of a cache, and what they are answered.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::error::CacheError;
use crate::line::LineState;
use crate::message::Want;
use crate::version::Version;
use crate::view::{NodeId, Timestamp};

/// Names an operation between its start and its [`Answer`]. Chosen by the caller, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(u64);

impl OperationId {
    /// The operation with this number.
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

/// What must hold for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// There is a value and it has this version.
    Matches(Version),
    /// There is no value.
    Absent,
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    /// The value.
    pub value: Bytes,
    /// Which write it comes from.
    pub version: Version,
    /// How this node holds the line.
    pub state: LineState,
    /// Whether it was here already.
    pub hit: bool,
}

/// Who holds a line, from its home and the caches.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LineView {
    /// Its home.
    pub home: NodeId,
    /// The newest version that any of them knows; `None` where it was never written.
    pub version: Option<Version>,
    /// How each member of the view holds it. What a member does not say is taken from the home.
    pub states: BTreeMap<NodeId, LineState>,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Of a read: what is there, if anything is.
    Read(Option<Read>),
    /// Of a write: done, with this version.
    Written(Version),
    /// Of a removal: done, with this version; `None` where there was nothing to remove.
    Removed(Option<Version>),
    /// Of an inspection.
    Line(LineView),
    /// It failed.
    Failed(CacheError),
}

impl Answer {
    /// What may be said once the lease is over: whatever depends on the line having been valid
    /// may be wrong, and a write may have gone to a line that was lost already.
    pub(super) fn past_lease(self) -> Self {
        match self {
            Self::Written(_) | Self::Removed(Some(_)) => Self::Failed(CacheError::Indeterminate),
            Self::Read(_)
            | Self::Removed(None)
            | Self::Line(_)
            | Self::Failed(CacheError::VersionMismatch { .. }) => {
                Self::Failed(CacheError::LeaseExpired)
            }
            failed @ Self::Failed(_) => failed,
        }
    }
}

/// What an operation does with a line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Read,
    /// Reads, and wants to write next; where there is no value, the line is held until then.
    Own {
        hold: Option<Timestamp>,
    },
    Put {
        value: Bytes,
        condition: Condition,
    },
    Remove {
        condition: Condition,
    },
}

/// An operation that has not been done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Operation {
    pub(super) id: OperationId,
    pub(super) action: Action,
}

/// What an operation makes of a line's present value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// It changes nothing.
    Unchanged(Answer),
    /// It writes this; `None` is a tombstone.
    Write(Option<Bytes>),
}

impl Operation {
    pub(super) fn is_read(&self) -> bool {
        matches!(self.action, Action::Read | Action::Own { .. })
    }

    pub(super) fn want(&self) -> Want {
        if self.action == Action::Read { Want::Shared } else { Want::Exclusive }
    }

    /// What the operation, unless a read, does to a line with this value.
    pub(super) fn effect(&self, version: Option<Version>, value: Option<&Bytes>) -> Effect {
        let current = version.filter(|_| value.is_some());
        let holds = |condition| match condition {
            Condition::None => true,
            Condition::Matches(expected) => current == Some(expected),
            Condition::Absent => current.is_none(),
        };
        let mismatch = Answer::Failed(CacheError::VersionMismatch { current });
        match &self.action {
            Action::Read | Action::Own { .. } => {
                unreachable!("a read is answered before effects are asked for")
            }
            Action::Put { value, condition } if holds(*condition) => {
                Effect::Write(Some(value.clone()))
            }
            Action::Remove { condition } if holds(*condition) => match current {
                Some(_) => Effect::Write(None),
                None => Effect::Unchanged(Answer::Removed(None)),
            },
            Action::Put { .. } | Action::Remove { .. } => Effect::Unchanged(mismatch),
        }
    }

    /// What it is answered once its write has this version.
    pub(super) const fn written(&self, version: Version) -> Answer {
        match self.action {
            Action::Read | Action::Own { .. } | Action::Put { .. } => Answer::Written(version),
            Action::Remove { .. } => Answer::Removed(Some(version)),
        }
    }
}
