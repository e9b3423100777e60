//! The rings of others, made as their documentation says.

use std::net::{Ipv4Addr, SocketAddr};

use hashring::HashRing;
use pingora_ketama::{Bucket, Continuum};

/// A point of `hashring`, which leaves it to its user to make several of a node.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) node: u64,
    index: u32,
}

/// The hundred points of a node.
pub(crate) fn points(node: u64) -> Vec<Point> {
    (0..100).map(|index| Point { node, index }).collect()
}

pub(crate) fn hashring(nodes: u64) -> HashRing<Point> {
    let mut ring = HashRing::new();
    ring.batch_add((0..nodes).flat_map(points).collect());
    ring
}

pub(crate) fn ketama(nodes: u64) -> Continuum {
    let buckets: Vec<_> = (0..u32::try_from(nodes).expect("few"))
        .map(|node| Bucket::new(SocketAddr::from((Ipv4Addr::from_bits(node), 80)), 1))
        .collect();
    Continuum::new(&buckets)
}
