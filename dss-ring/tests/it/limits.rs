//! What happens at the edges: nothing there, twice there, too much.

use std::sync::Arc;

use dss_ring::{HashRing, NODES_MAX, PointsPerWeight, Position, RingError, RingNode, Weight};

fn ring(nodes: &[&'static str]) -> HashRing<&'static str> {
    HashRing::new(nodes.iter().map(|node| (*node, Weight::ONE))).unwrap()
}

fn weight(weight: u32) -> Weight {
    Weight::new(weight).unwrap()
}

#[test]
fn a_ring_without_nodes_has_no_owner() {
    let empty = ring(&[]);
    assert_eq!(empty.owner(b"key"), None);
    assert_eq!(empty.preference_list(b"key").next(), None);
    assert_eq!(empty.nodes().count(), 0);
    assert_eq!(empty.share(&"n1"), None);
    assert!(empty.is_empty());
    assert_eq!(empty.with_node("n1", Weight::ONE).unwrap(), ring(&["n1"]));
}

#[test]
fn a_single_node_owns_everything() {
    let alone = ring(&["n1"]);
    assert_eq!(alone.owner(b""), Some(&"n1"));
    assert_eq!(alone.preference_list(b"key").collect::<Vec<_>>(), [&"n1"]);
    assert_eq!(alone.share(&"n1"), Some(1.0));
    let single_point =
        HashRing::with_points([("n1", Weight::ONE)], PointsPerWeight::new(1).unwrap()).unwrap();
    assert_eq!(single_point.share(&"n1"), Some(1.0));
    assert_eq!(single_point.owner(b"key"), Some(&"n1"));
    assert!(alone.without_node(&"n1").unwrap().is_empty());
}

#[test]
fn a_node_cannot_be_there_twice() {
    let twice = [("n1", Weight::ONE), ("n2", Weight::ONE), ("n1", weight(3))];
    assert_eq!(HashRing::new(twice), Err(RingError::DuplicateNode));
    assert_eq!(ring(&["n1"]).with_node("n1", weight(2)), Err(RingError::DuplicateNode));
}

#[test]
fn an_unknown_node_cannot_be_changed_or_asked_about() {
    let ring = ring(&["n1", "n3"]);
    assert_eq!(ring.without_node(&"n2"), Err(RingError::UnknownNode));
    assert_eq!(ring.with_weight(&"n2", weight(2)), Err(RingError::UnknownNode));
    assert_eq!((ring.share(&"n2"), ring.weight(&"n2")), (None, None));
}

#[test]
fn a_weight_of_zero_does_not_exist() {
    assert_eq!(Weight::new(0), None);
    assert_eq!(PointsPerWeight::new(0), None);
    assert_eq!(Weight::new(1), Some(Weight::ONE));
}

#[test]
fn a_preference_list_gives_what_is_there_and_no_more() {
    let ring = ring(&["n1", "n2", "n3"]);
    assert_eq!(ring.preference_list(b"key").take(0).count(), 0);
    assert_eq!(ring.preference_list(b"key").take(2).count(), 2);
    assert_eq!(ring.preference_list(b"key").take(9).count(), 3);
    let mut list = ring.preference_list(b"key");
    assert_eq!(list.len(), 3);
    list.by_ref().nth(2).unwrap();
    assert_eq!((list.len(), list.next(), list.next()), (0, None, None));
}

#[test]
fn weights_that_were_bytes_are_refused() {
    let nodes = [("n1", weight(u32::MAX)), ("n2", weight(u32::MAX))];
    assert_eq!(HashRing::new(nodes), Err(RingError::TooManyPoints));
    let ring = ring(&["n1", "n2"]);
    assert_eq!(ring.with_node("n3", weight(1 << 25)), Err(RingError::TooManyPoints));
    assert_eq!(ring.with_weight(&"n1", weight(1 << 25)), Err(RingError::TooManyPoints));
}

#[test]
fn a_ring_holds_its_limit_of_nodes_and_not_one_more() {
    let nodes = |count: usize| (0..count as u64).map(|node| (node, Weight::ONE));
    let one = PointsPerWeight::new(1).unwrap();
    let full = HashRing::with_points(nodes(NODES_MAX), one).unwrap();
    assert_eq!(full.preference_list(b"key").count(), NODES_MAX);
    assert_eq!(full.with_node(u64::MAX, Weight::ONE), Err(RingError::TooManyNodes));
    let above = HashRing::with_points(nodes(NODES_MAX + 1), one);
    assert_eq!(above, Err(RingError::TooManyNodes));
}

#[test]
fn a_node_is_its_bytes_whatever_its_type() {
    let names = ["n1", "n2", "n3"];
    let text = ring(&names);
    let strings = HashRing::new(names.map(|name| (name.to_owned(), Weight::ONE))).unwrap();
    let shared = HashRing::new(names.map(|name| (Arc::<str>::from(name), Weight::ONE))).unwrap();
    for key in 0..100_u32 {
        let key = key.to_be_bytes();
        assert_eq!(text.owner(&key).unwrap(), strings.owner(&key).unwrap());
        assert_eq!(text.owner(&key).unwrap(), &&**shared.owner(&key).unwrap());
    }
    assert_eq!(*258_u64.ring_bytes(), [0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(*258_u32.ring_bytes(), [0, 0, 1, 2]);
}

#[test]
fn numbered_names_that_join_alike_share_no_point() {
    assert_ne!(Position::of_point(b"node1", 11), Position::of_point(b"node11", 1));
}

#[test]
fn a_ring_prints_its_nodes_and_not_its_points() {
    let printed = format!("{:?}", ring(&["n1"]));
    assert_eq!(
        printed,
        r#"HashRing { epoch: 0, points_per_weight: 2000, nodes: {"n1": Weight(1)} }"#
    );
}

#[test]
fn every_change_is_another_epoch_of_the_same_placement() {
    let made = ring(&["n1", "n2"]);
    let grown = made.with_node("n3", Weight::ONE).unwrap();
    let changed = grown.with_weight(&"n3", weight(2)).unwrap();
    let shrunk = changed.without_node(&"n3").unwrap();
    assert_eq!([&made, &grown, &changed, &shrunk].map(HashRing::epoch), [0, 1, 2, 3]);
    assert_eq!(shrunk, made);
    let last = made.with_epoch(u64::MAX);
    assert_eq!(last.with_node("n3", Weight::ONE).unwrap().epoch(), u64::MAX);
}

#[test]
fn refusals_say_why() {
    assert_eq!(RingError::DuplicateNode.to_string(), "the node is on the ring already");
    assert_eq!(RingError::Full.to_string(), "no node of the ring has room for another key");
    assert_eq!(RingError::TooManyNodes.to_string(), "a ring has at most 65536 nodes");
    assert_eq!(RingError::TooManyPoints.to_string(), "a ring has at most 33554432 points");
}

#[test]
fn the_whole_ring_as_one_range_holds_every_position() {
    let alone =
        HashRing::with_points([("n1", Weight::ONE)], PointsPerWeight::new(1).unwrap()).unwrap();
    let [whole] = alone.owned_ranges(&"n1")[..] else { panic!("one range") };
    assert_eq!((whole.after, whole.size()), (whole.through, 1 << Position::BITS));
    let keys = (0..100_u32).map(|key| Position::of_key(&key.to_be_bytes()));
    assert!(keys.chain([whole.through]).all(|position| whole.contains(position)));
}

#[test]
fn a_range_holds_its_end_and_not_what_it_begins_behind() {
    let pair = ring(&["n1", "n2"]);
    let ranges: Vec<_> = ["n1", "n2"].iter().flat_map(|node| pair.owned_ranges(node)).collect();
    assert!(ranges.iter().any(|range| range.after > range.through), "one runs over the end");
    for range in ranges {
        assert!(range.contains(range.through) && !range.contains(range.after), "{range:?}");
    }
}

#[test]
fn what_is_shown_says_what_there_is() {
    let three = ring(&["n1", "n2", "n3"]);
    let mut list = three.preference_list(b"key");
    assert_eq!(format!("{list:?}"), "PreferenceList { met: 0, left: 3 }");
    list.next();
    assert_eq!(format!("{list:?}"), "PreferenceList { met: 1, left: 2 }");
    assert_eq!(format!("{:>3}", weight(7)), "  7");
}
