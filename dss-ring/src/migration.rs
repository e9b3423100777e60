//! What has to be copied when one ring takes the place of another.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::node::RingNode;
use crate::points::{Owner, Point};
use crate::preference::Walk;
use crate::range::{PositionRange, join};
use crate::ring::{HashRing, Member};
use crate::rule::Position;

/// What has to move for the keys to be where the new ring has them; from
/// [`HashRing::diff`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationPlan<'a, N> {
    /// The epoch of the ring that it leads away from.
    pub from_epoch: u64,
    /// The epoch of the ring that it leads to.
    pub to_epoch: u64,
    /// The ranges whose replicas change, in the order of the ring. Those that it does not name
    /// stay where they are.
    pub handovers: Vec<Handover<'a, N>>,
}

/// A range of the ring whose replicas change.
///
/// Copy what `holders` have of it to all of `gaining`, and only then let `releasing` drop it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover<'a, N> {
    /// The range.
    pub range: PositionRange,
    /// Who holds it on the old ring, in the order of preference: copy from the first that lives.
    /// Empty where the old ring has no nodes.
    pub holders: Vec<&'a N>,
    /// Who is to hold it and does not yet, in the order of the nodes' bytes.
    pub gaining: Vec<&'a N>,
    /// Who holds it and is not to any longer, in the order of preference.
    pub releasing: Vec<&'a N>,
}

/// What [`Handover`] says, with nodes by their place in their ring; `None` where nothing changes.
type Change = Option<Replaced>;

#[derive(PartialEq)]
struct Replaced {
    holders: Vec<Owner>,
    /// In the new ring.
    gaining: Vec<Owner>,
    releasing: Vec<Owner>,
}

impl<N: RingNode> HashRing<N> {
    /// The plan that leads from this ring to `new` where every key is kept by the first `replicas`
    /// nodes of its preference list.
    ///
    /// A node that is on both rings with the same bytes is the same node. Walks all points of both
    /// rings once: milliseconds for a hundred thousand of them.
    #[must_use]
    pub fn diff<'a>(&'a self, new: &'a Self, replicas: usize) -> MigrationPlan<'a, N> {
        let handovers = if self.is_empty() && new.is_empty() || replicas == 0 {
            Vec::new()
        } else {
            let changes = Changes::new(self, new, replicas);
            let joined = join(changes).into_iter();
            joined
                .filter_map(|(range, change)| Some(handover(self, new, range, &change?)))
                .collect()
        };
        MigrationPlan { from_epoch: self.epoch(), to_epoch: new.epoch(), handovers }
    }
}

/// A change with the nodes themselves.
fn handover<'a, N: RingNode>(
    old: &'a HashRing<N>,
    new: &'a HashRing<N>,
    range: PositionRange,
    replaced: &Replaced,
) -> Handover<'a, N> {
    let nodes = |ring: &'a HashRing<N>, owners: &[Owner]| {
        owners.iter().map(|owner| &ring.members()[usize::from(*owner)].node).collect()
    };
    Handover {
        range,
        holders: nodes(old, &replaced.holders),
        gaining: nodes(new, &replaced.gaining),
        releasing: nodes(old, &replaced.releasing),
    }
}

/// The ring cut at every point of both rings, with what changes in each piece.
struct Changes<'a, N> {
    old: Side<'a, N>,
    new: Side<'a, N>,
    /// The place in the new ring of each node of the old one, where it is there.
    places: Vec<Option<Owner>>,
    replicas: usize,
    /// Where the last piece ended, and where the first one began.
    after: Position,
    before: Vec<Owner>,
    wanted: Vec<Owner>,
}

/// One of the two rings, and how far the walk along it has come.
struct Side<'a, N> {
    ring: &'a HashRing<N>,
    points: &'a [Point],
    next: usize,
}

impl<'a, N: RingNode> Side<'a, N> {
    fn new(ring: &'a HashRing<N>) -> Self {
        Self { ring, points: ring.sorted_points(), next: 0 }
    }

    fn next_position(&self) -> Option<Position> {
        self.points.get(self.next).map(|point| point.position())
    }

    /// The first nodes for the position that the walk stands before.
    fn replicas(&self, count: usize, replicas: &mut Vec<Owner>) {
        replicas.clear();
        let nodes = self.ring.len();
        let mut walk = Walk::new(self.points, self.ring.zones(), self.next);
        replicas.extend(core::iter::from_fn(|| walk.next(nodes)).take(count));
    }

    /// Steps behind this position.
    fn pass(&mut self, position: Position) {
        while self.next_position() == Some(position) {
            self.next += 1;
        }
    }
}

impl<'a, N: RingNode> Changes<'a, N> {
    fn new(old: &'a HashRing<N>, new: &'a HashRing<N>, replicas: usize) -> Self {
        let last = [old, new].into_iter().filter_map(|ring| ring.sorted_points().last());
        let after = last.map(|point| point.position()).max().expect("one of them has points");
        Self {
            places: places(old, new),
            old: Side::new(old),
            new: Side::new(new),
            replicas,
            after,
            before: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// What becomes of the holders, if anything.
    fn change(&self) -> Change {
        let place = |owner: &Owner| self.places[usize::from(*owner)];
        let stays = |owner: &Owner| place(owner).is_some_and(|at| self.wanted.contains(&at));
        let staying = self.before.iter().filter(|owner| stays(owner)).count();
        if staying == self.before.len() && staying == self.wanted.len() {
            return None;
        }
        let held = |at: &Owner| self.before.iter().any(|owner| place(owner) == Some(*at));
        let mut gaining: Vec<Owner> = self.wanted.iter().copied().filter(|at| !held(at)).collect();
        // In which order they will prefer it makes no difference to the copying.
        gaining.sort_unstable();
        let releasing = self.before.iter().copied().filter(|owner| !stays(owner)).collect();
        Some(Replaced { holders: self.before.clone(), gaining, releasing })
    }
}

impl<N: RingNode> Iterator for Changes<'_, N> {
    type Item = (PositionRange, Change);

    fn next(&mut self) -> Option<Self::Item> {
        let positions = [self.old.next_position(), self.new.next_position()];
        let through = positions.into_iter().flatten().min()?;
        let range = PositionRange { after: self.after, through };
        self.old.replicas(self.replicas, &mut self.before);
        self.new.replicas(self.replicas, &mut self.wanted);
        self.old.pass(through);
        self.new.pass(through);
        self.after = through;
        Some((range, self.change()))
    }
}

/// Where in `new` each node of `old` stands.
fn places<N: RingNode>(old: &HashRing<N>, new: &HashRing<N>) -> Vec<Option<Owner>> {
    let mut candidates = (0..=Owner::MAX).zip(new.members()).peekable();
    let place = |member: &Member<N>| {
        let bytes = member.node.ring_bytes();
        loop {
            let (place, candidate) = candidates.peek()?;
            match candidate.node.ring_bytes().cmp(&bytes) {
                Ordering::Less => candidates.next(),
                Ordering::Equal => return Some(*place),
                Ordering::Greater => return None,
            };
        }
    };
    old.members().iter().map(place).collect()
}
