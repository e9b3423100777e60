//! Ranges, and the plan from one ring to another.

use std::collections::BTreeSet;

use dss_ring::{HashRing, PointsPerWeight, Position, PositionRange, Weight};
use proptest::prelude::*;

type Ring = HashRing<u32>;

fn ring(nodes: &BTreeSet<u32>, points: u32) -> Ring {
    let nodes = nodes.iter().map(|node| (*node, Weight::ONE));
    HashRing::with_points(nodes, PointsPerWeight::new(points).unwrap()).unwrap()
}

fn nodes() -> impl Strategy<Value = BTreeSet<u32>> {
    prop::collection::btree_set(0..12_u32, 0..9)
}

fn replicas(ring: &Ring, key: &[u8], count: usize) -> BTreeSet<u32> {
    ring.preference_list(key).take(count).copied().collect()
}

fn set(nodes: &[&u32]) -> BTreeSet<u32> {
    nodes.iter().map(|node| **node).collect()
}

proptest! {
    #[test]
    fn every_key_lies_in_one_range_of_its_owner_and_in_no_other(
        nodes in nodes(),
        points in 1..20_u32,
        keys in prop::collection::vec(any::<[u8; 6]>(), 1..40),
    ) {
        let ring = ring(&nodes, points);
        for key in keys {
            let position = Position::of_key(&key);
            for node in &nodes {
                let ranges = ring.owned_ranges(node);
                let hits = ranges.iter().filter(|range| range.contains(position)).count();
                prop_assert_eq!(hits, usize::from(ring.owner(&key) == Some(node)));
            }
        }
    }

    #[test]
    fn the_ranges_of_all_nodes_are_the_ring(nodes in nodes(), points in 1..20_u32) {
        let ring = ring(&nodes, points);
        let ranges = nodes.iter().flat_map(|node| ring.owned_ranges(node));
        let covered: u64 = ranges.map(|range| range.size()).sum();
        prop_assert_eq!(covered, if nodes.is_empty() { 0 } else { 1 << Position::BITS });
        prop_assert_eq!(ring.owned_ranges(&99), []);
    }

    #[test]
    fn a_plan_moves_what_changes_and_nothing_else(
        before in nodes(),
        after in nodes(),
        points in 1..20_u32,
        count in 0..4_usize,
        keys in prop::collection::vec(any::<[u8; 6]>(), 1..40),
    ) {
        let (old, new) = (ring(&before, points), ring(&after, points).with_epoch(9));
        let plan = old.diff(&new, count);
        prop_assert_eq!((plan.from_epoch, plan.to_epoch), (0, 9));
        for key in keys {
            let position = Position::of_key(&key);
            let (had, has) = (replicas(&old, &key, count), replicas(&new, &key, count));
            let handovers: Vec<_> =
                plan.handovers.iter().filter(|part| part.range.contains(position)).collect();
            prop_assert_eq!(handovers.len(), usize::from(had != has), "{:?} {:?}", had, has);
            for part in handovers {
                let holders: Vec<_> = old.preference_list(&key).take(count).collect();
                prop_assert_eq!(&part.holders, &holders);
                prop_assert_eq!(set(&part.gaining), &has - &had);
                prop_assert_eq!(set(&part.releasing), &had - &has);
            }
        }
    }

    #[test]
    fn neighbouring_handovers_differ(
        before in nodes(),
        after in nodes(),
        points in 1..20_u32,
    ) {
        let (old, new) = (ring(&before, points), ring(&after, points));
        let plan = old.diff(&new, 2);
        for pair in plan.handovers.windows(2) {
            let apart = pair[0].range.through != pair[1].range.after;
            let same = pair[0].holders == pair[1].holders
                && pair[0].gaining == pair[1].gaining
                && pair[0].releasing == pair[1].releasing;
            prop_assert!(apart || !same);
        }
        prop_assert_eq!(old.diff(&old, 3).handovers, []);
    }
}

#[test]
fn a_newcomer_gains_its_ranges_and_nobody_else_any() {
    let old = ring(&(0..5).collect(), 100);
    let new = old.with_node(5, Weight::ONE).unwrap();
    let plan = old.diff(&new, 1);
    let gained: Vec<PositionRange> = plan.handovers.iter().map(|part| part.range).collect();
    let gained: u64 = gained.iter().map(PositionRange::size).sum();
    let owned: u64 = new.owned_ranges(&5).iter().map(PositionRange::size).sum();
    assert_eq!(gained, owned);
    assert!(
        plan.handovers.iter().all(|part| part.gaining == [&5] && part.holders == part.releasing)
    );
    assert_eq!((plan.from_epoch, plan.to_epoch), (0, 1));
}

#[test]
fn the_only_node_owns_one_range_that_is_the_ring() {
    let ring = ring(&BTreeSet::from([3]), 50);
    let [range] = ring.owned_ranges(&3)[..] else { panic!("one range") };
    assert_eq!((range.after, range.size()), (range.through, 1 << Position::BITS));
    assert!(range.contains(Position::of_key(b"any")));
}

#[test]
fn the_first_node_of_all_has_nothing_to_copy() {
    let (none, one) = (ring(&BTreeSet::new(), 3), ring(&BTreeSet::from([1]), 3));
    let came = none.diff(&one, 2).handovers;
    assert_eq!(came.len(), 1);
    assert_eq!((came[0].holders.len(), &came[0].gaining[..]), (0, &[&1][..]));
    assert_eq!(came[0].range.size(), 1 << Position::BITS);
    let went = one.diff(&none, 2).handovers;
    assert_eq!((&went[0].releasing[..], went[0].gaining.len()), (&[&1][..], 0));
    assert_eq!(none.diff(&none, 2).handovers, []);
}
