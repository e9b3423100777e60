//! How long a ring takes to find the owner of a key (groups `ring_lookup_10`, `_100`, `_1000` and
//! `_10000`, by the number of nodes), three distinct nodes (`ring_preference_3_1000`), and to take
//! one more node (`ring_add_node_1000`).
//!
//! Keys are 16 bytes, taken in turn from a table of 64 Ki, so that the ring and not the branch
//! predictor's memory of a few keys is measured. `hash-only` hashes the same keys and does nothing
//! else: no ring can be faster. `dss-ring` and `hashring` have a hundred points a node, at which
//! rings are usually compared, and `pingora-ketama` its 160; `dss-ring-default` has the 2,000 that
//! make our shares even. The peers need the feature `peers`.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]

#[cfg(feature = "peers")]
#[path = "ring/peers.rs"]
mod peers;

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

fn hundred_points() -> PointsPerWeight {
    PointsPerWeight::new(100).expect("not zero")
}

fn lookup(criterion: &mut Criterion) {
    let keys = keys();
    for nodes in [10, 100, 1_000, 10_000] {
        let mut group = criterion.benchmark_group(format!("ring_lookup_{nodes}"));
        group.throughput(Throughput::Elements(1));
        member(&mut group, "hash-only", &keys, Position::of_key);
        let default = ring(nodes, PointsPerWeight::DEFAULT);
        member(&mut group, "dss-ring-default", &keys, |key| default.owner(key).copied());
        let hundred = ring(nodes, hundred_points());
        member(&mut group, "dss-ring", &keys, |key| hundred.owner(key).copied());
        #[cfg(feature = "peers")]
        {
            let hashring = peers::hashring(nodes);
            member(&mut group, "hashring", &keys, |key| hashring.get(&key).map(|point| point.node));
            let ketama = peers::ketama(nodes);
            member(&mut group, "pingora-ketama", &keys, |key| ketama.node(key));
        }
        group.finish();
    }
}

fn preference(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("ring_preference_3_1000");
    group.throughput(Throughput::Elements(1));
    let ring = ring(1_000, hundred_points());
    let sum = |nodes: &mut dyn Iterator<Item = u64>| nodes.sum::<u64>();
    member(&mut group, "dss-ring", &keys, |key| {
        sum(&mut ring.preference_list(key).take(3).copied())
    });
    #[cfg(feature = "peers")]
    {
        let hashring = peers::hashring(1_000);
        member(&mut group, "hashring", &keys, |key| {
            // One more than the replicas asked for, and not always distinct.
            let points = hashring.get_with_replicas(&key, 2).unwrap_or_default();
            sum(&mut points.into_iter().map(|point| point.node))
        });
    }
    group.finish();
}

fn add_node(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_add_node_1000");
    let ring = ring(1_000, hundred_points());
    group.bench_function("dss-ring", |bencher| {
        bencher.iter(|| ring.with_node(black_box(1_000), Weight::ONE));
    });
    #[cfg(feature = "peers")]
    {
        let hashring = peers::hashring(1_000);
        group.bench_function("hashring", |bencher| {
            bencher.iter_batched_ref(
                || hashring.clone(),
                |ring| ring.batch_add(peers::points(black_box(1_000))),
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn migration(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring_diff_1000");
    let old = ring(1_000, hundred_points());
    let new = old.with_node(1_000, Weight::ONE).expect("it is not there yet");
    for replicas in [1, 3] {
        group.bench_function(format!("{replicas} replicas"), |bencher| {
            bencher.iter(|| old.diff(black_box(&new), replicas));
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, preference, add_node, migration);
criterion_main!(benches);
