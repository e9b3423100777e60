//! Bounded loads.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use dss_ring::{BoundedLoads, HashRing, LoadBound, PointsPerWeight, RingError, Weight};
use proptest::prelude::*;

fn ring(nodes: u32) -> Arc<HashRing<u32>> {
    let weights = (0..nodes).map(|node| (node, Weight::new(node % 3 + 1).unwrap()));
    Arc::new(HashRing::with_points(weights, PointsPerWeight::new(10).unwrap()).unwrap())
}

fn per_weight(keys: u64) -> LoadBound {
    LoadBound::PerWeight(NonZeroU64::new(keys).unwrap())
}

proptest! {
    #[test]
    fn no_node_is_given_more_than_its_bound(
        nodes in 1..12_u32,
        permille in 0..600_u32,
        steps in prop::collection::vec((any::<u32>(), prop::bool::weighted(0.3)), 1..200),
    ) {
        let ring = ring(nodes);
        let weights: u32 = ring.nodes().map(|(_, weight)| weight.get()).sum();
        let mut loads = BoundedLoads::new(ring.clone(), LoadBound::AboveMean { permille });
        let mut carried = Vec::new();
        for (key, release) in steps {
            if release && let Some(node) = carried.pop() {
                loads.release(&node).unwrap();
                continue;
            }
            let node = *loads.assign(&key.to_be_bytes()).unwrap();
            carried.push(node);
            // Counted anew, in floating point, with the paper's formula.
            let load = carried.iter().filter(|other| **other == node).count();
            let mean = carried.len() as f64 / f64::from(weights);
            let weight = f64::from(ring.weight(&node).unwrap().get());
            let bound = (1.0 + f64::from(permille) / 1_000.0) * mean * weight;
            prop_assert!(load as f64 <= (bound - 1e-9).ceil(), "{} above {}", load, bound);
            prop_assert_eq!(loads.load(&node), Some(load as u64));
        }
        prop_assert_eq!(loads.total(), carried.len() as u64);
    }

    #[test]
    fn a_key_goes_to_the_first_node_that_has_room(
        nodes in 1..8_u32,
        keys in prop::collection::vec(any::<u32>(), 1..60),
    ) {
        let ring = ring(nodes);
        let mut loads = BoundedLoads::new(ring.clone(), per_weight(3));
        let mut carried = BTreeMap::<u32, u64>::new();
        for key in keys {
            let key = key.to_be_bytes();
            let room = |node: &&u32| {
                let load = carried.get(node).copied().unwrap_or(0);
                load < 3 * u64::from(ring.weight(node).unwrap().get())
            };
            let expected = ring.preference_list(&key).find(room).ok_or(RingError::Full);
            prop_assert_eq!(loads.assign(&key), expected);
            if let Ok(node) = expected {
                *carried.entry(*node).or_default() += 1;
            }
        }
    }
}

#[test]
fn a_full_ring_says_so_until_something_is_released() {
    let nodes = [("n1", Weight::ONE), ("n2", Weight::ONE)];
    let mut loads = BoundedLoads::new(Arc::new(HashRing::new(nodes).unwrap()), per_weight(2));
    for key in 0..4_u8 {
        loads.assign(&[key]).unwrap();
    }
    assert_eq!(loads.assign(b"key"), Err(RingError::Full));
    assert_eq!(loads.capacity(&"n1"), Some(2));
    loads.release(&"n1").unwrap();
    assert_eq!(loads.assign(b"key"), Ok(&"n1"));
    let mut nowhere =
        BoundedLoads::new(Arc::new(HashRing::<&str>::new([]).unwrap()), per_weight(2));
    assert_eq!(nowhere.assign(b"key"), Err(RingError::Full));
}

#[test]
fn what_is_not_there_cannot_be_released() {
    let mut loads = BoundedLoads::new(ring(2), LoadBound::AboveMean { permille: 100 });
    assert_eq!(loads.release(&0), Err(RingError::UnknownNode));
    assert_eq!(loads.release(&7), Err(RingError::UnknownNode));
    assert_eq!((loads.load(&7), loads.capacity(&7)), (None, None));
}

#[test]
fn only_keys_of_a_node_that_left_are_assigned_anew() {
    let old = ring(6);
    let mut loads = BoundedLoads::new(old.clone(), LoadBound::AboveMean { permille: 250 });
    let keys: Vec<_> = (0..600_u32).map(u32::to_be_bytes).collect();
    let homes: Vec<u32> = keys.iter().map(|key| *loads.assign(key).unwrap()).collect();
    loads.change_ring(Arc::new(old.without_node(&4).unwrap()));
    let left: Vec<_> =
        keys.iter().zip(&homes).filter(|(_, home)| **home == 4).map(|(key, _)| key).collect();
    assert_eq!(loads.total(), (keys.len() - left.len()) as u64);
    for key in left {
        assert_ne!(*loads.assign(key).unwrap(), 4);
    }
    assert_eq!(loads.total(), 600);
    for (node, _) in loads.ring().clone().nodes() {
        assert!(loads.load(node) <= loads.capacity(node), "{node}");
    }
}
