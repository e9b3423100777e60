//! What a coherent cache costs: local hits beside caches that know of no other node, hits beside a
//! Redis next door, and what goes between nodes.
//!
//! `mesi_hit_1` and `mesi_hit_2`: gets that hit, keys of 16 bytes and values of 64, a hundred
//! thousand of them asked for with Zipf's frequencies, by one and by two threads at a time. The
//! peers are behind the feature `peers`. Where `DSS_CPU_TIME` is set, the time that each thread had a
//! processor is measured, for machines that have other things to do. `mesi_hit_vs_redis`: one get that hits, and `GET` on a Redis
//! that is started for it. `mesi_miss`, `mesi_write_owned`, `mesi_write_shared_3` and
//! `mesi_pingpong`: three nodes in this process, main memory too.
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark looks at the clock and waits for servers"
)]

mod cluster;
mod hits;
mod memory;
mod protocol;
mod redis;
mod stopwatch;
mod zipf;

use criterion::{Criterion, criterion_group, criterion_main};

fn all(criterion: &mut Criterion) {
    memory::show();
    hits::all(criterion);
    redis::hit_vs_redis(criterion);
    protocol::all(criterion);
}

criterion_group!(benches, all);
criterion_main!(benches);
