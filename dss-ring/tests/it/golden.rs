//! The hash rule against vectors that another implementation computed.

use std::collections::BTreeMap;
use std::str::SplitWhitespace;

use dss_ring::{HashRing, PointsPerWeight, Position, Weight, rule};

const VECTORS: &str = include_str!("../golden/rule_1.txt");

/// What a line of the file says after its first word.
struct Fields<'a>(SplitWhitespace<'a>);

impl<'a> Fields<'a> {
    fn word(&mut self) -> &'a str {
        self.0.next().expect("a field is missing")
    }

    fn bytes(&mut self) -> Vec<u8> {
        bytes(self.word())
    }

    /// Checks a hash against the position that follows it, which is its upper 48 bits.
    fn position(&mut self) -> String {
        let hash = u64::from_str_radix(self.word(), 16).unwrap();
        let position = self.word().to_owned();
        assert_eq!(format!("{:012x}", hash >> 16), position, "the file contradicts itself");
        position
    }
}

fn bytes(written: &str) -> Vec<u8> {
    match written.split_once(':').expect("bytes without their kind") {
        ("text", text) => text.as_bytes().to_vec(),
        ("seq", length) => (0..=250).cycle().take(length.parse().unwrap()).collect(),
        ("hex", digits) => (0..digits.len() / 2)
            .map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).unwrap())
            .collect(),
        (kind, _) => panic!("unknown kind {kind}"),
    }
}

fn text(written: &str) -> String {
    String::from_utf8(bytes(written)).unwrap()
}

/// The lines that start with this word.
fn lines(kind: &str) -> Vec<Fields<'static>> {
    let found: Vec<_> = VECTORS
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next() == Some(kind)).then_some(Fields(fields))
        })
        .collect();
    assert!(!found.is_empty(), "no line of kind {kind}");
    found
}

fn rings() -> BTreeMap<&'static str, HashRing<String>> {
    let build = |mut fields: Fields<'static>| {
        let name = fields.word();
        let points = PointsPerWeight::new(fields.word().parse().unwrap()).unwrap();
        let nodes: Vec<_> = fields
            .0
            .map(|node| {
                let (node, weight) = node.split_once('=').unwrap();
                (text(node), Weight::new(weight.parse().unwrap()).unwrap())
            })
            .collect();
        (name, HashRing::with_points(nodes, points).unwrap())
    };
    lines("ring").into_iter().map(build).collect()
}

#[test]
fn this_is_the_rule_of_the_vectors() {
    assert_eq!(rule::VERSION, 1);
}

#[test]
fn keys_lie_where_the_rule_says() {
    for mut fields in lines("key") {
        let key = fields.bytes();
        assert_eq!(Position::of_key(&key).to_string(), fields.position(), "{key:?}");
    }
}

#[test]
fn points_lie_where_the_rule_says() {
    for mut fields in lines("point") {
        let (node, index) = (fields.bytes(), fields.word().parse().unwrap());
        let position = Position::of_point(&node, index);
        assert_eq!(position.to_string(), fields.position(), "{node:?} {index}");
    }
}

#[test]
fn rings_begin_with_the_points_of_the_vectors() {
    let rings = rings();
    let mut seen = BTreeMap::<&str, usize>::new();
    for mut fields in lines("first") {
        let name = fields.word();
        let place = seen.entry(name).or_default();
        let (position, node) = rings[name].points().nth(*place).unwrap();
        assert_eq!((position.to_string().as_str(), node), (fields.word(), &text(fields.word())));
        *place += 1;
    }
}

#[test]
fn keys_prefer_the_nodes_of_the_vectors() {
    let rings = rings();
    for mut fields in lines("prefer") {
        let (name, key) = (fields.word(), fields.bytes());
        let expected: Vec<_> = fields.0.map(text).collect();
        let found: Vec<_> = rings[name].preference_list(&key).cloned().collect();
        assert_eq!(found, expected, "{name} {key:?}");
        assert_eq!(rings[name].owner(&key), expected.first(), "{name} {key:?}");
    }
}
