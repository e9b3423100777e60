//! A ring as nodes and weights; the points are rebuilt, never trusted.

use alloc::vec::Vec;

use serde::de::Error as _;
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::node::RingNode;
use crate::ring::HashRing;
use crate::rule;
use crate::weight::{PointsPerWeight, Weight};

impl<N: Serialize> Serialize for HashRing<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut ring = serializer.serialize_struct("HashRing", 4)?;
        ring.serialize_field("rule", &rule::VERSION)?;
        ring.serialize_field("epoch", &self.epoch())?;
        ring.serialize_field("points_per_weight", &self.points_per_weight())?;
        ring.serialize_field("nodes", &Nodes(self))?;
        ring.end()
    }
}

/// The nodes of a ring as a sequence of pairs, without collecting them.
struct Nodes<'a, N>(&'a HashRing<N>);

impl<N: Serialize> Serialize for Nodes<'_, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut nodes = serializer.serialize_seq(Some(self.0.len()))?;
        for pair in self.0.nodes() {
            nodes.serialize_element(&pair)?;
        }
        nodes.end()
    }
}

#[derive(Deserialize)]
#[serde(rename = "HashRing", deny_unknown_fields)]
struct Parts<N> {
    rule: u8,
    epoch: u64,
    points_per_weight: PointsPerWeight,
    nodes: Vec<(N, Weight)>,
}

impl<'de, N: RingNode + Deserialize<'de>> Deserialize<'de> for HashRing<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::<N>::deserialize(deserializer)?;
        if parts.rule != rule::VERSION {
            return Err(D::Error::custom("the ring follows another version of the hash rule"));
        }
        Self::with_points(parts.nodes, parts.points_per_weight)
            .map(|ring| ring.with_epoch(parts.epoch))
            .map_err(D::Error::custom)
    }
}
