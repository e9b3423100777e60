//! A ring on the wire: nodes and weights, never points.

use dss_ring::{HashRing, PointsPerWeight, Weight};

fn ring() -> HashRing<String> {
    let nodes = [("n2", 3), ("n1", 1), ("n3", 2)];
    HashRing::with_points(
        nodes.map(|(node, weight)| (node.to_owned(), Weight::new(weight).unwrap())),
        PointsPerWeight::new(50).unwrap(),
    )
    .unwrap()
    .with_epoch(7)
}

#[test]
fn a_ring_comes_back_equal_and_small() {
    let encoded = postcard::to_allocvec(&ring()).unwrap();
    assert_eq!(encoded, b"\x01\x07\x32\x03\x02n1\x01\x02n2\x03\x02n3\x02");
    let decoded = postcard::from_bytes::<HashRing<String>>(&encoded).unwrap();
    assert_eq!((decoded.epoch(), &decoded), (7, &ring()));
    let empty = HashRing::<String>::new([]).unwrap();
    let encoded = postcard::to_allocvec(&empty).unwrap();
    assert_eq!(postcard::from_bytes::<HashRing<String>>(&encoded).unwrap(), empty);
}

#[test]
fn what_is_no_ring_is_refused() {
    let refused = |rule: u8, points: u32, nodes: Vec<(&str, u32)>| {
        let encoded = postcard::to_allocvec(&(rule, 0_u64, points, nodes)).unwrap();
        postcard::from_bytes::<HashRing<String>>(&encoded).is_err()
    };
    assert!(!refused(1, 50, vec![("n1", 1), ("n2", 2)]), "the layout of this test is right");
    assert!(refused(2, 50, vec![("n1", 1)]), "another rule");
    assert!(refused(1, 0, vec![("n1", 1)]), "no points");
    assert!(refused(1, 50, vec![("n1", 0)]), "no weight");
    assert!(refused(1, 50, vec![("n1", 1), ("n1", 1)]), "a node twice");
    assert!(refused(1, 50, vec![("n1", u32::MAX)]), "too many points");
}
