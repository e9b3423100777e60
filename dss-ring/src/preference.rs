//! The walk along the ring that meets every node once.

use core::fmt;
use core::iter::FusedIterator;

use crate::met::Met;
use crate::points::{Owner, Point};
use crate::ring::Member;
use crate::zones::Zones;

/// The distinct nodes for a key in the order of preference; from
/// [`HashRing::preference_list`](crate::HashRing::preference_list).
///
/// The next node costs the points up to it: a step or two at the beginning, and about as many
/// steps as there are nodes for the last one. Where there are several zones, the walk begins anew
/// once every zone has given a node.
#[derive(Clone)]
pub struct PreferenceList<'a, N> {
    members: &'a [Member<N>],
    walk: Walk<'a>,
}

impl<'a, N> PreferenceList<'a, N> {
    pub(crate) fn new(members: &'a [Member<N>], walk: Walk<'a>) -> Self {
        Self { members, walk }
    }
}

impl<'a, N> Iterator for PreferenceList<'a, N> {
    type Item = &'a N;

    fn next(&mut self) -> Option<&'a N> {
        self.walk.next(self.members.len()).map(|owner| &self.members[usize::from(owner)].node)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.members.len() - self.walk.met.count();
        (left, Some(left))
    }
}

impl<N> ExactSizeIterator for PreferenceList<'_, N> {}

impl<N> FusedIterator for PreferenceList<'_, N> {}

impl<N> fmt::Debug for PreferenceList<'_, N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PreferenceList")
            .field("met", &self.walk.met.count())
            .field("left", &self.len())
            .finish()
    }
}

/// The walk itself, over owners by number.
#[derive(Clone)]
pub(crate) struct Walk<'a> {
    points: &'a [Point],
    /// The next point to look at; one past the end stands for the first.
    next: usize,
    met: Met,
    /// `None` where all nodes stand in one zone.
    spread: Option<Spread<'a>>,
}

/// The rounds of a walk over several zones.
#[derive(Clone)]
struct Spread<'a> {
    zones: &'a Zones,
    start: usize,
    /// How many rounds are over: how many nodes every zone has given, unless it had fewer.
    round: usize,
    /// The zones that have given a node in this round.
    met: Met,
    /// How many zones give one in this round.
    due: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(points: &'a [Point], zones: &'a Zones, start: usize) -> Self {
        let spread = zones.are_several().then(|| Spread {
            zones,
            start,
            round: 0,
            met: Met::new(),
            due: zones.len(),
        });
        Self { points, next: start, met: Met::new(), spread }
    }

    /// The next of `nodes` nodes in all.
    pub(crate) fn next(&mut self, nodes: usize) -> Option<Owner> {
        if self.met.count() == nodes {
            return None;
        }
        self.begin_round();
        // Every node has a point, so one that was not met lies ahead.
        loop {
            if self.next == self.points.len() {
                self.next = 0;
            }
            let owner = self.points[self.next].owner();
            self.next += 1;
            if let Some(spread) = &mut self.spread {
                let zone = spread.zones.zone_of(owner);
                if spread.met.contains(zone) || !self.met.insert(owner, nodes) {
                    continue;
                }
                spread.met.insert(zone, spread.zones.len());
                return Some(owner);
            }
            if self.met.insert(owner, nodes) {
                return Some(owner);
            }
        }
    }

    /// Starts over once every zone that has a node left has given one.
    fn begin_round(&mut self) {
        let Some(spread) = &mut self.spread else { return };
        if spread.met.count() < spread.due {
            return;
        }
        spread.round += 1;
        spread.due = spread.zones.count_larger_than(spread.round);
        spread.met = Met::new();
        self.next = spread.start;
    }
}
