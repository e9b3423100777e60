//! Histories of clients that read and write cached values while the nodes are killed and paused, and
//! while links between them are cut.

mod check;
mod cuts;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::check::{Event, Seen, Step, check};
use self::reader::{Reader, Readers};
use crate::process::Cluster;

const CLIENTS: u64 = 12;
/// Short, so that the others soon go on without a node; leases are shorter still.
const TIMING: &str = "[timing]\nelection_timeout_ms = 600\n";
/// How long a node is paused: longer than its lease, and than the others need to go on without it.
const PAUSE: Duration = Duration::from_millis(3_500);
/// How long before the end of a pause the node is asked for every key: what it has kept may be old
/// by then, and it has had no time to notice.
const LATE: Duration = Duration::from_millis(300);
/// How long clients have between two faults.
const CALM: Duration = Duration::from_millis(1_000);
/// How long a client waits for an answer: longer than any pause, so that what a paused node
/// answers afterwards counts.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn cached_values_are_linearizable_and_none_is_lost_while_nodes_die_and_pause() {
    let mut cluster = Cluster::start_configured(TIMING).await;
    let urls: Arc<[String]> = (0..3).map(|node| cluster.url(node).to_owned()).collect();
    let readers = Readers::start(CLIENTS, &urls, ANSWER_MAX, 0);
    let mut events = Vec::new();
    let mut pauses = Vec::new();
    for (fault, node) in [(Fault::Pause, 0), (Fault::Kill, 1), (Fault::Pause, 2)] {
        sleep(CALM).await;
        match fault {
            Fault::Kill => {
                cluster.take(node).kill();
                sleep(CALM / 2).await;
                cluster.spawn(node);
            }
            Fault::Pause => {
                let begun = Instant::now();
                cluster.signal(node, "STOP");
                sleep(PAUSE - LATE).await;
                let late = Reader::new(CLIENTS + node as u64, Arc::clone(&urls), ANSWER_MAX);
                let late = tokio::spawn(late.read_all(node));
                sleep(LATE).await;
                pauses.push((begun, Instant::now()));
                cluster.signal(node, "CONT");
                events.extend(late.await.expect("a client does not panic"));
            }
        }
    }
    sleep(CALM).await;
    events.extend(readers.stop().await);
    restart_all(&mut cluster).await;
    for node in 0..3 {
        let reader = Reader::new(CLIENTS + 3 + node as u64, Arc::clone(&urls), ANSWER_MAX);
        events.extend(reader.read_all_surely(node).await);
    }
    let seen = check(&events).unwrap_or_else(|wrong| panic!("{wrong}\n{}", cluster.logs()));
    println!("{seen:?}");
    was_put_to_the_test(&seen, &events, &pauses);
}

/// What happens to a node.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Pause,
}

/// Kills all nodes at once and starts them again.
async fn restart_all(cluster: &mut Cluster) {
    for victim in [0, 1, 2].map(|node| cluster.take(node)) {
        victim.kill();
    }
    for node in 0..3 {
        cluster.spawn(node);
    }
    cluster.ready().await;
}

/// Whether enough happened for the history to mean something.
fn was_put_to_the_test(seen: &Seen, events: &[Event], faults: &[(Instant, Instant)]) {
    assert!(seen.writes > 50 && seen.reads > 100 && seen.hits > 20, "{seen:?}");
    // Not during each: where the one that leads was hit, writes may wait until it is over.
    let during = |event: &Event| {
        let within =
            |(begun, ended): &(Instant, Instant)| event.begun > *begun && event.ended < *ended;
        matches!(event.step, Step::Wrote { .. }) && faults.iter().any(within)
    };
    assert!(events.iter().any(during), "nobody wrote while anything was wrong");
}
