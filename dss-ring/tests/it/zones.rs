//! Preference lists over zones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use dss_ring::{HashRing, PointsPerWeight, RingNode, Weight};
use proptest::prelude::*;

/// A numbered node in a numbered zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    number: u16,
    zone: u8,
}

impl RingNode for Server {
    fn ring_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.number.to_be_bytes().into())
    }

    fn zone_bytes(&self) -> Cow<'_, [u8]> {
        Cow::Owned(vec![self.zone])
    }
}

fn ring(zones: &[u8]) -> HashRing<Server> {
    let servers = (0..).zip(zones).map(|(number, zone)| Server { number, zone: *zone });
    let points = PointsPerWeight::new(7).unwrap();
    HashRing::with_points(servers.map(|server| (server, Weight::ONE)), points).unwrap()
}

/// The rule as it is written: of the plain list, in rounds, the first of every zone.
fn naive_spread(plain: &[Server]) -> Vec<Server> {
    let mut left = plain.to_vec();
    let mut list = Vec::new();
    while !left.is_empty() {
        let mut taken = Vec::new();
        left.retain(|server| {
            let first = !taken.contains(&server.zone);
            if first {
                taken.push(server.zone);
                list.push(server.clone());
            }
            !first
        });
    }
    list
}

proptest! {
    #[test]
    fn a_list_over_zones_follows_the_rule(
        zones in prop::collection::vec(0..6_u8, 0..40),
        key in any::<[u8; 8]>(),
    ) {
        let spread = ring(&zones);
        // The same nodes, all in one zone.
        let plain = ring(&vec![0; zones.len()]);
        let plain: Vec<_> = plain
            .preference_list(&key)
            .map(|server| Server { zone: zones[usize::from(server.number)], ..server.clone() })
            .collect();
        let list = spread.preference_list(&key);
        prop_assert_eq!(list.len(), zones.len());
        let list: Vec<_> = list.cloned().collect();
        prop_assert_eq!(spread.owner(&key), list.first());
        prop_assert_eq!(list, naive_spread(&plain));
    }
}

#[test]
fn three_replicas_stand_in_three_zones_however_the_nodes_are_spread() {
    // Zone 0 has most of the nodes, and so most of the points.
    let ring = ring(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    for key in 0..1_000_u32 {
        let mut count = BTreeMap::new();
        for server in ring.preference_list(&key.to_be_bytes()).take(3) {
            *count.entry(server.zone).or_insert(0) += 1;
        }
        assert_eq!(count, BTreeMap::from([(0, 1), (1, 1), (2, 1)]));
    }
}

#[test]
fn more_zones_than_fit_in_place_are_spread_over_too() {
    let ring = ring(&(0..100).collect::<Vec<u8>>().repeat(2));
    let zones: Vec<_> = ring.preference_list(b"key").map(|server| server.zone).collect();
    for round in zones.chunks(100) {
        let mut round = round.to_vec();
        round.sort_unstable();
        assert_eq!(round, (0..100).collect::<Vec<u8>>());
    }
}
