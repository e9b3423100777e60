//! Real threads at one node: its parts, its lease, its flights.
//!
//! What threads of a node share is small: a mutex around the cores of each part, the outbox with the
//! turn to empty it, the time that the timer task sleeps until, and who is loading what. Every look
//! at a line, the lease included, is made under the mutex of its part, so that what is left to
//! chance is the order of whole steps, and that is what the checker and the simulation explore. A
//! model checker of threads (loom, shuttle) would have to take the place of tokio's channels, locks
//! and timers in the driver, a seam larger than what it would look at; these tests let real threads
//! meet instead, and look for what no order of whole steps explains.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{CacheConfig, CacheNode, Version, WritePolicy};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{Cluster, bytes};

const KEYS: usize = 4;
const WRITERS: usize = 6;
const UPDATES: u64 = 150;

fn number(value: &Bytes) -> u64 {
    u64::from_be_bytes(value[..].try_into().unwrap())
}

fn key(number: usize) -> Bytes {
    bytes(&format!("counter {number}"))
}

/// How often each counter was surely counted up, by whoever did it.
type Acknowledged = Arc<[AtomicU64; KEYS]>;

/// Counts up on one node, and gives up in the middle now and then; how often that was on each key.
async fn count(node: CacheNode, acknowledged: Acknowledged, writer: usize) -> [u64; KEYS] {
    let mut given_up = [0; KEYS];
    for round in 0..UPDATES {
        let place = (writer + usize::try_from(round).unwrap()) % KEYS;
        let next = |value: Option<&Bytes>| {
            Some(Bytes::copy_from_slice(&(value.map_or(0, number) + 1).to_be_bytes()))
        };
        let update = node.update(key(place), next);
        let patience = if round % 16 == 0 { Duration::ZERO } else { Duration::from_secs(20) };
        match tokio::time::timeout(patience, update).await {
            Ok(updated) => {
                updated.unwrap();
                acknowledged[place].fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => given_up[place] += 1,
        }
    }
    given_up
}

/// Reads what is held, for as long as others write; how often something was.
fn watch(node: &CacheNode, acknowledged: &Acknowledged, over: &AtomicBool) -> u64 {
    let keys: Vec<Bytes> = (0..KEYS).map(key).collect();
    let mut newest: [Option<Version>; KEYS] = [None; KEYS];
    let mut hits = 0;
    while !over.load(Ordering::SeqCst) {
        for (place, key) in keys.iter().enumerate() {
            let least = acknowledged[place].load(Ordering::SeqCst);
            let Some(Some(read)) = node.get_cached(key) else { continue };
            hits += 1;
            assert!(number(&read.value) >= least, "a stale read: {least} were acknowledged");
            assert!(newest[place] <= Some(read.version), "a read before an earlier one");
            newest[place] = Some(read.version);
        }
        std::thread::yield_now();
    }
    hits
}

async fn writers_and_watchers(config: CacheConfig) {
    let config = config.shards(NonZeroUsize::new(2).unwrap());
    let cluster = Cluster::start(3, &config.operation_timeout(Duration::from_secs(20)));
    let acknowledged: Acknowledged = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = (0..2)
        .map(|place| {
            let (node, over) = (cluster.nodes[place].clone(), Arc::clone(&over));
            let acknowledged = Arc::clone(&acknowledged);
            std::thread::spawn(move || watch(&node, &acknowledged, &over))
        })
        .collect();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let node = cluster.nodes[writer % 3].clone();
        writers.spawn(count(node, Arc::clone(&acknowledged), writer));
    }
    let mut given_up = [0; KEYS];
    while let Some(counts) = writers.join_next().await {
        let counts = counts.unwrap();
        (0..KEYS).for_each(|place| given_up[place] += counts[place]);
    }
    over.store(true, Ordering::SeqCst);
    let hits: u64 = watchers.into_iter().map(|watcher| watcher.join().unwrap()).sum();
    assert!(hits > 0, "nothing was hit");
    for place in 0..KEYS {
        let read = cluster.nodes[2].get(key(place)).await.unwrap().unwrap();
        let (counted, sure) = (number(&read.value), acknowledged[place].load(Ordering::SeqCst));
        let most = sure + given_up[place];
        assert!((sure..=most).contains(&counted), "{counted} is not within {sure} and {most}");
    }
    for node in &cluster.nodes {
        assert!(node.flush().await, "something is left under way");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn threads_at_one_node_lose_no_update_and_read_nothing_stale() {
    writers_and_watchers(CacheConfig::new()).await;
    let flush = Duration::from_millis(5);
    writers_and_watchers(CacheConfig::new().policy(WritePolicy::WriteBack { flush })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn of_loaders_on_many_threads_one_runs() {
    const LOADED: usize = 30;
    let cluster = Cluster::start(2, &CacheConfig::new());
    let runs: Arc<[AtomicUsize; LOADED]> = Arc::new(std::array::from_fn(|_| AtomicUsize::new(0)));
    let mut loaders = JoinSet::new();
    for loader in 0..LOADED * 8 {
        let (node, runs, place) =
            (cluster.nodes[loader % 2].clone(), Arc::clone(&runs), loader / 8);
        loaders.spawn(async move {
            let load = || async {
                runs[place].fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok::<_, ()>(bytes("loaded"))
            };
            node.get_or_load(bytes(&format!("loaded {place}")), load).await.unwrap().value
        });
    }
    while let Some(value) = loaders.join_next().await {
        assert_eq!(value.unwrap(), bytes("loaded"));
    }
    for runs in runs.iter() {
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_thread_hits_after_the_end_of_a_lease() {
    let cluster = Cluster::start_leased(1, &CacheConfig::new(), Duration::from_secs(2));
    let node = &cluster.nodes[0];
    node.put(key(0), bytes("v"), dss_mesi::Condition::None).await.unwrap();
    let end = Instant::now() + Duration::from_millis(2_100);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let node = node.clone();
            std::thread::spawn(move || {
                let mut hits = 0_u64;
                loop {
                    let begun = Instant::now();
                    let hit = node.get_cached(&key(0)).is_some();
                    assert!(!hit || begun < end, "a hit {:?} after the end", begun - end);
                    hits += u64::from(hit);
                    if begun > end + Duration::from_millis(150) {
                        return hits;
                    }
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    // As the end comes close the lease is made a little longer, while the threads are at it.
    for early in [300, 200, 100] {
        tokio::time::sleep_until(end - Duration::from_millis(early + 100)).await;
        node.set_lease(end - Duration::from_millis(early - 100));
    }
    for thread in threads {
        let hits = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        assert!(hits > 100, "{hits} hits are no test");
    }
}
