//! The same while links between nodes are cut in one direction: what a node says does not arrive,
//! while it hears the other.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use dss_examples::random::Random;
use tokio::time::{Instant, sleep};

use super::check::check;
use super::reader::{Reader, Readers};
use super::{CALM, CLIENTS, LATE, TIMING, restart_all, was_put_to_the_test};
use crate::network::{Cut, Held, Network};
use crate::process::Cluster;

/// How long a client waits for an answer: short, since what waits for a cut link may wait for as
/// long as it is cut, and there is to be traffic beside that.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// Longer than a lease, so that a node which the leader does not hear is out of the view.
const SHORT: Duration = Duration::from_millis(1_400);
/// Longer than nodes keep a connection on which they hear nothing, two seconds.
const LONG: Duration = Duration::from_millis(3_200);
/// How long what was on its way when a link was cut may take to arrive.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn cached_values_are_linearizable_and_none_is_lost_while_links_are_cut_one_way() {
    let seed = seed();
    println!("DSS_SEED={seed}");
    let (mut cluster, network) = Cluster::start_over_a_network(TIMING).await;
    let urls: Arc<[String]> = (0..3).map(|node| cluster.url(node).to_owned()).collect();
    let readers = Readers::start(CLIENTS, &urls, PATIENCE, seed);
    let mut numbers = CLIENTS..;
    let mut reader = || {
        let number = numbers.next().expect("there are more numbers");
        Reader::new(number, Arc::clone(&urls), PATIENCE)
    };
    let (mut events, mut cuts) = (Vec::new(), Vec::new());
    for (cut, span) in plan(seed) {
        sleep(CALM).await;
        println!("{cut:?} for {span:?}");
        let begun = Instant::now();
        network.cut(cut);
        let late = [cut.from, cut.to].map(|node| (node, reader()));
        let late = tokio::spawn(async move {
            sleep(span - LATE).await;
            let [(from, first), (to, second)] = late;
            let (first, second) = tokio::join!(first.read_all(from), second.read_all(to));
            [first, second].concat()
        });
        goes_one_way(&network, cut).await;
        sleep((begun + span).saturating_duration_since(Instant::now())).await;
        cuts.push((begun, Instant::now()));
        network.heal();
        events.extend(late.await.expect("a client does not panic"));
    }
    sleep(CALM).await;
    events.extend(readers.stop().await);
    // Nothing stays blocked; then again from what the nodes have on their disks.
    for node in 0..3 {
        events.extend(reader().read_all_surely(node).await);
    }
    restart_all(&mut cluster).await;
    for node in 0..3 {
        events.extend(reader().read_all_surely(node).await);
    }
    let seen = check(&events);
    let seen = seen.unwrap_or_else(|wrong| panic!("DSS_SEED={seed}: {wrong}\n{}", cluster.logs()));
    println!("{seen:?}");
    was_put_to_the_test(&seen, &events, &cuts);
}

/// Looks whether the link is cut, in this direction alone.
async fn goes_one_way(network: &Network, Cut { from, to, .. }: Cut) {
    sleep(ON_ITS_WAY).await;
    let before = (network.said(from, to), network.said(to, from));
    sleep(SHORT / 2).await;
    let after = (network.said(from, to), network.said(to, from));
    assert_eq!(before.0, after.0, "something came through");
    assert!(before.1 < after.1, "nothing came the other way");
}

/// Cuts from each node to each other one, in an order that the seed says; half of them long, half
/// of them of messages alone.
fn plan(seed: u64) -> Vec<(Cut, Duration)> {
    let kinds = [Held::Messages, Held::Everything];
    let kinds = kinds.into_iter().flat_map(|what| [SHORT, LONG].map(|span| (what, span)));
    let mut random = Random::seeded(seed);
    let mut kinds: Vec<_> = kinds.cycle().take(6).collect();
    random.shuffle(&mut kinds);
    let mut pairs = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)];
    random.shuffle(&mut pairs);
    let cut = |((from, to), (what, span))| (Cut { from, to, what }, span);
    pairs.into_iter().zip(kinds).map(cut).collect()
}

/// What the environment asks for, or another one each time.
fn seed() -> u64 {
    let asked = std::env::var("DSS_SEED").ok().and_then(|seed| seed.parse().ok());
    asked.unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000)
}
