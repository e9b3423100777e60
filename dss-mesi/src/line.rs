//! The states of a line.

use serde::{Deserialize, Serialize};

/// How a cache holds a line: the four letters of the protocol's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LineState {
    /// Held by nobody else, and newer than main memory.
    Modified,
    /// Held by nobody else, and as in main memory.
    Exclusive,
    /// Maybe held by others too, and as in main memory.
    Shared,
    /// Not held.
    Invalid,
}

impl LineState {
    /// `M`, `E`, `S` or `I`.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Modified => 'M',
            Self::Exclusive => 'E',
            Self::Shared => 'S',
            Self::Invalid => 'I',
        }
    }

    /// Whether the holder may write without asking.
    #[must_use]
    pub(crate) const fn is_owned(self) -> bool {
        matches!(self, Self::Modified | Self::Exclusive)
    }
}
