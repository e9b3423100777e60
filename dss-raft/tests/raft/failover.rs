//! How long a group is without a leader.

use std::time::Duration;

use dss_raft::{Config, Restored};

use crate::cluster::{Cluster, TIMEOUT, node};

/// Kills leaders of clusters with different seeds, and returns how long each took to be replaced.
fn failovers(size: u64, seeds: u64) -> Vec<Duration> {
    let failover = |seed: u64| {
        let states = (0..size).map(|_| Restored::default());
        let mut cluster = Cluster::configured(states, |number| {
            Config::new(node(number), seed.wrapping_mul(0x9e37_79b9) + number)
        });
        cluster.advance(TIMEOUT * 4);
        let [leader] = cluster.leaders()[..] else { panic!("seed {seed}: no leader") };
        // Somewhere within a heartbeat interval.
        cluster.advance(Duration::from_millis(seed % 10 * 10));
        cluster.isolate(leader.get());
        let killed = cluster.now;
        while !cluster.leaders().iter().any(|other| *other != leader) {
            cluster.advance(Duration::from_millis(10));
        }
        cluster.now.since(killed)
    };
    (0..seeds).map(failover).collect()
}

#[test]
fn a_lost_leader_is_replaced_within_three_seconds() {
    for size in [3, 5] {
        let mut spans = failovers(size, 300);
        spans.sort_unstable();
        let longest = spans[spans.len() - 1];
        println!("{size} nodes: median {:?}, longest {longest:?}", spans[spans.len() / 2]);
        assert!(longest < Duration::from_secs(3), "{size} nodes: {longest:?}");
    }
}
