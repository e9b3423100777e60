//! What a cache tells of lines that it no longer holds.

use bytes::Bytes;

use super::{Cache, Output};
use crate::line::LineState;

/// A line that a cache no longer holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dropped {
    /// Its key.
    pub key: Bytes,
    /// How it was held. What was [`Modified`](LineState::Modified) is written back, unless it is
    /// [forfeited](Cause::Forfeited).
    pub state: LineState,
    /// Why it is not any more.
    pub cause: Cause,
}

/// Why a line is no longer held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// There was no room.
    Capacity,
    /// It was held for as long as lines may be.
    Expired,
    /// Another node wants to write it, or its home to forget it.
    Recalled,
    /// It has another home in a new view.
    Moved,
    /// The node leaves.
    Left,
    /// The node was removed from the view; what it had not stored is lost.
    Forfeited,
}

impl Cache {
    pub(super) fn report(&mut self, key: &Bytes, state: LineState, cause: Cause) {
        self.outputs.push_back(Output::Dropped(Dropped { key: key.clone(), state, cause }));
    }
}
