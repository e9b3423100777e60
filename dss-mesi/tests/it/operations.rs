//! What is made of reads and writes.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{
    CacheConfig, CacheError, Cause, Condition, LineState, LoadError, NodeId, Placement,
    RendezvousPlacement, WritePolicy,
};

use crate::cluster::{Cluster, bytes, member, view};

fn write_back() -> CacheConfig {
    CacheConfig::new().policy(WritePolicy::WriteBack { flush: Duration::from_secs(3_600) })
}

fn shards(config: CacheConfig, count: usize) -> CacheConfig {
    config.shards(NonZeroUsize::new(count).unwrap())
}

fn incremented(value: Option<&Bytes>) -> Option<Bytes> {
    let number = value.map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap());
    Some(bytes(&(number + 1_u32).to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_from_all_nodes_at_once_are_all_done() {
    for config in [CacheConfig::new(), write_back()] {
        let cluster = Cluster::start(3, &config);
        let tasks: Vec<_> = (0..9)
            .map(|task| {
                let node = cluster.nodes[task % 3].clone();
                tokio::spawn(async move {
                    for _ in 0..20 {
                        node.update(bytes("counter"), incremented).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let read = cluster.nodes[0].get(bytes("counter")).await.unwrap().unwrap();
        assert_eq!(read.value, bytes("180"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_may_remove_or_leave_nothing() {
    let cluster = Cluster::start(2, &write_back());
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    assert_eq!(one.update(bytes("k"), |before| before.cloned()).await, Ok(None));
    let version = one.update(bytes("k"), incremented).await.unwrap().unwrap();
    assert_eq!(two.get(bytes("k")).await.unwrap().unwrap().version, version);
    assert_eq!(two.update(bytes("k"), |_| None).await, Ok(None));
    assert_eq!(one.get(bytes("k")).await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn of_all_loaders_in_the_cluster_one_runs() {
    let cluster = Cluster::start(3, &CacheConfig::new());
    let runs = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..12)
        .map(|task| {
            let (node, runs) = (cluster.nodes[task % 3].clone(), runs.clone());
            tokio::spawn(async move {
                node.get_or_load(bytes("k"), || async {
                    runs.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Ok::<_, ()>(bytes("loaded"))
                })
                .await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().value, bytes("loaded"));
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_fails_or_is_dropped_is_followed_by_the_next() {
    let cluster = Cluster::start(2, &CacheConfig::new());
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    let failed = one.get_or_load(bytes("k"), || async { Err("no") }).await;
    assert_eq!(failed, Err(LoadError::Loader("no")));
    let endless = one.get_or_load(bytes("k"), std::future::pending::<Result<Bytes, ()>>);
    assert!(tokio::time::timeout(Duration::from_millis(100), endless).await.is_err());
    let begun = tokio::time::Instant::now();
    let loaded = two.get_or_load(bytes("k"), || async { Ok::<_, ()>(bytes("v")) }).await;
    assert_eq!(loaded.unwrap().value, bytes("v"));
    assert!(begun.elapsed() < Duration::from_millis(10), "the line is not held any more");
}

#[tokio::test(start_paused = true)]
async fn batches_take_the_time_of_one() {
    let cluster = Cluster::start(3, &shards(CacheConfig::new(), 8));
    let keys: Vec<Bytes> = (0..500).map(|number| bytes(&format!("key {number}"))).collect();
    let entries = keys.iter().map(|key| (key.clone(), key.clone()));
    for written in cluster.nodes[0].put_many(entries).await {
        written.unwrap();
    }
    let reads = cluster.nodes[1].get_many(keys.iter().cloned()).await;
    for (key, read) in keys.iter().zip(reads) {
        assert_eq!(&read.unwrap().unwrap().value, key);
    }
    assert_eq!(cluster.nodes[1].statistics().shared, 500);
}

#[tokio::test(start_paused = true)]
async fn compare_and_set_follows_versions() {
    let cluster = Cluster::start(2, &CacheConfig::new());
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    let first = one.compare_and_set(bytes("k"), None, bytes("1")).await.unwrap();
    let late = two.compare_and_set(bytes("k"), None, bytes("2")).await;
    assert_eq!(late, Err(CacheError::VersionMismatch { current: Some(first) }));
    two.compare_and_set(bytes("k"), Some(first), bytes("2")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_line_lives_for_a_limited_time_and_is_then_loaded_anew() {
    let limit = Duration::from_secs(8);
    for config in [CacheConfig::new(), write_back()] {
        let cluster = Cluster::start(2, &config.time_to_live(limit));
        let [one, two] = &cluster.nodes[..] else { unreachable!() };
        one.put(bytes("k"), bytes("v"), Condition::None).await.unwrap();
        tokio::time::sleep(limit - Duration::from_secs(2)).await;
        assert!(one.get_cached(b"k").is_some());
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(one.get_cached(b"k"), None);
        assert_eq!(one.statistics().expirations, 1);
        assert_eq!(two.get(bytes("k")).await.unwrap().unwrap().value, bytes("v"));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_listens_hears_why_lines_go() {
    let one_entry = NonZeroUsize::new(1).unwrap();
    let config = shards(write_back(), 1).capacity(one_entry, NonZeroUsize::new(1_000).unwrap());
    let cluster = Cluster::start(2, &config);
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    assert!(one.on_dropped(move |dropped| {
        let (key, state, cause) = (dropped.key, dropped.state, dropped.cause);
        listener.lock().unwrap().push((key, state, cause));
    }));
    assert!(!one.on_dropped(|_| {}), "one listener is enough");
    one.put(bytes("a"), bytes("v"), Condition::None).await.unwrap();
    one.get(bytes("b")).await.unwrap();
    two.put(bytes("b"), bytes("v"), Condition::None).await.unwrap();
    one.put(bytes("c"), bytes("v"), Condition::None).await.unwrap();
    one.shutdown().await;
    let expected = [
        (bytes("a"), LineState::Modified, Cause::Capacity),
        (bytes("b"), LineState::Exclusive, Cause::Recalled),
        (bytes("c"), LineState::Modified, Cause::Left),
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn nodes_divided_differently_change_views_together() {
    let four = CacheConfig::new().operation_timeout(Duration::from_secs(30));
    let cluster =
        Cluster::start_each(&[shards(write_back(), 1), shards(write_back(), 8), shards(four, 3)]);
    let keys: Vec<Bytes> = (0..200).map(|number| bytes(&format!("key {number}"))).collect();
    for (place, key) in keys.iter().enumerate() {
        let node = &cluster.nodes[place % 3];
        node.put(key.clone(), key.clone(), Condition::None).await.unwrap();
    }
    // Node 3 leaves: its keys go to the others, which have much of them unwritten.
    let left = view(2, &[1, 2]);
    cluster.nodes[2].shutdown().await;
    cluster.network.isolate(NodeId::new(3));
    for node in &cluster.nodes[..2] {
        node.set_view(left.clone());
    }
    for node in &cluster.nodes[..2] {
        for (key, read) in keys.iter().zip(node.get_many(keys.iter().cloned()).await) {
            assert_eq!(&read.unwrap().unwrap().value, key);
        }
    }
    assert_eq!(left.members, [member(1), member(2)]);
}

/// Some key whose home is this node, of two.
fn key_at_home(home: u64) -> Bytes {
    let view = view(1, &[1, 2]);
    let mut keys = (0..).map(|number| bytes(&format!("at home {number}")));
    keys.find(|key| RendezvousPlacement.home(key, &view) == Some(NodeId::new(home))).unwrap()
}

#[tokio::test(start_paused = true)]
async fn statistics_tell_what_is_held() {
    let one_entry = NonZeroUsize::new(1).unwrap();
    let roomy = shards(write_back(), 2);
    let small = shards(write_back(), 1).capacity(one_entry, NonZeroUsize::new(1_000).unwrap());
    let cluster = Cluster::start_each(&[roomy, small]);
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    two.put(bytes("c"), bytes("v"), Condition::None).await.unwrap();
    one.get(bytes("c")).await.unwrap();
    one.get(bytes("b")).await.unwrap();
    one.put(bytes("a"), bytes("value"), Condition::None).await.unwrap();
    let held = one.statistics();
    assert_eq!((held.modified, held.exclusive, held.shared), (1, 1, 1));
    assert_eq!((held.bytes, held.writing_back), ("avalue".len() + "b".len() + "cv".len(), 0));
    assert_eq!(held.directory + two.statistics().directory, 3);
    assert!(one.get_cached(b"a").is_some() && one.get(bytes("a")).await.unwrap().is_some());
    let hits = one.statistics().hits - held.hits;
    assert_eq!((hits, one.statistics().misses), (2, held.misses));

    // What makes room for another line waits for a home that cannot be reached.
    let (there, here) = (key_at_home(1), key_at_home(2));
    two.put(there, bytes("v"), Condition::None).await.unwrap();
    cluster.network.isolate(NodeId::new(1));
    two.put(here, bytes("v"), Condition::None).await.unwrap();
    let held = two.statistics();
    assert_eq!((held.modified, held.shared, held.writing_back), (1, 0, 1));
    assert!(!two.flush().await, "main memory does not have all of it");
    cluster.network.heal();
    assert!(two.flush().await);
    assert_eq!((two.statistics().modified, two.statistics().writing_back), (0, 0));
}
