//! Stretches of the ring.

use alloc::vec::Vec;

use crate::rule::Position;

/// A stretch of the ring: the positions behind `after`, up to `through` and including it. It may
/// run over the end of the positions and go on at 0; where both are the same, it is the whole ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PositionRange {
    /// The last position before it.
    pub after: Position,
    /// Its last position.
    pub through: Position,
}

impl PositionRange {
    /// Whether this position lies in it.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        if self.after < self.through {
            self.after < position && position <= self.through
        } else {
            self.after < position || position <= self.through
        }
    }

    /// How many positions it has: 1 to 2⁴⁸.
    #[must_use]
    pub fn size(&self) -> u64 {
        let ring = 1 << Position::BITS;
        match (ring + self.through.get() - self.after.get()) % ring {
            0 => ring,
            size => size,
        }
    }
}

/// Stretches that cover the ring in order, the first beginning where the last ends, with what they
/// are about: neighbours that are about the same become one.
pub(crate) fn join<T: PartialEq>(
    stretches: impl Iterator<Item = (PositionRange, T)>,
) -> Vec<(PositionRange, T)> {
    let mut joined: Vec<(PositionRange, T)> = Vec::new();
    for (range, about) in stretches {
        match joined.last_mut() {
            Some((last, same)) if *same == about => last.through = range.through,
            _ => joined.push((range, about)),
        }
    }
    if joined.len() > 1 && joined[0].1 == joined[joined.len() - 1].1 {
        let (last, _) = joined.pop().expect("there are at least two");
        joined[0].0.after = last.after;
    }
    joined
}
