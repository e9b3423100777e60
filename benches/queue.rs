//! What a message costs: in the core (`queue_core`: publish, receive and ack of 256 bytes, singly
//! and in batches of 64), and in the journal (`queue_journal_1` and `_64`: a publish of so many
//! messages to a [`LocalBroker`] beside a write and `fdatasync` of the same bytes into a plain file
//! that is as long already, which is as fast as a disk is).
//!
//! Before it measures, it prints how much memory a queued message takes, by the resident set of the
//! process: payload, slot, and what the allocator puts around them.
#![expect(clippy::disallowed_methods, reason = "what is measured is timed apart from what is not")]
#![allow(missing_docs, reason = "criterion's macros define undocumented items")]

use std::fs::File;
use std::hint::black_box;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dss_queue::{
    Broker, Command, ConsumerName, GroupName, LocalBroker, NewMessage, Queue, Receipt, Reply,
    ShardId, TopicName, UnixMillis,
};

const PAYLOAD_BYTES: usize = 256;
/// How many publishes are kept, as where consumers follow at a distance: what nobody consumes would
/// fill the shard, and be in each of its snapshots.
const BACKLOG_PUBLISHES: u64 = 256;
/// The length of the plain file: longer than what is written, then from the beginning again.
const PLAIN_BYTES: u64 = 16 << 20;

fn topic() -> TopicName {
    TopicName::new("orders").expect("a good name")
}

fn group() -> GroupName {
    GroupName::new("billing").expect("a good name")
}

fn messages(count: usize) -> Vec<NewMessage> {
    (0..count).map(|_| NewMessage::new(vec![7; PAYLOAD_BYTES])).collect()
}

/// A queue with a clock that ticks once every hundred rounds.
struct Core {
    queue: Queue,
    rounds: u64,
}

impl Core {
    fn with_backlog(count: usize) -> Self {
        let mut core = Self { queue: Queue::new(), rounds: 0 };
        for _ in 0..count / 1_000 {
            core.publish(messages(1_000));
        }
        core
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.queue.apply(UnixMillis::new(1_000 + self.rounds / 100), command).0
    }

    fn publish(&mut self, messages: Vec<NewMessage>) {
        let command = Command::Publish { shard: ShardId::new(1), topic: topic(), messages };
        assert!(matches!(self.apply(command), Reply::Published(_)));
    }

    fn receive(&mut self, max: usize) -> Vec<Receipt> {
        let reply = self.apply(Command::Receive {
            topic: topic(),
            group: group(),
            consumer: ConsumerName::new("worker").expect("a good name"),
            max: u32::try_from(max).expect("small"),
            visibility: None,
        });
        let Reply::Received { deliveries, .. } = reply else { panic!("refused: {reply:?}") };
        assert_eq!(deliveries.len(), max);
        black_box(&deliveries).iter().map(|delivery| delivery.receipt).collect()
    }

    fn ack(&mut self, receipts: Vec<Receipt>) {
        let count = receipts.len();
        let reply = self.apply(Command::Ack { topic: topic(), group: group(), receipts });
        assert!(matches!(reply, Reply::Settled(settled) if settled.done == count));
    }

    /// One publish, one receive, one ack.
    fn round(&mut self, messages: Vec<NewMessage>) {
        let count = messages.len();
        self.publish(messages);
        let receipts = self.receive(count);
        self.ack(receipts);
        self.rounds += 1;
    }
}

fn core(criterion: &mut Criterion) {
    let mut bench = criterion.benchmark_group("queue_core");
    for (name, batch, backlog) in
        [("single", 1, 0), ("batch-64", 64, 0), ("batch-64-backlog-100k", 64, 100_000)]
    {
        bench.throughput(Throughput::Elements(batch as u64));
        let mut core = Core::with_backlog(backlog);
        bench.bench_function(name, |bencher| {
            // The payloads are the producers': made and freed outside of what is measured.
            let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
            let new = || vec![NewMessage::new(payload.clone()); batch];
            bencher.iter_batched(
                new,
                |messages| core.round(messages),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    bench.finish();
}

/// Resident bytes of this process; nothing where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn memory(_: &mut Criterion) {
    const COUNT: u64 = 1_000_000;
    let Some(before) = resident() else { return };
    let core = Core::with_backlog(usize::try_from(COUNT).expect("small"));
    let Some(after) = resident() else { return };
    drop(black_box(core));
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let each = (after - before) as f64 / COUNT as f64;
    let overhead = each - 256.0;
    println!("queue_core: a queued message of 256 bytes takes {each:.1} bytes, {overhead:.1} more");
}

fn journal(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    for batch in [1_usize, 64] {
        let mut bench = criterion.benchmark_group(format!("queue_journal_{batch}"));
        bench.throughput(Throughput::Elements(batch as u64));
        let folder = tempfile::tempdir_in(".").expect("the folder can be written to");
        let broker =
            runtime.block_on(LocalBroker::open(folder.path())).expect("an empty folder opens");
        bench.bench_function(BenchmarkId::from_parameter("dss-queue"), |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let (mut elapsed, mut left) = (Duration::ZERO, rounds);
                    while left > 0 {
                        let begun = Instant::now();
                        for _ in 0..left.min(BACKLOG_PUBLISHES) {
                            let ids = broker.publish(&topic(), messages(batch)).await;
                            assert_eq!(ids.expect("it is published").len(), batch);
                        }
                        elapsed += begun.elapsed();
                        left = left.saturating_sub(BACKLOG_PUBLISHES);
                        broker.delete(&topic()).await.expect("there is such a topic");
                    }
                    elapsed
                })
            });
        });
        runtime.block_on(broker.shutdown());
        let command =
            Command::Publish { shard: ShardId::new(1), topic: topic(), messages: messages(batch) };
        let bytes = command.encode(UnixMillis::new(1_700_000_000_000));
        let mut file = plain_file(&folder.path().join("plain"));
        bench.bench_function(BenchmarkId::from_parameter("fdatasync"), |bencher| {
            bencher.iter_custom(|rounds| write_through(&mut file, &bytes, rounds));
        });
        bench.finish();
    }
}

/// A file whose blocks are there, so that a sync has nothing to do but the bytes.
fn plain_file(path: &std::path::Path) -> File {
    let mut file = File::create(path).expect("the folder can be written to");
    let length = usize::try_from(PLAIN_BYTES).expect("small");
    file.write_all(&vec![0; length]).expect("the disk has room");
    file.sync_all().expect("the disk works");
    file
}

fn write_through(file: &mut File, bytes: &[u8], rounds: u64) -> Duration {
    let begun = Instant::now();
    for _ in 0..rounds {
        if file.stream_position().expect("a plain file") + bytes.len() as u64 > PLAIN_BYTES {
            file.seek(SeekFrom::Start(0)).expect("a plain file");
        }
        file.write_all(bytes).expect("the disk works");
        file.sync_data().expect("the disk works");
    }
    begun.elapsed()
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(30)
}

criterion_group! {
    name = benches;
    config = short();
    targets = memory, core, journal
}
criterion_main!(benches);
