//! The ring itself.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use crate::error::RingError;
use crate::node::RingNode;
use crate::points::{Owner, Point, Points};
use crate::preference::{PreferenceList, Walk};
use crate::range::{PositionRange, join};
use crate::rule::{PointHasher, Position};
use crate::weight::{PointsPerWeight, Weight};
use crate::zones::Zones;

/// How many nodes a ring can have: 65,536. A point packs its owner into 16 bits.
pub const NODES_MAX: usize = 1 << Owner::BITS;

/// How many points a ring can have: 2²⁵, which is 400 MB. A limit against weights that were meant
/// to be relative and came in bytes.
pub const POINTS_MAX: usize = 1 << 25;

/// A consistent hash ring, immutable: a change returns the next ring.
///
/// Two rings of the same nodes, weights and points per weight are equal and agree on every key,
/// whichever way they came about. See the [crate documentation](crate) for what it is and costs,
/// and [`rule`](crate::rule) for how a key finds its node.
#[derive(Clone)]
pub struct HashRing<N> {
    /// Sorted by their bytes, each once.
    members: Vec<Member<N>>,
    zones: Zones,
    points_per_weight: PointsPerWeight,
    points: Points,
    epoch: u64,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Member<N> {
    pub(crate) node: N,
    pub(crate) weight: Weight,
}

impl<N: RingNode> HashRing<N> {
    /// The ring of these nodes, in any order, with the default number of points. A ring without
    /// nodes is a ring on which nothing has an owner.
    ///
    /// # Errors
    ///
    /// Where a node is given twice, or there are too many nodes or points.
    pub fn new(nodes: impl IntoIterator<Item = (N, Weight)>) -> Result<Self, RingError> {
        Self::with_points(nodes, PointsPerWeight::DEFAULT)
    }

    /// The ring of these nodes with this many points for each unit of weight: more of them for
    /// more even shares, fewer for a smaller ring.
    ///
    /// # Errors
    ///
    /// Where a node is given twice, or there are too many nodes or points.
    pub fn with_points(
        nodes: impl IntoIterator<Item = (N, Weight)>,
        points_per_weight: PointsPerWeight,
    ) -> Result<Self, RingError> {
        let mut members = Vec::new();
        for (node, weight) in nodes {
            if members.len() == NODES_MAX {
                return Err(RingError::TooManyNodes);
            }
            members.push(Member { node, weight });
        }
        members.sort_by(|a, b| a.node.ring_bytes().cmp(&b.node.ring_bytes()));
        if members.windows(2).any(|pair| pair[0].node.ring_bytes() == pair[1].node.ring_bytes()) {
            return Err(RingError::DuplicateNode);
        }
        let mut sorted = Points::with_room_for(count_points(&members, points_per_weight)?);
        for (owner, member) in (0..=Owner::MAX).zip(&members) {
            sorted.extend(points_of(member, owner, points_per_weight));
        }
        sorted.sort_unstable();
        Ok(Self::assemble(members, points_per_weight, sorted, 0))
    }

    /// A ring of sorted members and sorted points.
    fn assemble(
        members: Vec<Member<N>>,
        points_per_weight: PointsPerWeight,
        sorted: Vec<Point>,
        epoch: u64,
    ) -> Self {
        let zones = Zones::of_nodes(members.iter().map(|member| &member.node));
        Self { members, zones, points_per_weight, points: Points::from_sorted(sorted), epoch }
    }

    /// The node that this key belongs to; `None` on a ring without nodes.
    #[must_use]
    #[inline]
    pub fn owner(&self, key: &[u8]) -> Option<&N> {
        let found = self.points.find(Position::of_key(key))?;
        Some(&self.members[usize::from(self.points.owner_at(found))].node)
    }

    /// The distinct nodes for this key, its [owner](Self::owner) first, then whoever takes over
    /// when those before are gone: `take(k)` gives *k* replicas. The list ends with the last node
    /// of the ring, so that a `k` above their number gives each once.
    ///
    /// Where nodes say in which [zone](RingNode::zone_bytes) they stand, no zone is named twice
    /// before every zone was named once.
    ///
    /// The first sixteen are found without allocating.
    #[must_use]
    pub fn preference_list(&self, key: &[u8]) -> PreferenceList<'_, N> {
        PreferenceList::new(&self.members, self.preference_walk(key))
    }

