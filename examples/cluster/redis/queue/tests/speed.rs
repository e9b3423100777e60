//! What the broker costs beside the same scripts, called one after the other by a client that
//! knows nothing but Redis, over one pipelined connection as the broker has.
//!
//! `cargo test --release -p dss-examples --example cluster speed -- --ignored --nocapture`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dss_queue::Broker;
use redis::aio::MultiplexedConnection;
use redis::{Script, ScriptInvocation};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::redis::queue::answer::Fields;
use crate::redis::queue::place::Place;
use crate::redis::queue::settle::{What, settlement};
use crate::redis::test_server::RedisServer;

const PAYLOAD: [u8; 256] = [b'x'; 256];
const CLIENTS: usize = 16;
const ROUNDS: usize = 9;

/// How many messages one flow takes from producers to their end, and in what batches.
#[derive(Clone, Copy)]
struct Flow {
    messages: usize,
    batch: usize,
}

impl Flow {
    fn batches_per_producer(self) -> usize {
        self.messages / self.batch / CLIENTS
    }

    fn total(self) -> usize {
        self.batches_per_producer() * self.batch * CLIENTS
    }
}

/// The scripts, and nothing of the broker.
#[derive(Clone)]
struct Bare {
    connection: MultiplexedConnection,
    broker: Arc<RedisBroker>,
    place: Place,
}

impl Bare {
    async fn call(&self, script: &Script, arguments: &[Vec<u8>]) -> Fields {
        let mut invocation: ScriptInvocation<'_> = script.prepare_invoke();
        let mark = self.place.node.mark.borrow().clone().expect("the server is open");
        self.broker.shared.caller.begin_at(&mut invocation, &self.place, &mark);
        for argument in arguments {
            invocation.arg(argument);
        }
        let mut fields: Fields =
            invocation.invoke_async(&mut self.connection.clone()).await.unwrap();
        assert_eq!(fields.text(), Ok("OK".to_owned()));
        fields
    }

    async fn publish(&self, count: usize) {
        let mut arguments = vec![b"1".to_vec(), Vec::new(), Vec::new()];
        for _ in 0..count {
            arguments.extend([PAYLOAD.to_vec(), vec![], vec![], b"0".to_vec(), vec![]]);
        }
        self.call(&self.broker.shared.caller.scripts.publish, &arguments).await;
    }

    /// Receives and acknowledges; how many there were.
    async fn consume(&self, max: usize, nonce: u64) -> usize {
        let texts = ["billing", "worker", &max.to_string(), "", &nonce.to_string(), "4194304"];
        let arguments = texts.map(|text| text.as_bytes().to_vec());
        let mut fields = self.call(&self.broker.shared.caller.scripts.receive, &arguments).await;
        let deliveries = fields.list().unwrap().each(|it| it.delivery(nonce)).unwrap();
        if !deliveries.is_empty() {
            let arguments = settlement(&group("billing"), What::Ack, &receipts(&deliveries));
            let arguments: Vec<_> = arguments.into_iter().map(String::into_bytes).collect();
            self.call(&self.broker.shared.caller.scripts.settle, &arguments).await;
        }
        deliveries.len()
    }
}

async fn through_broker(broker: &Arc<RedisBroker>, flow: Flow) -> Duration {
    let begun = Instant::now();
    let (mut tasks, done) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for _ in 0..CLIENTS {
        let producer = Arc::clone(broker);
        tasks.spawn(async move {
            for _ in 0..flow.batches_per_producer() {
                let messages = vec![NewMessage::new(PAYLOAD.to_vec()); flow.batch];
                producer.publish(&topic("orders"), messages).await.unwrap();
            }
        });
        let (consumer, done) = (Arc::clone(broker), Arc::clone(&done));
        tasks.spawn(async move {
            let (orders, billing) = (topic("orders"), group("billing"));
            while done.load(Ordering::Relaxed) < flow.total() {
                let request = waiting(flow.batch, 20);
                let found = consumer.receive(&orders, &billing, request).await.unwrap();
                if found.is_empty() {
                    continue;
                }
                let settled = consumer.ack(&orders, &billing, receipts(&found)).await.unwrap();
                done.fetch_add(settled.done, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    begun.elapsed()
}

async fn through_scripts(bare: &Bare, flow: Flow) -> Duration {
    let begun = Instant::now();
    let (mut tasks, done) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for number in 0..CLIENTS as u64 {
        let producer = bare.clone();
        tasks.spawn(async move {
            for _ in 0..flow.batches_per_producer() {
                producer.publish(flow.batch).await;
            }
        });
        let (consumer, done) = (bare.clone(), Arc::clone(&done));
        tasks.spawn(async move {
            let mut nonce = number << 40;
            while done.load(Ordering::Relaxed) < flow.total() {
                nonce += 1;
                match consumer.consume(flow.batch, nonce).await {
                    0 => sleep(Duration::from_millis(1)).await,
                    count => drop(done.fetch_add(count, Ordering::Relaxed)),
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures: it needs redis-server, and a machine with nothing else to do"]
async fn the_broker_beside_its_scripts() {
    let server = RedisServer::start().await;
    // One copy, as the scripts by themselves have.
    let broker = Arc::new(broker_on(std::slice::from_ref(&server)).await);
    let connection = redis::Client::open(server.url()).unwrap();
    let connection = connection.get_multiplexed_async_connection().await.unwrap();
    let place = broker.shared.home(&topic("orders"));
    let bare = Bare { connection, broker: Arc::clone(&broker), place };
    for flow in [Flow { messages: 2_000, batch: 1 }, Flow { messages: 20_480, batch: 64 }] {
        let rate = |took: Duration| flow.total() as f64 / took.as_secs_f64();
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let scripts = rate(through_scripts(&bare, flow).await);
            let ours = rate(through_broker(&broker, flow).await);
            ratios.push(ours / scripts);
            let batch = flow.batch;
            println!("batches of {batch}: scripts {scripts:.0}/s, broker {ours:.0}/s");
        }
        ratios.sort_by(f64::total_cmp);
        println!("batches of {}: median ratio {:.2}", flow.batch, ratios[ROUNDS / 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures: it needs redis-server, and a machine with nothing else to do"]
async fn what_a_second_copy_costs() {
    let servers = RedisServer::start_several(2).await;
    let (one, two) =
        (broker_with(&servers, Copies::One).await, broker_with(&servers, Copies::Two).await);
    let (one, two) = (Arc::new(one), Arc::new(two));
    for flow in [Flow { messages: 2_000, batch: 1 }, Flow { messages: 20_480, batch: 64 }] {
        let rate = |took: Duration| flow.total() as f64 / took.as_secs_f64();
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let single = rate(through_broker(&one, flow).await);
            let double = rate(through_broker(&two, flow).await);
            ratios.push(double / single);
            println!("batches of {}: one copy {single:.0}/s, two {double:.0}/s", flow.batch);
        }
        ratios.sort_by(f64::total_cmp);
        println!("batches of {}: median ratio {:.2}", flow.batch, ratios[ROUNDS / 2]);
    }
}
