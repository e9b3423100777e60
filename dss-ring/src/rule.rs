//! The hash rule: where a key and the points of a node lie. Whoever follows it, in any language,
//! builds the same ring.
//!
//! This is rule 1 ([`VERSION`]). The hash is XXH3, 64 bits, with seed 0: what every xxHash library
//! calls `xxh3_64`. A [`Position`] is the upper 48 bits of a hash.
//!
//! - **Key**: the hash of the key's bytes, all of them and nothing else.
//! - **Point `index`** of a node, `index` from 0 up to weight × points per weight, excluded: the
//!   hash of these bytes (integers are big-endian):
//!
//!   | offset | length | content |
//!   | --- | --- | --- |
//!   | 0 | 8 | `dss-ring` in ASCII |
//!   | 8 | 1 | the version of the rule, `01` |
//!   | 9 | 8 | *n*, the number of bytes of the node |
//!   | 17 | *n* | the bytes of the node ([`RingNode::ring_bytes`](crate::RingNode::ring_bytes)) |
//!   | 17 + *n* | 4 | `index` |
//!
//!   Every field is of known length, so that no two points have the same bytes: point 11 of
//!   `node1` has nothing in common with point 1 of `node11`.
//! - **Owner** of a key: the node of the first point whose position is that of the key or follows
//!   it, after the highest position the lowest again. Where points of several nodes share the
//!   position, they stand in the order of the nodes' bytes.
//! - **Preference list**: from the owner's point on, clockwise, each node where it is met first.
//!   Where the nodes stand in several [zones](crate::RingNode::zone_bytes), in rounds, each from
//!   the owner's point on: a round takes of every zone the first node that was not taken yet, in
//!   the order in which they are met.
//!
//! Because the points of a node are numbered, a node whose weight grows keeps all the points that
//! it had, and so the keys.

use alloc::vec::Vec;
use core::fmt;

use xxhash_rust::xxh3::xxh3_64;

/// The version of the rule that this crate follows. Another rule would be another version, and
/// its positions have nothing to do with these.
pub const VERSION: u8 = 1;

/// The first bytes of everything hashed into a point.
const TAG: &[u8; 8] = b"dss-ring";

/// A place on the ring: 0 up to 2⁴⁸, excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// How many bits a position has.
    pub const BITS: u32 = 48;

    /// Where this key lies.
    #[must_use]
    pub fn of_key(key: &[u8]) -> Self {
        Self(xxh3_64(key) >> (64 - Self::BITS))
    }

    /// Where this point of the node with these bytes lies.
    #[must_use]
    pub fn of_point(node: &[u8], index: u32) -> Self {
        PointHasher::new(node).position(index)
    }

    /// The bare number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// A number known to be below 2⁴⁸.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        debug_assert!(bits >> Self::BITS == 0);
        Self(bits)
    }
}

impl fmt::Display for Position {
    /// Twelve hexadecimal digits, so that text sorts as positions do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:012x}", self.0)
    }
}

/// Hashes the points of one node; the bytes are laid out once.
pub(crate) struct PointHasher {
    layout: Vec<u8>,
    index_at: usize,
}

impl PointHasher {
    pub(crate) fn new(node: &[u8]) -> Self {
        let length = u64::try_from(node.len()).expect("a length in memory is below 2^64");
        let mut layout = Vec::with_capacity(TAG.len() + 1 + 8 + node.len() + 4);
        layout.extend_from_slice(TAG);
        layout.push(VERSION);
        layout.extend_from_slice(&length.to_be_bytes());
        layout.extend_from_slice(node);
        let index_at = layout.len();
        layout.extend_from_slice(&[0; 4]);
        Self { layout, index_at }
    }

    pub(crate) fn position(&mut self, index: u32) -> Position {
        self.layout[self.index_at..].copy_from_slice(&index.to_be_bytes());
        Position(xxh3_64(&self.layout) >> (64 - Position::BITS))
    }
}
