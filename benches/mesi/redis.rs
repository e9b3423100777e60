//! A hit, and a `GET` on a Redis next door.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;

use crate::cluster::{Cluster, capacity, key};

const VALUE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Redis {
    server: Child,
    stream: TcpStream,
}

impl Redis {
    /// A server of its own on a free port; `None` where Redis is not installed.
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let mut server = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(50));
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).ok()?;
                return Some(Self { server, stream });
            }
        }
        let _ = server.kill();
        None
    }

    fn ask(&mut self, request: &[u8], answer: &mut [u8]) {
        self.stream.write_all(request).expect("Redis takes it");
        self.stream.read_exact(answer).expect("Redis answers");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(crate) fn hit_vs_redis(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let cluster = Cluster::start(1, &capacity(1_000));
    let (node, key) = (&cluster.nodes[0], key(1));
    let value = Bytes::from_static(VALUE.as_bytes());
    let written = runtime.block_on(node.put(key.clone(), value, Default::default()));
    written.expect("nothing is in the way");
    let mut group = criterion.benchmark_group("mesi_hit_vs_redis");
    group.bench_function("dss-mesi", |bencher| {
        bencher.iter(|| node.get_cached(black_box(&key)).flatten().expect("it is held"));
    });
    if let Some(mut redis) = Redis::start() {
        let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$64\r\n{VALUE}\r\n");
        redis.ask(set.as_bytes(), &mut [0; 5]);
        let mut answer = [0; 5 + 64 + 2];
        group.bench_function("redis-get", |bencher| {
            bencher.iter(|| redis.ask(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", &mut answer));
        });
    } else {
        println!("mesi_hit_vs_redis/redis-get: redis-server is not installed");
    }
    group.finish();
}
