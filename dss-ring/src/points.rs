//! The points of a ring, packed and indexed for a lookup near the limit of the memory.

use alloc::vec;
use alloc::vec::Vec;

use crate::rule::Position;

/// Which of the ring's nodes, which are sorted by their bytes.
pub(crate) type Owner = u16;

/// How many points a search looks at together: where in them the wanted one is, is random, and to
/// count those before it costs less than a branch that is guessed wrong every other time. One
/// window is enough in 99 of 100 searches.
const WINDOW: usize = 4;

/// One point in one word: the position above, the owner below. Words sort by position and then by
/// owner, which is the order of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point(u64);

impl Point {
    pub(crate) const fn new(position: Position, owner: Owner) -> Self {
        Self((position.get() << Owner::BITS) | owner as u64)
    }

    /// The same point of a node whose number has changed.
    pub(crate) const fn with_owner(self, owner: Owner) -> Self {
        Self(self.0 >> Owner::BITS << Owner::BITS | owner as u64)
    }

    pub(crate) const fn position(self) -> Position {
        Position::from_bits(self.0 >> Owner::BITS)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the owner is the lower half-word")]
    pub(crate) const fn owner(self) -> Owner {
        self.0 as Owner
    }
}

/// The sorted points, with an index by position: as many buckets as points, each naming the first
/// point at or behind its start. Positions are as good as random, so that the point wanted is this
/// one or one of the next few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Points {
    /// The points in order and then, unless there are none, a [`WINDOW`] of sentinels at the last
    /// position that have the first point's owner: a search never runs out and needs no case for
    /// the wrap.
    sorted: Vec<Point>,
    /// Where the search for a position in each bucket begins.
    starts: Vec<u32>,
}

impl Points {
    /// A vector for this many points that [`from_sorted`](Self::from_sorted) need not enlarge.
    pub(crate) fn with_room_for(points: usize) -> Vec<Point> {
        Vec::with_capacity(points + WINDOW)
    }

    /// The index over these points, which are in order.
    pub(crate) fn from_sorted(mut sorted: Vec<Point>) -> Self {
        debug_assert!(sorted.is_sorted());
        let buckets = sorted.len();
        // How many points lie in the buckets before each, without a branch on where the points
        // lie, which is random: how many lie in each, added up.
        let mut starts = vec![0_u32; buckets + 1];
        for point in &sorted {
            starts[bucket(point.position(), buckets) + 1] += 1;
        }
        starts.truncate(buckets);
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        if let Some(first) = sorted.first().copied() {
            let last_position = Position::from_bits((1 << Position::BITS) - 1);
            sorted.extend([Point::new(last_position, first.owner()); WINDOW]);
        }
        Self { sorted, starts }
    }

    /// The points in order.
    pub(crate) fn as_slice(&self) -> &[Point] {
        &self.sorted[..self.starts.len()]
    }

    /// The first point at this position or behind it; the index of the first sentinel, which is one
    /// past the last point, where it is the first point of all. `None` if there are no points.
    pub(crate) fn find(&self, position: Position) -> Option<usize> {
        let wanted = Point::new(position, 0);
        let start = *self.starts.get(bucket(position, self.starts.len()))?;
        let mut index = usize::try_from(start).ok()?;
        loop {
            // Sentinels are never below what is wanted.
            let window: &[Point; WINDOW] = self.sorted[index..].first_chunk()?;
            let below = window.iter().map(|point| usize::from(*point < wanted)).sum::<usize>();
            index += below;
            if below < WINDOW {
                return Some(index);
            }
        }
    }

    /// The owner of the point that [`find`](Self::find) named.
    pub(crate) fn owner_at(&self, index: usize) -> Owner {
        self.sorted[index].owner()
    }
}

/// In which of `buckets` equal parts of the ring a position lies. Multiplying instead of taking
/// the upper bits allows any number of parts, and so as many as there are points; the upper 32
/// bits of the position are enough for that, and their product fits into a word.
fn bucket(position: Position, buckets: usize) -> usize {
    const UPPER: u32 = 32;
    (((position.get() >> (Position::BITS - UPPER)) * buckets as u64) >> UPPER) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(sorted: &[Point], position: Position) -> Option<usize> {
        let behind = sorted.iter().position(|point| point.position() >= position);
        (!sorted.is_empty()).then(|| behind.unwrap_or(sorted.len()))
    }

    fn positions() -> impl Strategy<Value = u64> {
        let last = (1_u64 << Position::BITS) - 1;
        prop_oneof![0..=last, 0..4_u64, (last - 4)..=last, Just(1 << 40)]
    }

    proptest! {
        #[test]
        fn find_agrees_with_a_walk_from_the_start(
            points in prop::collection::vec((positions(), any::<Owner>()), 0..60),
            probes in prop::collection::vec(positions(), 1..60),
        ) {
            let mut sorted: Vec<Point> = points
                .into_iter()
                .map(|(position, owner)| Point::new(Position::from_bits(position), owner))
                .collect();
            sorted.sort_unstable();
            let index = Points::from_sorted(sorted.clone());
            prop_assert_eq!(index.as_slice(), &sorted[..]);
            for probe in probes.into_iter().chain(sorted.iter().map(|p| p.position().get())) {
                let probe = Position::from_bits(probe);
                let found = index.find(probe);
                prop_assert_eq!(found, naive(&sorted, probe));
                if let Some(found) = found {
                    prop_assert_eq!(index.owner_at(found), sorted[found % sorted.len()].owner());
                }
            }
        }
    }

    #[test]
    fn a_point_keeps_position_and_owner_apart() {
        let last = Position::from_bits((1 << Position::BITS) - 1);
        let point = Point::new(last, Owner::MAX);
        assert_eq!((point.position(), point.owner()), (last, Owner::MAX));
        assert!(
            Point::new(Position::from_bits(7), Owner::MAX) < Point::new(Position::from_bits(8), 0)
        );
    }
}
