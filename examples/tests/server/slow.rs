//! Clients that take their time are cut off, and nobody else has to wait for them.
//!
//! There are a hundred of each kind, and a thousand connections that rest, unless `DSS_SLOW_CLIENTS`
//! and `DSS_IDLE_CONNECTIONS` say otherwise.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::process::Cluster;

/// How long clients may take for anything.
pub(crate) const LIMITS: &str = "[limits]\nfirst_byte_ms = 2000\nhandshake_ms = 2000\n\
                                 headers_ms = 2000\nbody_ms = 2000\nidle_ms = 2000\n\
                                 answer_ms = 2000\n";
/// When all must be cut off: well above the limits, since a machine may be slow, and below what
/// holds for bodies, answers and rest where nothing is set.
const CUT_MAX: Duration = Duration::from_secs(25);
/// How long anybody else may have to wait. It is to be less than 200 ms; a slow machine that has all
/// these clients to do as well as the nodes takes longer. What it was is printed.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a good client has the node to itself, so that one sees what the others cost it.
const ALONE: Duration = Duration::from_secs(2);
/// How often those that send little send it.
const DRIP: Duration = Duration::from_millis(250);
/// Connections that rest have all the time.
pub(crate) const REST: &str = "[limits]\nidle_ms = 600000\n";

/// How a client that was let in takes its time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Slow {
    /// It says nothing at all.
    Silent,
    /// Its head comes a byte at a time, and never ends.
    Head,
    /// The same with its body.
    Body,
    /// It asks for more than the connection holds, and never reads.
    Deaf,
    /// It has asked once, and keeps the connection.
    Idle,
}

