//! How long it takes to find the owner of a key: groups `ring_lookup_10`, `_100` and `_1000` by
//! the number of nodes.
//!
//! Keys are 16 bytes, taken in turn from a table of 64 Ki, so that the ring and not the branch
//! predictor's memory of a few keys is measured. `hash-only` hashes the same keys and does nothing
//! else: no ring can be faster. `dss-ring` has the default points per weight, `dss-ring-100` has a
//! hundred: the number at which most other rings are compared.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use dss_ring::{HashRing, PointsPerWeight, Position, Weight};

const KEYS: u64 = 1 << 16;

/// Keys without a pattern: a multiplicative sequence, spread over both halves.
fn keys() -> Vec<[u8; 16]> {
    (1..=KEYS)
        .map(|key| {
            let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&mixed.to_be_bytes());
            bytes[8..].copy_from_slice(&mixed.rotate_left(29).to_le_bytes());
            bytes
        })
        .collect()
}

fn ring(nodes: u64, points_per_weight: PointsPerWeight) -> HashRing<u64> {
    let nodes = (0..nodes).map(|node| (node, Weight::ONE));
    HashRing::with_points(nodes, points_per_weight).expect("the nodes are distinct and few")
}

/// Measures `look_up` for one key after the other.
fn member<R>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    keys: &[[u8; 16]],
    look_up: impl Fn(&[u8]) -> R,
) {
    group.bench_function(name, |bencher| {
        let mut keys = keys.iter().cycle();
        bencher.iter(|| look_up(black_box(keys.next().expect("a cycle has no end"))));
    });
}

fn lookup(criterion: &mut Criterion) {
    let keys = keys();
    for nodes in [10, 100, 1_000] {
        let mut group = criterion.benchmark_group(format!("ring_lookup_{nodes}"));
        group.throughput(Throughput::Elements(1));
        member(&mut group, "hash-only", &keys, Position::of_key);
        let default = ring(nodes, PointsPerWeight::DEFAULT);
        member(&mut group, "dss-ring", &keys, |key| default.owner(key).copied());
        let hundred = ring(nodes, PointsPerWeight::new(100).expect("not zero"));
        member(&mut group, "dss-ring-100", &keys, |key| hundred.owner(key).copied());
        group.finish();
    }
}

criterion_group!(benches, lookup);
criterion_main!(benches);
