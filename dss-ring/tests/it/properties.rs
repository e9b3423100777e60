//! What holds for every ring.

use std::collections::{BTreeMap, BTreeSet};

use dss_ring::{HashRing, PointsPerWeight, Position, Weight};
use proptest::prelude::*;
use proptest::sample::subsequence;

/// Few points, so that the walks are long and ranges wrap.
fn points() -> impl Strategy<Value = PointsPerWeight> {
    (1..40_u32).prop_map(|points| PointsPerWeight::new(points).unwrap())
}

fn nodes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(String, Weight)>> {
    let weight = (1..5_u32).prop_map(|weight| Weight::new(weight).unwrap());
    prop::collection::btree_map("[a-z]{0,3}", weight, count)
        .prop_map(|nodes| nodes.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..24), 1..50)
}

/// The rule as it is written, without an index.
fn naive_preference(
    nodes: &[(String, Weight)],
    points: PointsPerWeight,
    key: &[u8],
) -> Vec<String> {
    let mut ring = BTreeSet::new();
    for (node, weight) in nodes {
        for index in 0..weight.get() * points.get() {
            ring.insert((Position::of_point(node.as_bytes(), index), node.as_bytes(), node));
        }
    }
    let key = Position::of_key(key);
    let (before, behind): (Vec<_>, Vec<_>) = ring.into_iter().partition(|(at, ..)| *at < key);
    let mut list = Vec::new();
    for (_, _, node) in behind.into_iter().chain(before) {
        if !list.contains(node) {
            list.push(node.clone());
        }
    }
    list
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_ring_follows_the_rule(nodes in nodes(0..40), points in points(), keys in keys()) {
        let ring = HashRing::with_points(nodes.clone(), points).unwrap();
        for key in keys {
            let expected = naive_preference(&nodes, points, &key);
            let found: Vec<_> = ring.preference_list(&key).cloned().collect();
            prop_assert_eq!(ring.owner(&key), expected.first());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_order_of_insertion_does_not_matter(
        (nodes, shuffled) in nodes(0..12)
            .prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
        points in points(),
    ) {
        let at_once = HashRing::with_points(nodes, points).unwrap();
        let mut one_by_one = HashRing::with_points([], points).unwrap();
        for (node, weight) in shuffled {
            one_by_one = one_by_one.with_node(node, weight).unwrap();
        }
        prop_assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn a_node_that_came_and_went_leaves_no_trace(
        nodes in nodes(1..12),
        which in any::<prop::sample::Index>(),
        points in points(),
    ) {
        let with = HashRing::with_points(nodes.clone(), points).unwrap();
        let (node, weight) = which.get(&nodes);
        let without = with.without_node(node).unwrap();
        let mut others = nodes.clone();
        others.retain(|(other, _)| other != node);
        prop_assert_eq!(&without, &HashRing::with_points(others, points).unwrap());
        prop_assert_eq!(without.with_node(node.clone(), *weight).unwrap(), with);
    }

    #[test]
    fn only_keys_of_the_node_that_comes_or_goes_move(
        nodes in nodes(1..12),
        which in any::<prop::sample::Index>(),
        points in points(),
        keys in keys(),
    ) {
        let with = HashRing::with_points(nodes.clone(), points).unwrap();
        let (node, _) = which.get(&nodes);
        let without = with.without_node(node).unwrap();
        for key in keys {
            let list: Vec<_> = with.preference_list(&key).collect();
            let left: Vec<_> = list.iter().copied().filter(|other| *other != node).collect();
            prop_assert_eq!(without.preference_list(&key).collect::<Vec<_>>(), left);
            if list[0] != node {
                prop_assert_eq!(with.owner(&key), without.owner(&key));
            }
        }
    }

    #[test]
    fn a_node_that_gains_weight_only_takes_keys(
        nodes in nodes(1..12),
        which in any::<prop::sample::Index>(),
        more in 1..4_u32,
        points in points(),
        keys in keys(),
    ) {
        let before = HashRing::with_points(nodes.clone(), points).unwrap();
        let (node, weight) = which.get(&nodes);
        let heavier = Weight::new(weight.get() + more).unwrap();
        let after = before.with_weight(node, heavier).unwrap();
        prop_assert_eq!(after.weight(node), Some(heavier));
        for key in keys {
            if after.owner(&key) != before.owner(&key) {
                prop_assert_eq!(after.owner(&key), Some(node));
            }
        }
        prop_assert_eq!(after.with_weight(node, *weight).unwrap(), before);
    }

    #[test]
    fn a_preference_list_names_every_node_once(
        chosen in subsequence((0..200_u64).collect::<Vec<_>>(), 0..200),
        keys in keys(),
    ) {
        let points = PointsPerWeight::new(5).unwrap();
        let ring =
            HashRing::with_points(chosen.iter().map(|node| (*node, Weight::ONE)), points).unwrap();
        for key in keys.into_iter().take(5) {
            let mut list: Vec<_> = ring.preference_list(&key).copied().collect();
            list.sort_unstable();
            prop_assert_eq!(&list, &chosen);
        }
    }

    #[test]
    fn shares_are_the_ranges_before_the_points(nodes in nodes(1..12), points in points()) {
        let ring = HashRing::with_points(nodes, points).unwrap();
        let all: Vec<_> = ring.points().collect();
        let size = 1_u64 << Position::BITS;
        let mut owned = BTreeMap::<&String, u64>::new();
        for (place, (position, node)) in all.iter().enumerate() {
            let before = all[(place + all.len() - 1) % all.len()].0;
            let range = (position.get() + size - before.get()) % size;
            // One point alone is its own predecessor and owns the whole ring.
            *owned.entry(node).or_default() += if all.len() == 1 { size } else { range };
        }
        for (node, _) in ring.nodes() {
            let expected = owned[node] as f64 / size as f64;
            prop_assert_eq!(ring.share(node), Some(expected));
        }
    }
}
