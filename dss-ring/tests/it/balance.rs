//! How evenly keys fall, counted.

use std::collections::BTreeMap;

use dss_ring::{HashRing, Weight};

/// How many of `keys` keys each node gets.
fn count(ring: &HashRing<String>, keys: u64) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for key in 0..keys {
        let owner = ring.owner(format!("key-{key}").as_bytes()).unwrap();
        *counts.entry(owner.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn a_hundred_equal_nodes_stay_within_a_tenth_of_the_mean() {
    for naming in ["node-", "10.0.0.", "shard-"] {
        let nodes = (0..100).map(|node| (format!("{naming}{node}"), Weight::ONE));
        let ring = HashRing::new(nodes).unwrap();
        let counts = count(&ring, 1_000_000);
        assert_eq!(counts.len(), 100);
        let most = *counts.values().max().unwrap();
        assert!(most <= 11_000, "{naming}: the fullest node has {most} keys, the mean is 10,000");
    }
}

#[test]
fn keys_follow_the_weights() {
    let weights = [1, 1, 2, 3, 5, 8];
    let total: u32 = weights.iter().sum();
    let nodes = weights
        .iter()
        .enumerate()
        .map(|(node, weight)| (format!("n{node}"), Weight::new(*weight).unwrap()));
    let ring = HashRing::new(nodes).unwrap();
    let counts = count(&ring, 200_000);
    let mut shares = 0.0;
    for (node, weight) in ring.nodes() {
        let fair = f64::from(weight.get()) / f64::from(total);
        let share = ring.share(node).unwrap();
        let counted = counts[node.as_str()] as f64 / 200_000.0;
        // One in √2000 is 2.2 %: four of those, and a bit for the counting.
        assert!((share / fair - 1.0).abs() < 0.09, "{node}: {share} instead of {fair}");
        assert!((counted / share - 1.0).abs() < 0.05, "{node}: {counted} counted, {share} owned");
        shares += share;
    }
    assert!((shares - 1.0).abs() < 1e-9);
}

#[test]
fn a_newcomer_takes_about_its_share() {
    let nodes = (0..10).map(|node| (format!("n{node}"), Weight::ONE));
    let before = HashRing::new(nodes).unwrap();
    let after = before.with_node("n10".to_owned(), Weight::ONE).unwrap();
    let keys = 100_000_u32;
    let moved = (0..keys)
        .filter(|key| before.owner(&key.to_be_bytes()) != after.owner(&key.to_be_bytes()))
        .count();
    let fair = f64::from(keys) / 11.0;
    assert!((moved as f64 / fair - 1.0).abs() < 0.1, "{moved} moved, {fair:.0} would be fair");
}
