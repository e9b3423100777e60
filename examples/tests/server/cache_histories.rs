//! Histories of clients that read and write cached values while the nodes are killed and paused.

mod check;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::check::{Event, Seen, Step, Version, check};
use crate::client::Client;
use crate::process::Cluster;

const CLIENTS: u64 = 12;
const KEYS: usize = 5;
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
/// How long values may take to be read after a restart of all nodes.
const READ_MAX: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn cached_values_are_linearizable_and_none_is_lost_while_nodes_die_and_pause() {
    let mut cluster = Cluster::start_configured(TIMING).await;
    let urls: Arc<[String]> = (0..3).map(|node| cluster.url(node).to_owned()).collect();
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let node = usize::try_from(number % 3).expect("one of three");
        clients.spawn(Reader::new(number, Arc::clone(&urls)).run(node, stopped.clone()));
    }
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
                let late = Reader::new(CLIENTS + node as u64, Arc::clone(&urls));
                let late = tokio::spawn(late.read_all(node));
                sleep(LATE).await;
                pauses.push((begun, Instant::now()));
                cluster.signal(node, "CONT");
                events.extend(late.await.expect("a client does not panic"));
            }
        }
    }
    sleep(CALM).await;
    stop.send_replace(true);
    while let Some(one) = clients.join_next().await {
        events.extend(one.expect("a client does not panic"));
    }
    restart_all(&mut cluster).await;
    for node in 0..3 {
        let reader = Reader::new(CLIENTS + 3 + node as u64, Arc::clone(&urls));
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
fn was_put_to_the_test(seen: &Seen, events: &[Event], pauses: &[(Instant, Instant)]) {
    assert!(seen.writes > 50 && seen.reads > 100 && seen.hits > 20, "{seen:?}");
    for (begun, ended) in pauses {
        let during = |event: &&Event| {
            event.begun > *begun && event.ended < *ended && matches!(event.step, Step::Wrote { .. })
        };
        assert!(events.iter().any(|event| during(&event)), "nobody wrote beside a paused node");
    }
}

/// A client.
struct Reader {
    number: u64,
    nodes: Arc<[String]>,
    client: Client,
    random: u64,
    written: u64,
    /// The newest version of each key that it has seen.
    known: BTreeMap<usize, Version>,
    events: Vec<Event>,
}

impl Reader {
    fn new(number: u64, nodes: Arc<[String]>) -> Self {
        // Seeds far apart; zero would stay zero.
        let random = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (known, events) = (BTreeMap::new(), Vec::new());
        Self { number, nodes, client: Client::new(), random, written: 0, known, events }
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
    async fn read_all(self, node: usize) -> Vec<Event> {
        let mut reads = JoinSet::new();
        for key in 0..KEYS {
            let mut reader = Self::new(self.number, Arc::clone(&self.nodes));
            reads.spawn(async move {
                reader.read(node, key).await;
                reader.events
            });
        }
        reads.join_all().await.concat()
    }

    /// Asks one node for every key until it tells.
    async fn read_all_surely(mut self, node: usize) -> Vec<Event> {
        for key in 0..KEYS {
            let read = async {
                while !self.read(node, key).await {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            timeout(READ_MAX, read).await.expect("values can be read after a restart");
        }
        self.events
    }

    /// Whether there was an answer.
    async fn read(&mut self, node: usize, key: usize) -> bool {
        let url = self.url(node, key);
        let begun = Instant::now();
        let answer = timeout(ANSWER_MAX, self.client.get(&url)).await;
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
        let step = match timeout(ANSWER_MAX, sending).await {
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
