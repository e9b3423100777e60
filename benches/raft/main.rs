//! What consensus costs; see the table in README.md.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]

mod cluster;
mod driver;
mod durable;
#[cfg(feature = "peers")]
mod openraft_peer;
#[cfg(feature = "peers")]
mod raft_rs;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use cluster::Cluster;
use driver::{Service, closed_loop, runtime};
use durable::{DurableGroup, PlainFile};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Groups `raft_core_*`: entries per second of three cores in one thread, in batches.
fn core(criterion: &mut Criterion) {
    fn member<C: Cluster>(group: &mut Group<'_>, batch: u64) {
        // Criterion calls this once per sample; the cluster goes on.
        let mut cluster = None;
        group.bench_function(C::NAME, |bencher| {
            let cluster = cluster.get_or_insert_with(C::start);
            bencher.iter(|| cluster.commit(batch));
        });
    }
    for batch in [1, 64, 1024] {
        let mut group = criterion.benchmark_group(format!("raft_core_{batch}"));
        group.throughput(Throughput::Elements(batch));
        member::<cluster::DssRaft>(&mut group, batch);
        #[cfg(feature = "peers")]
        member::<raft_rs::RaftRs>(&mut group, batch);
        group.finish();
    }
}

/// Measures how long it takes until each of so many clients has written once more, while all of
/// them write all the time.
fn closed_loop_member<S: Service>(group: &mut Group<'_>, clients: u64) {
    let runtime = runtime();
    // Criterion calls this once per sample; the service goes on.
    let mut service = None;
    group.bench_function(S::NAME, |bencher| {
        let service = service.get_or_insert_with(|| runtime.block_on(S::start()));
        bencher.iter_custom(|writes| runtime.block_on(closed_loop(service, clients, writes)));
    });
    drop(service);
    runtime.shutdown_background();
}

/// Groups `raft_driver_*`: writes per second of three nodes on tokio, by the number of clients.
fn driver(criterion: &mut Criterion) {
    for clients in [1, 64, 256, 1024, 4096] {
        let mut group = criterion.benchmark_group(format!("raft_driver_{clients}"));
        group.throughput(Throughput::Elements(clients));
        closed_loop_member::<driver::DssRaft>(&mut group, clients);
        #[cfg(feature = "peers")]
        closed_loop_member::<openraft_peer::OpenRaft>(&mut group, clients);
        group.finish();
    }
}

/// Groups `raft_durable_*`: writes per second of one node on a disk, by the number of clients; the
/// plain file appends as many at once, and syncs.
fn durable(criterion: &mut Criterion) {
    for clients in [1, 64] {
        let mut group = criterion.benchmark_group(format!("raft_durable_{clients}"));
        group.throughput(Throughput::Elements(clients));
        closed_loop_member::<DurableGroup>(&mut group, clients);
        let mut file = PlainFile::create();
        group.bench_function(PlainFile::NAME, |bencher| {
            bencher.iter(|| file.append(clients));
        });
        group.finish();
    }
}

criterion_group!(benches, core, driver, durable);
criterion_main!(benches);
