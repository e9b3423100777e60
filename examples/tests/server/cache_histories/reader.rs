//! Clients that read and write values, and note what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::check::{Event, Step, Version};
use crate::client::Client;

/// Enough that each node is the home of some, few enough that clients meet.
const KEYS: usize = 8;
/// How long values may take to be read once nothing is in the way any more.
const READ_MAX: Duration = Duration::from_secs(20);

/// Clients at all nodes, by turns, that go on until they are stopped.
pub(super) struct Readers {
    stop: watch::Sender<bool>,
    running: JoinSet<Vec<Event>>,
}

impl Readers {
    /// `clients` of them, each of which waits for an answer for so long.
    pub(super) fn start(
        clients: u64,
        nodes: &Arc<[String]>,
        patience: Duration,
        seed: u64,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        for number in 0..clients {
            let node = usize::try_from(number).expect("a few") % nodes.len();
            let reader = Reader::new(number, Arc::clone(nodes), patience).seeded(seed);
            running.spawn(reader.run(node, stopped.clone()));
        }
        Self { stop, running }
    }

    /// What they have seen.
    pub(super) async fn stop(self) -> Vec<Event> {
        self.stop.send_replace(true);
        self.running.join_all().await.concat()
    }
}

/// A client.
pub(super) struct Reader {
    number: u64,
    nodes: Arc<[String]>,
    client: Client,
    patience: Duration,
    random: u64,
    written: u64,
    /// The newest version of each key that it has seen.
    known: BTreeMap<usize, Version>,
    events: Vec<Event>,
}

impl Reader {
    /// One that waits for an answer for so long. No other has its number.
    pub(super) fn new(number: u64, nodes: Arc<[String]>, patience: Duration) -> Self {
        let (known, events) = (BTreeMap::new(), Vec::new());
        let client = Client::new();
        Self { number, nodes, client, patience, random: 0, written: 0, known, events }.seeded(0)
    }

    /// The same that does other things.
    fn seeded(mut self, seed: u64) -> Self {
        // Far apart; zero would stay zero.
        self.random =
            (seed.rotate_left(32) ^ (self.number + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        self
    }

    /// Reads and writes through one node, whatever happens to it, until it is told to stop.
    async fn run(mut self, node: usize, stopped: watch::Receiver<bool>) -> Vec<Event> {
        while !*stopped.borrow() {
            let key = self.below(KEYS);
            match self.below(10) {
                0..6 => {
                    self.read(node, key).await;
                }
                6 => self.write(node, key, self.known.get(&key).copied()).await,
                _ => self.write(node, key, None).await,
            }
            sleep(Duration::from_millis(self.below(20) as u64)).await;
        }
        self.events
    }

    /// Asks one node for every key, all at once.
    pub(super) async fn read_all(self, node: usize) -> Vec<Event> {
        let mut reads = JoinSet::new();
        for key in 0..KEYS {
            let mut reader = Self::new(self.number, Arc::clone(&self.nodes), self.patience);
            reads.spawn(async move {
                reader.read(node, key).await;
                reader.events
            });
        }
        reads.join_all().await.concat()
    }

    /// Asks one node for every key until it tells.
    pub(super) async fn read_all_surely(mut self, node: usize) -> Vec<Event> {
        for key in 0..KEYS {
            let read = async {
                while !self.read(node, key).await {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            timeout(READ_MAX, read).await.expect("values can be read where nothing is in the way");
        }
        self.events
    }

    /// Whether there was an answer.
    async fn read(&mut self, node: usize, key: usize) -> bool {
        let url = self.url(node, key);
        let begun = Instant::now();
        let answer = timeout(self.patience, self.client.get(&url)).await;
        let Ok(Ok(answer)) = answer else { return false };
        let step = match answer.status.as_u16() {
            200 => {
                let version = version_of(answer.header("etag"));
                self.known.insert(key, version);
                let hit = answer.header("x-cache") == "hit";
                Step::Read { found: Some((version, answer.body)), hit }
            }
            404 => Step::Read { found: None, hit: false },
            503 | 504 => return false,
            _ => panic!("a read was refused: {answer:?}"),
        };
        self.note(key, begun, step);
        true
    }

    /// Writes a value that nobody else writes, if the present one has this version.
    async fn write(&mut self, node: usize, key: usize, over: Option<Version>) {
        self.written += 1;
        let value = Bytes::from(format!("{}-{}", self.number, self.written));
        let tag = over.map(|version| format!("\"{}\"", version.0));
        let condition = tag.as_deref().map(|tag| ("if-match", tag));
        let url = self.url(node, key);
        let begun = Instant::now();
        let sending = self.client.send(Method::PUT, &url, condition.as_slice(), value.clone());
        let step = match timeout(self.patience, sending).await {
            Ok(Ok(answer)) => match answer.status.as_u16() {
                204 => {
                    let version = version_of(answer.header("etag"));
                    self.known.insert(key, version);
                    Step::Wrote { version, value, over }
                }
                412 if over.is_some() => {
                    self.known.remove(&key);
                    Step::NotWritten { value }
                }
                503 => Step::NotWritten { value },
                504 => Step::PerhapsWritten { value },
                _ => panic!("a write was refused: {answer:?}"),
            },
            _ => Step::PerhapsWritten { value },
        };
        self.note(key, begun, step);
    }

    fn note(&mut self, key: usize, begun: Instant, step: Step) {
        self.events.push(Event { key, begun, ended: Instant::now(), step });
    }

    fn url(&self, node: usize, key: usize) -> String {
        format!("{}/v1/cache/history-{key}", self.nodes[node])
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % bound as u64).expect("it is below a small number")
    }
}

fn version_of(etag: &str) -> Version {
    let number = etag.trim_matches('"').parse();
    Version(number.unwrap_or_else(|_| panic!("no number: {etag}")))
}
