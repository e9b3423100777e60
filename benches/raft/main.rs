//! What consensus costs; see the table in README.md.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]

mod cluster;
#[cfg(feature = "peers")]
mod raft_rs;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use cluster::{Cluster, DssRaft};

/// Groups `raft_core_*`: entries per second of three cores in one thread, in batches.
fn core(criterion: &mut Criterion) {
    fn member<C: Cluster>(group: &mut BenchmarkGroup<'_, WallTime>, batch: u64) {
        group.bench_function(C::NAME, |bencher| {
            let mut cluster = C::start();
            bencher.iter(|| cluster.commit(batch));
        });
    }
    for batch in [1, 64, 1024] {
        let mut group = criterion.benchmark_group(format!("raft_core_{batch}"));
        group.throughput(Throughput::Elements(batch));
        member::<DssRaft>(&mut group, batch);
        #[cfg(feature = "peers")]
        member::<raft_rs::RaftRs>(&mut group, batch);
        group.finish();
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
