//! Which nodes stand in the same zone.

use alloc::vec::Vec;

use crate::node::RingNode;
use crate::points::Owner;

/// A zone of a ring, by its place in the order of the zones' bytes.
pub(crate) type Zone = u16;

/// The zones of a ring's nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zones {
    /// The zone of each node.
    of: Vec<Zone>,
    /// How many nodes each zone has: at least one.
    sizes: Vec<usize>,
}

impl Zones {
    pub(crate) fn of_nodes<'a, N: RingNode + 'a>(
        nodes: impl ExactSizeIterator<Item = &'a N> + Clone,
    ) -> Self {
        let mut distinct: Vec<_> = nodes.clone().map(RingNode::zone_bytes).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let mut sizes = alloc::vec![0; distinct.len()];
        let of = nodes.map(|node| {
            let zone = distinct.binary_search(&node.zone_bytes()).expect("every zone was listed");
            sizes[zone] += 1;
            Zone::try_from(zone).expect("there are no more zones than nodes")
        });
        let of = of.collect();
        Self { of, sizes }
    }

    /// Whether it makes a difference where a node stands.
    pub(crate) fn are_several(&self) -> bool {
        self.sizes.len() > 1
    }

    pub(crate) fn zone_of(&self, owner: Owner) -> Zone {
        self.of[usize::from(owner)]
    }

    /// How many zones there are.
    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// How many zones have more nodes than this.
    pub(crate) fn count_larger_than(&self, nodes: usize) -> usize {
        self.sizes.iter().filter(|size| **size > nodes).count()
    }
}
