//! Gets that hit.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;

use crate::cluster::{Cluster, capacity, key};
use crate::stopwatch::Stopwatch;
use crate::zipf::draws;

const HELD: u32 = 100_000;

/// A quarter more than is held, so that everything is, however a cache divides its room.
const ROOM: usize = 125_000;

const VALUE: [u8; 64] = [7; 64];

/// One lookup in something that many threads use.
type Lookup<'a> = Box<dyn Fn(&Bytes) -> Option<Bytes> + Sync + 'a>;

pub(crate) fn all(criterion: &mut Criterion) {
    let keys: Vec<Bytes> = (0..HELD).map(key).collect();
    let draws = draws(HELD);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let cluster = Cluster::start(1, &capacity(ROOM));
    let node = &cluster.nodes[0];
    for keys in keys.chunks(1_000) {
        let entries = keys.iter().map(|key| (key.clone(), Bytes::from_static(&VALUE)));
        for written in runtime.block_on(node.put_many(entries)) {
            written.expect("nothing is in the way");
        }
    }
    #[cfg(feature = "peers")]
    let peers = peers::Peers::new(&keys);
    let members: Vec<(&str, Lookup<'_>)> = vec![
        ("dss-mesi", Box::new(|key| node.get_cached(key).flatten().map(|read| read.value))),
        #[cfg(feature = "peers")]
        ("moka", Box::new(|key| peers.moka.get(key))),
        #[cfg(feature = "peers")]
        ("quick_cache", Box::new(|key| peers.quick_cache.get(key))),
        #[cfg(feature = "peers")]
        ("lru-mutex", Box::new(|key| peers.lru.lock().ok()?.get(key).cloned())),
    ];
    for threads in [1, 2] {
        let mut group = criterion.benchmark_group(format!("mesi_hit_{threads}"));
        for (name, lookup) in &members {
            assert!(keys.iter().all(|key| lookup(key).is_some()), "{name} holds all");
            group.bench_function(*name, |bencher| {
                bencher.iter_custom(|count| measure(threads, count, &keys, &draws, lookup));
            });
        }
        group.finish();
    }
}

/// How long each of the threads takes for `count` lookups while all of them are at it.
fn measure(
    threads: usize,
    count: u64,
    keys: &[Bytes],
    draws: &[u32],
    lookup: &Lookup<'_>,
) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        let mut place = thread * draws.len() / threads;
        barrier.wait();
        let begun = Stopwatch::start();
        for _ in 0..count {
            place = (place + 1) % draws.len();
            black_box(lookup(&keys[draws[place] as usize]));
        }
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let run = &run;
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let own = run(0);
        let others = others.into_iter().map(|other| other.join().expect("a lookup ends"));
        let sum: Duration = others.fold(own, |sum, time| sum + time);
        sum / u32::try_from(threads).expect("few threads")
    })
}

#[cfg(feature = "peers")]
mod peers {
    use std::num::NonZeroUsize;
    use std::sync::Mutex;

    use super::{Bytes, ROOM, VALUE};

    pub(super) struct Peers {
        pub(super) moka: moka::sync::Cache<Bytes, Bytes>,
        pub(super) quick_cache: quick_cache::sync::Cache<Bytes, Bytes>,
        pub(super) lru: Mutex<lru::LruCache<Bytes, Bytes>>,
    }

    impl Peers {
        pub(super) fn new(keys: &[Bytes]) -> Self {
            let moka = moka::sync::Cache::new(ROOM as u64);
            let quick_cache = quick_cache::sync::Cache::new(ROOM);
            let mut lru = lru::LruCache::new(NonZeroUsize::new(ROOM).expect("some room"));
            for key in keys {
                // A copy: who asks for a key seldom has the very bytes that the cache holds.
                let key = || Bytes::copy_from_slice(key);
                let value = || Bytes::copy_from_slice(&VALUE);
                moka.insert(key(), value());
                quick_cache.insert(key(), value());
                lru.put(key(), value());
            }
            moka.run_pending_tasks();
            Self { moka, quick_cache, lru: Mutex::new(lru) }
        }
    }
}
