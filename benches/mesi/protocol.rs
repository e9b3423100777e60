//! What goes between nodes: three of them in this process, and main memory too.

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use dss_mesi::{CacheConfig, CacheNode, Condition, WritePolicy};

use crate::cluster::{Cluster, capacity, key};

/// More keys than the nodes have room for: each get misses.
const KEYS: u32 = 4_096;

fn write_back() -> CacheConfig {
    capacity(1_000).policy(WritePolicy::WriteBack { flush: Duration::from_secs(3_600) })
}

async fn write(node: &CacheNode, key: &Bytes, value: &Bytes) {
    let written = node.put(key.clone(), value.clone(), Condition::None).await;
    written.expect("nothing is in the way");
}

async fn read(node: &CacheNode, key: &Bytes) {
    node.get(key.clone()).await.expect("nothing is in the way");
}

/// Measures `operation` after `prepare`, and shows how many messages each takes, of which some go
/// side by side, or after the answer.
#[expect(clippy::needless_pass_by_value, reason = "closures are written where they are passed")]
fn measure(
    criterion: &mut Criterion,
    name: &str,
    config: &CacheConfig,
    prepare: impl AsyncFn(&[CacheNode], u32),
    operation: impl AsyncFn(&[CacheNode], u32),
) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let cluster = Cluster::start(3, config);
    let nodes = &cluster.nodes;
    let (mut number, mut messages, mut operations) = (0, 0, 0_u64);
    let mut group = criterion.benchmark_group(name);
    group.bench_function("dss-mesi", |bencher| {
        bencher.iter_custom(|count| {
            runtime.block_on(async {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    number += 1;
                    prepare(nodes, number).await;
                    let sent = cluster.sent();
                    let begun = Instant::now();
                    operation(nodes, number).await;
                    time += begun.elapsed();
                    messages += cluster.sent() - sent;
                    operations += 1;
                }
                time
            })
        });
    });
    group.finish();
    println!("{name}: {:.2} messages an operation", per(messages, operations));
}

fn per(messages: u64, operations: u64) -> f64 {
    let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(messages) / number(operations.max(1))
}

pub(crate) fn all(criterion: &mut Criterion) {
    let value = Bytes::from_static(&[7; 64]);
    let same = key(1);
    let nothing = async |_: &[CacheNode], _| {};
    measure(criterion, "mesi_miss", &capacity(1_000), nothing, async |nodes, number| {
        read(&nodes[0], &key(number % KEYS)).await;
    });
    measure(criterion, "mesi_write_owned", &write_back(), nothing, async |nodes, _| {
        write(&nodes[0], &same, &value).await;
    });
    let shared = async |nodes: &[CacheNode], _| {
        for node in nodes {
            read(node, &same).await;
        }
    };
    measure(criterion, "mesi_write_shared_3", &write_back(), shared, async |nodes, _| {
        // The home is one of them, and writes.
        write(&nodes[2], &same, &value).await;
    });
    measure(criterion, "mesi_pingpong", &write_back(), nothing, async |nodes, number| {
        // The home is the third.
        write(&nodes[usize::from(number % 2 == 0)], &same, &value).await;
    });
}