impl Slow {
    pub(crate) const ALL: [Self; 5] =
        [Self::Silent, Self::Head, Self::Body, Self::Deaf, Self::Idle];
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_off_while_others_are_served() {
    let cluster = Cluster::start_alone_configured(LIMITS).await;
    let address = cluster.url(0).trim_start_matches("http://").parse().expect("an address");
    are_cut_off(&cluster, &Slow::ALL, |kind| async move { (kind, connect(address).await) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_rest_are_held() {
    let cluster = Cluster::start_alone_configured(REST).await;
    let address = cluster.url(0).trim_start_matches("http://").parse().expect("an address");
    are_held(&cluster, || connect(address)).await;
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("the node lets it in")
}

/// What holds a connection, or what comes before it, and takes its time.
pub(crate) trait Dawdles: Send + 'static {
    /// Keeps the connection until the node closes it.
    fn dawdle(self) -> impl Future<Output = ()> + Send;
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Dawdles for (Slow, S) {
    async fn dawdle(self) {
        let (kind, mut stream) = self;
        let (begin, drip): (_, &[u8]) = match kind {
            Slow::Silent => (String::new(), b""),
            Slow::Head => ("GET /healthz HTTP/1.1\r\nx: ".to_owned(), b"x"),
            Slow::Body => (
                "PUT /v1/cache/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n".into(),
                b"x",
            ),
            Slow::Deaf => (
                "GET /v1/cache/large HTTP/1.1\r\nhost: x\r\n\r\n".repeat(20),
                b"GET /v1/cache/large HTTP/1.1\r\nhost: x\r\n\r\n",
            ),
            Slow::Idle => ("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), b""),
        };
        // What breaks off here is what is waited for.
        let _ = stream.write_all(begin.as_bytes()).await;
        let _ = stream.flush().await;
        if drip.is_empty() {
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
        while stream.write_all(drip).await.is_ok() && stream.flush().await.is_ok() {
            sleep(DRIP).await;
        }
    }
}

/// Has as many clients of each kind as are wanted take their time, and checks that all are cut off
/// while a good one is answered soon.
pub(crate) async fn are_cut_off<K, D, F>(cluster: &Cluster, kinds: &[K], begin: impl Fn(K) -> F)
where
    K: Debug + Copy,
    D: Dawdles,
    F: Future<Output = D> + Send + 'static,
{
    let clients = wanted("DSS_SLOW_CLIENTS", 100);
    let large = format!("{}/v1/cache/large", cluster.url(0));
    let stored = cluster.client.put_bytes(&large, vec![b'x'; 1 << 20]).await;
    assert_eq!(stored.expect("an answer").status, 204);

    let ((), before) = while_a_good_one_is_served(cluster, sleep(ALONE)).await;
    let start = Instant::now();
    let mut slow = JoinSet::new();
    for kind in kinds {
        for _ in 0..clients {
            // More at once than the operating system lets wait to be accepted would wait for it.
            sleep(Duration::from_millis(2)).await;
            let (begun, kind) = (begin(*kind), format!("{kind:?}"));
            slow.spawn(async move {
                let slow = begun.await;
                let begun = Instant::now();
                let cut = timeout(CUT_MAX, slow.dawdle()).await;
                assert!(cut.is_ok(), "a client of kind {kind} is still there");
                (kind, begun.elapsed())
            });
        }
    }
    let all_cut = async {
        let mut longest = BTreeMap::new();
        while let Some(cut) = slow.join_next().await {
            let (kind, after) = cut.expect("every slow client is cut off");
            let known = longest.entry(kind).or_insert(after);
            *known = after.max(*known);
        }
        longest
    };
    let (longest, worst) = while_a_good_one_is_served(cluster, all_cut).await;
    println!("{clients} clients of each kind, all gone after {:?}: {longest:?}", start.elapsed());
    println!("the longest answer to a good one took {worst:?}, and {before:?} before they came");
    assert!(worst < ANSWER_MAX, "{worst:?}");
}

/// Has as many connections rest as are wanted, and checks that all are held and answered, and a good
/// client meanwhile.
pub(crate) async fn are_held<S, F>(cluster: &Cluster, connect: impl Fn() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = S> + Send + 'static,
{
    /// How many ask at a time.
    const ABREAST: usize = 64;
    let connections = wanted("DSS_IDLE_CONNECTIONS", 1_000);
    let memory = cluster.memory_kib(0);
    let start = Instant::now();
    let ask_all = async {
        let (mut asked, mut held) = (JoinSet::new(), Vec::new());
        for number in 0..connections {
            let connected = connect();
            asked.spawn(async move { answered(connected.await).await });
            if number >= ABREAST {
                held.extend(asked.join_next().await);
            }
        }
        while let Some(one) = asked.join_next().await {
            held.push(one);
        }
        held.into_iter().map(|one| one.expect("it is let in and answered")).collect()
    };
    let (held, worst): (Vec<S>, _) = while_a_good_one_is_served(cluster, ask_all).await;
    let (took, memory) = (start.elapsed(), cluster.memory_kib(0).saturating_sub(memory));
    let figures = cluster.client.get(&format!("{}/metrics", cluster.url(0))).await;
    let figures = String::from_utf8(figures.expect("an answer").body.to_vec()).expect("text");
    let counted = figures.lines().find_map(|line| line.strip_prefix("dss_http_connections "));
    let counted: usize = counted.and_then(|count| count.parse().ok()).expect("it is counted");
    assert!(counted >= connections, "{counted} are left");
    println!(
        "{connections} connections after {took:?}, {} KiB each; the longest answer to another one \
         took {worst:?}",
        memory / connections as u64
    );
    // None of them was let go.
    for one in held {
        drop(answered(one).await);
    }
}

/// The connection, on which something was asked and answered.
async fn answered<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> S {
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    asked.expect("the node listens");
    stream.flush().await.expect("the node listens");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = timeout(CUT_MAX, stream.read_buf(&mut answer)).await.expect("an answer");
        assert!(read.expect("the node answers") > 0, "{}", String::from_utf8_lossy(&answer));
    }
    stream
}

/// What comes of `others`, and how long the longest answer to a good client took meanwhile.
async fn while_a_good_one_is_served<T>(
    cluster: &Cluster,
    others: impl Future<Output = T>,
) -> (T, Duration) {
    let url = cluster.url(0).to_owned();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let good = tokio::spawn(worst_answer(cluster.client.clone(), url, stopped));
    let done = others.await;
    stop.send_replace(true);
    (done, good.await.expect("everybody else is served"))
}

async fn worst_answer(
    client: Client,
    url: String,
    stopped: tokio::sync::watch::Receiver<bool>,
) -> Duration {
    let mut worst = Duration::ZERO;
    while !*stopped.borrow() {
        for step in ["acquire", "release"] {
            let begun = Instant::now();
            let url = format!("{url}/v1/locks/good/{step}");
            let done = client.post(&url, json!({"session": "good"})).await;
            assert_eq!(done.expect("an answer").status, 200);
            worst = worst.max(begun.elapsed());
        }
        let begun = Instant::now();
        let status = client.get(&format!("{url}/v1/status")).await;
        assert_eq!(status.expect("an answer").status, 200);
        worst = worst.max(begun.elapsed());
    }
    worst
}

/// How many there are to be. This process may have as many connections then.
fn wanted(variable: &str, default: usize) -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("that is allowed");
    match std::env::var(variable) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}