    /// The preference list by numbers.
    pub(crate) fn preference_walk(&self, key: &[u8]) -> Walk<'_> {
        let start = self.points.find(Position::of_key(key)).unwrap_or(0);
        Walk::new(self.points.as_slice(), &self.zones, start)
    }

    /// The ring with this node as well. Only keys that this node owns from then on move.
    ///
    /// # Errors
    ///
    /// [`DuplicateNode`](RingError::DuplicateNode) where the node is there already, whatever its
    /// weight; or where the ring gets too large.
    pub fn with_node(&self, node: N, weight: Weight) -> Result<Self, RingError> {
        let Err(at) = self.find_member(&node) else {
            return Err(RingError::DuplicateNode);
        };
        if self.members.len() == NODES_MAX {
            return Err(RingError::TooManyNodes);
        }
        let mut members = Vec::with_capacity(self.members.len() + 1);
        members.extend_from_slice(&self.members[..at]);
        members.push(Member { node, weight });
        members.extend_from_slice(&self.members[at..]);
        let total = count_points(&members, self.points_per_weight)?;

        let newcomer = Owner::try_from(at).expect("a ring has at most NODES_MAX nodes");
        let mut added: Vec<Point> =
            points_of(&members[at], newcomer, self.points_per_weight).collect();
        added.sort_unstable();
        // Owners behind the newcomer move up by one, which changes nothing about their order.
        let sorted = merge(self.points.as_slice(), &added, total, |point| {
            point.with_owner(point.owner() + Owner::from(point.owner() >= newcomer))
        });
        Ok(Self::assemble(members, self.points_per_weight, sorted, self.next_epoch()))
    }

    /// The ring without this node. Only the keys that it owned move.
    ///
    /// # Errors
    ///
    /// [`UnknownNode`](RingError::UnknownNode) where the node is not on the ring.
    pub fn without_node(&self, node: &N) -> Result<Self, RingError> {
        let at = self.find_member(node).map_err(|_| RingError::UnknownNode)?;
        let mut members = self.members.clone();
        members.remove(at);
        let leaver = Owner::try_from(at).expect("a ring has at most NODES_MAX nodes");
        let kept = self.points.as_slice().iter().filter(|point| point.owner() != leaver);
        let total = count_points(&members, self.points_per_weight)?;
        let mut sorted = Points::with_room_for(total);
        sorted.extend(kept.map(|point| {
            let owner = point.owner();
            point.with_owner(owner - Owner::from(owner > leaver))
        }));
        Ok(Self::assemble(members, self.points_per_weight, sorted, self.next_epoch()))
    }

    /// The ring with another weight for a node that is there. A node that gains weight only takes
    /// keys, one that loses weight only gives some away.
    ///
    /// # Errors
    ///
    /// [`UnknownNode`](RingError::UnknownNode) where the node is not on the ring; or where the
    /// ring gets too large.
    pub fn with_weight(&self, node: &N, weight: Weight) -> Result<Self, RingError> {
        let at = self.find_member(node).map_err(|_| RingError::UnknownNode)?;
        let changed = self.without_node(node)?.with_node(self.members[at].node.clone(), weight)?;
        Ok(changed.with_epoch(self.next_epoch()))
    }

    /// The weight of this node; `None` where it is not on the ring.
    #[must_use]
    pub fn weight(&self, node: &N) -> Option<Weight> {
        self.find_member(node).ok().map(|at| self.members[at].weight)
    }

    /// Which part of the ring, 0 to 1, this node owns: the part of all keys that it can expect.
    /// `None` where it is not on the ring. Reads every point.
    #[must_use]
    pub fn share(&self, node: &N) -> Option<f64> {
        self.find_member(node).ok()?;
        let owned: u64 = self.owned_ranges(node).iter().map(PositionRange::size).sum();
        Some(owned as f64 / (1_u64 << Position::BITS) as f64)
    }

    /// The ranges that this node owns, in the order of the ring; none where it is not on the ring.
    /// Neighbouring ranges are one. Reads every point.
    #[must_use]
    pub fn owned_ranges(&self, node: &N) -> Vec<PositionRange> {
        let Ok(at) = self.find_member(node) else { return Vec::new() };
        let points = self.points.as_slice();
        let mut after = points.last().map(|point| point.position());
        let mut stretches = Vec::new();
        for point in points {
            let through = point.position();
            let before = after.replace(through).expect("a ring with a point has a last one");
            // Of several points at one position the first has all that lies before them.
            if before != through || stretches.is_empty() {
                let range = PositionRange { after: before, through };
                stretches.push((range, usize::from(point.owner()) == at));
            }
        }
        join(stretches.into_iter())
            .into_iter()
            .filter_map(|(range, own)| own.then_some(range))
            .collect()
    }

    fn next_epoch(&self) -> u64 {
        self.epoch.saturating_add(1)
    }

    /// Where this node stands among the members, or where it would.
    pub(crate) fn find_member(&self, node: &N) -> Result<usize, usize> {
        let wanted: Cow<'_, [u8]> = node.ring_bytes();
        self.members.binary_search_by(|member| member.node.ring_bytes().cmp(&wanted))
    }
}

