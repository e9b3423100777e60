//! Values read over HTTP from three processes: out of the nodes' caches, and out of a Redis that the
//! same server asks each time.
//!
//! `cargo test --release -p dss-examples --example cluster values_over_http -- --ignored --nocapture`
//!
//! One read in ten is a write in its place; keys are asked for with Zipf's frequencies. Each process
//! has both servers, at a port each, of which only one is busy at a time.

mod connection;
mod load;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use dss_examples::free_port;

use self::connection::Connection;
use self::load::{KEYS, Measured, Zipf, measure};
use super::*;
use crate::http::Http;
use crate::redis::test_server::RedisServer;

/// What a process of the measurement is told: the file, its node, the port of the server that asks
/// Redis, and where that is.
const TOLD: &str = "DSS_VALUES_NODE";
/// The test that such a process runs.
const NODE: &str = "node::tests::reads::one_process_of_the_measurement";
/// How often both are measured, and for how long.
const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_secs(3);
/// How many clients there are at a time.
const CLIENTS: [usize; 2] = [3, 48];
/// How many of a hundred requests are writes.
const WRITES: [u64; 2] = [10, 0];

/// The node processes. They end with this value.
struct Processes {
    children: Vec<Child>,
    /// Where values are in caches, and where they are in Redis.
    caches: Vec<SocketAddr>,
    redis: Vec<SocketAddr>,
}

impl Processes {
    async fn start(folder: &Path, redis: &RedisServer, more: &str) -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut text = format!("cluster = 'values'\ndata_dir = '{}'\n", folder.display());
        let mut caches = Vec::new();
        for number in 1..=3 {
            let (client, peer) = (address(), address());
            text += &format!("[[nodes]]\nid = 'n{number}'\nclient = '{client}'\npeer = '{peer}'\n");
            caches.push(client);
        }
        let file = folder.join("cluster.toml");
        std::fs::write(&file, text + more).unwrap();
        let mut processes = Self { children: Vec::new(), caches, redis: Vec::new() };
        for number in 1..=3 {
            let at = address();
            let told = format!("{} n{number} {at} {}", file.display(), redis.url());
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NODE, "--ignored"])
                .env(TOLD, told)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            processes.children.push(child);
            processes.redis.push(at);
        }
        for at in processes.caches.iter().chain(&processes.redis) {
            tokio::time::timeout(PATIENCE, ready(*at)).await.expect("it is ready in time");
        }
        processes
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// For how long these processes had a processor until now.
fn processor_time(processes: impl IntoIterator<Item = u32>) -> Duration {
    /// Of a second, as `/proc` counts.
    const TICKS: u32 = 100;
    let ticks = |process: u32| {
        let statistics = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        let after_name = statistics.rsplit(") ").next().unwrap();
        let fields: Vec<u32> =
            after_name.split(' ').skip(11).take(2).map(|ticks| ticks.parse().unwrap()).collect();
        fields.iter().sum::<u32>()
    };
    Duration::from_secs(1) * processes.into_iter().map(ticks).sum() / TICKS
}

async fn ready(at: SocketAddr) {
    loop {
        if let Ok(mut connection) = Connection::open(at).await
            && let Ok(answer) = connection.ask("GET", "/readyz", b"").await
            && answer.status == 200
        {
            return;
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

#[test]
#[ignore = "a part of the measurement"]
fn one_process_of_the_measurement() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let told: Vec<_> = told.split(' ').collect();
    let [file, name, at, redis] = told[..] else { panic!("{told:?}") };
    // As the server itself has it.
    let threads = std::thread::available_parallelism().unwrap().get().div_ceil(2);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = Arc::new(ClusterConfig::read(Path::new(file)).unwrap());
        let node = BoundNode::bind(&config, config.node(name).unwrap()).await.unwrap();
        let running = node.start().await.unwrap();
        let redis = redis::Client::open(redis).unwrap();
        let redis = redis.get_multiplexed_async_connection().await.unwrap();
        let http = Http::on_redis(running.app.clone(), &redis);
        let answers = (http.router(), HeaderValue::from_str(name).unwrap());
        let listener = TcpListener::bind(at).await.unwrap();
        let (limits, stopping) = (config.limits(), CancellationToken::new());
        let _clients = Clients::serve(listener, None, answers, limits, http.recorder(), stopping);
        std::future::pending::<()>().await;
    });
}

#[tokio::test]
#[ignore = "it takes minutes, and says something about a release build only"]
async fn values_over_http_out_of_caches_and_out_of_redis() {
    let redis = RedisServer::start().await;
    let memory = RedisServer::start().await;
    let zipf = Arc::new(Zipf::new());
    let in_redis = format!("[redis]\nurls = ['{}']\n", memory.url());
    for (is_durable, more) in [(true, ""), (false, &in_redis)] {
        if is_durable {
            println!("every write is synced; ours by two nodes, into their own main memory:");
        } else {
            println!("no write is synced; our main memory is a Redis, too:");
            keep_nothing(&redis).await;
            keep_nothing(&memory).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let processes = Processes::start(folder.path(), &redis, more).await;
        for nodes in [&processes.caches, &processes.redis] {
            load::fill(nodes).await;
        }
        for (writes, clients) in
            WRITES.into_iter().flat_map(|writes| CLIENTS.map(|it| (writes, it)))
        {
            let mut ratios = Vec::new();
            println!("  {clients} clients, {writes} % writes, {KEYS} keys");
            for _ in 0..ROUNDS {
                let mut rates = Vec::new();
                for (name, nodes) in [("caches", &processes.caches), ("Redis", &processes.redis)] {
                    let all = || {
                        let nodes = processes.children.iter().map(Child::id);
                        processor_time(nodes.chain([redis.id(), memory.id()]))
                    };
                    let before = all();
                    let measured = measure(nodes, clients, writes, &zipf, SPAN).await;
                    show(name, &measured, all() - before);
                    rates.push(measured.per_second);
                }
                ratios.push(rates[0] / rates[1]);
            }
            ratios.sort_by(f64::total_cmp);
            println!("    median ratio {:.2}, of {ratios:.2?}", ratios[ROUNDS / 2]);
        }
    }
}

/// Has a Redis keep nothing on disk: as fast as it can be.
async fn keep_nothing(server: &RedisServer) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("appendonly").arg("no");
    set.exec_async(&mut connection).await.unwrap();
}

fn show(name: &str, measured: &Measured, processors: Duration) {
    let Measured { per_second, p50, p99, hits, requests } = measured;
    let each = processors.as_secs_f64() * 1e6 / *requests as f64;
    println!(
        "    {name:6} {per_second:7.0} reads/s (p50 {p50:.2?}, p99 {p99:.2?}), {hits:.1} % hits, \
         {each:.0} µs of processors a request"
    );
}
