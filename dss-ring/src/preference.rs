//! The walk along the ring that meets every node once.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::iter::FusedIterator;

use crate::points::{Owner, Point};
use crate::ring::Member;

/// How many nodes are remembered in place; from the next one on in a bit set on the heap. Sixteen
/// is beyond any number of replicas, and comparing sixteen half-words costs next to nothing.
const IN_PLACE: usize = 16;

/// The distinct nodes for a key in the order of preference; from
/// [`HashRing::preference_list`](crate::HashRing::preference_list).
///
/// The next node costs the points up to it: a step or two at the beginning, and about as many
/// steps as there are nodes for the last one.
#[derive(Clone)]
pub struct PreferenceList<'a, N> {
    members: &'a [Member<N>],
    points: &'a [Point],
    /// The next point to look at; one past the end stands for the first.
    next: usize,
    met: Met,
}

impl<'a, N> PreferenceList<'a, N> {
    pub(crate) fn new(members: &'a [Member<N>], points: &'a [Point], start: usize) -> Self {
        Self { members, points, next: start, met: Met::InPlace { owners: [0; IN_PLACE], count: 0 } }
    }
}

impl<'a, N> Iterator for PreferenceList<'a, N> {
    type Item = &'a N;

    fn next(&mut self) -> Option<&'a N> {
        if self.met.count() == self.members.len() {
            return None;
        }
        // Every node has a point, so one that was not met lies ahead.
        loop {
            if self.next == self.points.len() {
                self.next = 0;
            }
            let owner = self.points[self.next].owner();
            self.next += 1;
            if self.met.insert(owner, self.members.len()) {
                return Some(&self.members[usize::from(owner)].node);
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.members.len() - self.met.count();
        (left, Some(left))
    }
}

impl<N> ExactSizeIterator for PreferenceList<'_, N> {}

impl<N> FusedIterator for PreferenceList<'_, N> {}

impl<N> fmt::Debug for PreferenceList<'_, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PreferenceList")
            .field("met", &self.met.count())
            .field("left", &self.len())
            .finish()
    }
}

/// The nodes met so far.
#[derive(Clone)]
enum Met {
    InPlace { owners: [Owner; IN_PLACE], count: usize },
    Bits { words: Vec<u64>, count: usize },
}

impl Met {
    fn count(&self) -> usize {
        match self {
            Self::InPlace { count, .. } | Self::Bits { count, .. } => *count,
        }
    }

    /// Whether this one of `nodes` nodes is met for the first time.
    fn insert(&mut self, owner: Owner, nodes: usize) -> bool {
        if let Self::InPlace { owners, count } = self {
            if owners[..*count].contains(&owner) {
                return false;
            }
            if let Some(free) = owners.get_mut(*count) {
                *free = owner;
                *count += 1;
                return true;
            }
            let mut words = vec![0; nodes.div_ceil(64)];
            for met in owners {
                set(&mut words, *met);
            }
            *self = Self::Bits { words, count: *count };
        }
        match self {
            Self::InPlace { .. } => unreachable!("a full list in place has become a bit set"),
            Self::Bits { words, count } => {
                let first = set(words, owner);
                *count += usize::from(first);
                first
            }
        }
    }
}

/// Sets the bit and says whether it was clear.
fn set(words: &mut [u64], owner: Owner) -> bool {
    let word = &mut words[usize::from(owner) / 64];
    let bit = 1 << (owner % 64);
    let first = *word & bit == 0;
    *word |= bit;
    first
}
