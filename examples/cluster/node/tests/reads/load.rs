//! Clients that read and write values.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dss_examples::random::Random;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::Connection;

/// How many values there are, and how long each is.
pub(super) const KEYS: usize = 10_000;
const VALUE: [u8; 128] = [b'x'; 128];
/// How long clients are at it before they are measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How many clients write the values at first.
const FILLERS: usize = 48;

/// What came of the reads.
pub(super) struct Measured {
    pub(super) per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// How many of a hundred were answered out of the node's own cache.
    pub(super) hits: f64,
    /// How many requests there were, writes and those before the measurement included.
    pub(super) requests: u64,
}

/// Draws keys as often as Zipf's law says of their rank, with exponent 0.99.
pub(super) struct Zipf(Vec<f64>);

impl Zipf {
    pub(super) fn new() -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=KEYS).map(|rank| {
            sum += (rank as f64).powf(-0.99);
            sum
        });
        Self(cumulated.collect())
    }

    fn draw(&self, random: &mut Random) -> usize {
        let at = fraction(random) * self.0[KEYS - 1];
        self.0.partition_point(|before| *before < at).min(KEYS - 1)
    }
}

fn path(key: usize) -> String {
    format!("/v1/cache/value-{key}")
}

/// Writes every value once.
pub(super) async fn fill(nodes: &[SocketAddr]) {
    let mut clients = JoinSet::new();
    for number in 0..FILLERS {
        let to = nodes[number % nodes.len()];
        clients.spawn(async move {
            let mut connection = Connection::open(to).await.unwrap();
            for key in (number..KEYS).step_by(FILLERS) {
                let answer = connection.ask("PUT", &path(key), &VALUE).await.unwrap();
                assert_eq!(answer.status, 204);
            }
        });
    }
    clients.join_all().await;
}

/// Has so many clients, of whose requests so many of a hundred are writes, ask these nodes for that
/// long.
pub(super) async fn measure(
    nodes: &[SocketAddr],
    clients: usize,
    writes: u64,
    zipf: &Arc<Zipf>,
    span: Duration,
) -> Measured {
    let begin = Instant::now() + WARM_UP;
    let end = begin + span;
    let mut running = JoinSet::new();
    for number in 0..clients {
        let (to, zipf) = (nodes[number % nodes.len()], Arc::clone(zipf));
        running.spawn(async move {
            let mut random = Random::seeded(number as u64 + 1);
            let mut connection = Connection::open(to).await.unwrap();
            let (mut taken, mut hits, mut requests) = (Vec::new(), 0, 0);
            loop {
                let path = path(zipf.draw(&mut random));
                let is_write = random.next() % 100 < writes;
                let begun = Instant::now();
                if begun >= end {
                    return (taken, hits, requests);
                }
                requests += 1;
                if is_write {
                    let answer = connection.ask("PUT", &path, &VALUE).await.unwrap();
                    assert_eq!(answer.status, 204);
                    continue;
                }
                let answer = connection.ask("GET", &path, b"").await.unwrap();
                assert_eq!((answer.status, answer.length), (200, VALUE.len()));
                if begun >= begin {
                    taken.push(begun.elapsed());
                    hits += usize::from(answer.is_hit);
                }
            }
        });
    }
    let (mut taken, mut hits, mut requests) = (Vec::new(), 0, 0);
    for (some, of_them, all) in running.join_all().await {
        taken.extend(some);
        hits += of_them;
        requests += all;
    }
    taken.sort_unstable();
    let at = |permille: usize| taken[taken.len() * permille / 1_000];
    let per_second = taken.len() as f64 / span.as_secs_f64();
    let hits = 100.0 * hits as f64 / taken.len() as f64;
    Measured { per_second, p50: at(500), p99: at(990), hits, requests }
}

fn fraction(random: &mut Random) -> f64 {
    (random.next() >> 32) as f64 / f64::from(u32::MAX)
}
