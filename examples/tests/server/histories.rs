//! Histories of clients that fight over locks while the nodes are killed and paused.

mod check;
mod client;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::check::{History, check};
use self::client::{Contender, LOCKS, TTL};
use crate::failover::leader;
use crate::process::Cluster;

const CONTENDERS: u64 = 12;
/// How long a node is paused: longer than any session lives without a sign of life, and than it
/// takes to elect another leader.
const PAUSE: Duration = Duration::from_millis(3_500);
/// How long clients have between two faults.
const CALM: Duration = Duration::from_millis(1_500);
/// How long the values may take to be read at the end.
const READ_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_has_one_holder_and_stale_tokens_write_nothing_while_nodes_die_and_pause() {
    let mut cluster = Cluster::start_alone(&[]).await;
    let urls: Arc<[String]> = (0..3).map(|node| cluster.url(node).to_owned()).collect();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut contenders = JoinSet::new();
    for number in 0..CONTENDERS {
        let contender = Contender::new(number, Arc::clone(&urls), stopped.clone());
        contenders.spawn(contender.run());
    }
    let mut calm_from = Vec::new();
    for fault in [Fault::KillLeader, Fault::PauseLeader, Fault::PauseFollower, Fault::KillFollower]
    {
        calm_from.push(Instant::now());
        sleep(CALM).await;
        fault.strike(&mut cluster).await;
    }
    calm_from.push(Instant::now());
    sleep(CALM).await;
    stop.send_replace(true);

    let mut history = History::default();
    while let Some(one) = contenders.join_next().await {
        history.merge(one.expect("a client does not panic"));
    }
    cluster.ready().await;
    for lock in 0..LOCKS {
        history.last_values.push(last_value(&cluster, lock).await);
    }
    let seen = check(&history).unwrap_or_else(|wrong| panic!("{wrong}\n{}", cluster.logs()));
    println!("{seen:?}");
    for (phase, from) in calm_from.iter().enumerate() {
        let granted = history
            .grants
            .iter()
            .filter(|grant| (*from..*from + CALM * 2).contains(&grant.granted));
        assert!(granted.count() > 0, "nobody got a lock in phase {phase}\n{}", cluster.logs());
    }
    assert!(seen.grants > 40 && seen.writes > 40, "{seen:?} is no contention");
    assert!(seen.stale_refused > 0 && seen.renewed > 0, "{seen:?}: nothing was put to the test");
}

/// What happens to a node.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillLeader,
    PauseLeader,
    PauseFollower,
    KillFollower,
}

impl Fault {
    async fn strike(self, cluster: &mut Cluster) {
        let leader = leader(cluster).await;
        let node = match self {
            Self::KillLeader | Self::PauseLeader => leader,
            Self::PauseFollower | Self::KillFollower => (leader + 1) % 3,
        };
        match self {
            Self::KillLeader | Self::KillFollower => {
                cluster.take(node).kill();
                sleep(CALM / 2).await;
                cluster.spawn(node);
            }
            Self::PauseLeader | Self::PauseFollower => {
                cluster.signal(node, "STOP");
                sleep(PAUSE).await;
                cluster.signal(node, "CONT");
            }
        }
    }
}

/// Under which token the value that a lock guards was written last.
async fn last_value(cluster: &Cluster, lock: usize) -> Option<u64> {
    let url = format!("{}/v1/cache/guarded-{lock}", cluster.url(0));
    let read = async {
        loop {
            match cluster.client.get(&url).await {
                Ok(answer) if answer.status == 200 => {
                    let value: Value = answer.json();
                    return Some(value.as_u64().expect("a token"));
                }
                Ok(answer) if answer.status == 404 => return None,
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    };
    timeout(READ_MAX, read).await.unwrap_or_else(|_| panic!("no value\n{}", cluster.logs()))
}

/// A session that says nothing for longer than this is over, and then some.
const SILENCE: Duration = TTL.saturating_add(Duration::from_millis(700));
