//! Producers and consumers of a queue server: 16 of each, messages of 256 bytes, each publish
//! confirmed, each message received and acknowledged.
//!
//! ```text
//!   queue_peers http 127.0.0.1:8001,127.0.0.1:8002 BATCH SECONDS
//! ```
//!
//! The members speak the protocols by hand over blocking sockets, so that none has a better client
//! than the others. `queue_peers/run` starts the servers and prints the ratios; this program alone
//! needs one that runs.
#![expect(clippy::disallowed_methods, reason = "it measures real time, and its threads sleep")]

mod amqp;
mod http;
mod nats;
mod redis;
mod wire;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const PRODUCERS: usize = 16;
const CONSUMERS: usize = 16;
const PAYLOAD_BYTES: usize = 256;
/// How many messages producers are ahead at most, so that what is measured can go on for ever: some
/// batches for each consumer.
const BACKLOG_MAX: u64 = 4096;
/// Not measured: connections, caches and buffers come to be.
const WARM_UP: Duration = Duration::from_secs(1);

/// One connection to a queue server.
trait Client: Send {
    /// Makes the queue, where there is none.
    fn prepare(&mut self) -> io::Result<()>;

    /// Publishes so many messages and waits until they are confirmed.
    fn publish(&mut self, payload: &[u8], count: usize) -> io::Result<()>;

    /// Receives up to so many messages, waiting a moment for one, and acknowledges them; how many.
    fn consume(&mut self, max: usize) -> io::Result<usize>;
}

fn connect(member: &str, address: &str, consumes: bool) -> io::Result<Box<dyn Client>> {
    Ok(match member {
        "http" => Box::new(http::Http::connect(address)?),
        "redis" => Box::new(redis::Redis::connect(address)?),
        "nats" => Box::new(nats::Nats::connect(address)?),
        "rabbitmq" => Box::new(amqp::Amqp::connect(address, consumes)?),
        _ => return Err(io::Error::other("members are http, redis, nats and rabbitmq")),
    })
}

/// What is done so far.
#[derive(Default)]
struct Counts {
    published: AtomicU64,
    acknowledged: AtomicU64,
    fails: AtomicBool,
}

impl Counts {
    fn backlog(&self) -> u64 {
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        self.published.load(Ordering::Relaxed).saturating_sub(acknowledged)
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [member, addresses, batch, seconds] = &arguments[..] else {
        // `cargo bench` runs every benchmark, and without a server there is none.
        println!(
            "queue_peers MEMBER ADDRESS[,ADDRESS…] BATCH SECONDS; see benches/queue_peers/run"
        );
        return Ok(());
    };
    let number = |text: &str| text.parse::<u32>().map_err(io::Error::other);
    let (batch, seconds) = (number(batch)? as usize, number(seconds)?);
    let addresses: Vec<&str> = addresses.split(',').collect();
    connect(member, addresses[0], false)?.prepare()?;

    let counts = Arc::new(Counts::default());
    for number in 0..PRODUCERS + CONSUMERS {
        let consumes = number >= PRODUCERS;
        let client = connect(member, addresses[number % addresses.len()], consumes)?;
        let counts = Arc::clone(&counts);
        thread::spawn(move || {
            if let Err(error) = work(client, &counts, batch, consumes) {
                eprintln!("a client fails: {error}");
                counts.fails.store(true, Ordering::Relaxed);
            }
        });
    }
    thread::sleep(WARM_UP);
    let (begun, before) = (Instant::now(), counts.acknowledged.load(Ordering::Relaxed));
    thread::sleep(Duration::from_secs(seconds.into()));
    let done = counts.acknowledged.load(Ordering::Relaxed) - before;
    let rate = done as f64 / begun.elapsed().as_secs_f64();
    if counts.fails.load(Ordering::Relaxed) {
        return Err(io::Error::other("a client has failed"));
    }
    println!("{member} {batch}: {rate:.0} messages/s");
    Ok(())
}

fn work(
    mut client: Box<dyn Client>,
    counts: &Counts,
    batch: usize,
    consumes: bool,
) -> io::Result<()> {
    let payload = [b'x'; PAYLOAD_BYTES];
    // Clients end with the program: some wait for messages that do not come any more.
    loop {
        if consumes {
            let count = client.consume(batch)?;
            counts.acknowledged.fetch_add(count as u64, Ordering::Relaxed);
        } else if counts.backlog() > BACKLOG_MAX {
            thread::sleep(Duration::from_millis(1));
        } else {
            client.publish(&payload, batch)?;
            counts.published.fetch_add(batch as u64, Ordering::Relaxed);
        }
    }
}