impl<N> HashRing<N> {
    /// The nodes with their weights, in the order of their bytes.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&N, Weight)> {
        self.members.iter().map(|member| (&member.node, member.weight))
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many changes led here: 0 for a ring made at once, and one more for every
    /// [`with_node`](Self::with_node), [`without_node`](Self::without_node) and
    /// [`with_weight`](Self::with_weight); or what [`with_epoch`](Self::with_epoch) said.
    ///
    /// With it, of two rings the newer one is known. It has no part in the placement, nor in
    /// whether two rings are equal.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The same ring with this epoch, for who counts changes elsewhere: by the membership's view.
    #[must_use]
    pub fn with_epoch(mut self, epoch: u64) -> Self {
        self.epoch = epoch;
        self
    }

    pub(crate) fn members(&self) -> &[Member<N>] {
        &self.members
    }

    pub(crate) fn zones(&self) -> &Zones {
        &self.zones
    }

    pub(crate) fn sorted_points(&self) -> &[Point] {
        self.points.as_slice()
    }

    /// How many points a node has for each unit of its weight.
    #[must_use]
    pub fn points_per_weight(&self) -> PointsPerWeight {
        self.points_per_weight
    }

    /// All points with their nodes, in the order of the ring. The node of a point owns what lies
    /// between the point before, excluded, and this one, included.
    pub fn points(&self) -> impl ExactSizeIterator<Item = (Position, &N)> {
        let points = self.points.as_slice().iter();
        points.map(|point| (point.position(), &self.members[usize::from(point.owner())].node))
    }
}

impl<N: PartialEq> PartialEq for HashRing<N> {
    /// Whether both have the same nodes with the same weights and points: who owns what follows.
    fn eq(&self, other: &Self) -> bool {
        self.points_per_weight == other.points_per_weight && self.members == other.members
    }
}

impl<N: Eq> Eq for HashRing<N> {}

impl<N: fmt::Debug> fmt::Debug for HashRing<N> {
    /// The nodes with their weights; the points follow from them and are thousands.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HashRing")
            .field("epoch", &self.epoch)
            .field("points_per_weight", &self.points_per_weight.get())
            .field("nodes", &fmt::from_fn(|nodes| nodes.debug_map().entries(self.nodes()).finish()))
            .finish()
    }
}

/// How many points these members have together.
fn count_points<N>(
    members: &[Member<N>],
    points_per_weight: PointsPerWeight,
) -> Result<usize, RingError> {
    let weights = members.iter().map(|member| u64::from(member.weight.get())).sum::<u64>();
    let points = weights.checked_mul(u64::from(points_per_weight.get()));
    let points = points.and_then(|points| usize::try_from(points).ok());
    points.filter(|points| *points <= POINTS_MAX).ok_or(RingError::TooManyPoints)
}

/// The points of one member, in the order of their indices.
fn points_of<N: RingNode>(
    member: &Member<N>,
    owner: Owner,
    points_per_weight: PointsPerWeight,
) -> impl Iterator<Item = Point> {
    let mut hasher = PointHasher::new(&member.node.ring_bytes());
    // `count_points` has refused what would overflow.
    let points = member.weight.get() * points_per_weight.get();
    (0..points).map(move |index| Point::new(hasher.position(index), owner))
}

/// Two sorted sequences as one: the few that are added between the many that are kept, which are
/// first changed in a way that keeps their order.
fn merge(
    mut kept: &[Point],
    added: &[Point],
    total: usize,
    change: impl Fn(Point) -> Point,
) -> Vec<Point> {
    let mut sorted = Points::with_room_for(total);
    for point in added {
        let (before, behind) = kept.split_at(kept.partition_point(|kept| change(*kept) < *point));
        sorted.extend(before.iter().copied().map(&change));
        sorted.push(*point);
        kept = behind;
    }
    sorted.extend(kept.iter().copied().map(&change));
    sorted
}
