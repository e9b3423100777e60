//! What a client does, over and over.

use std::sync::Arc;

use axum::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Workload;
use super::progress::Progress;
use super::report::Measurements;
use super::schedule::{Due, Schedule};
use crate::client::{Answer, Body, Client, Target};

/// How many keys the cache workload spreads over.
const KEYS: u64 = 1_000;
/// How many bytes a value and a message have.
const VALUE_BYTES: usize = 128;
/// How many clients want each lock: enough for some to wait.
const CLIENTS_PER_LOCK: u32 = 4;
/// How many clients share each topic.
const CLIENTS_PER_TOPIC: u32 = 4;

/// One client.
#[derive(Debug)]
pub(super) struct Worker {
    target: Target,
    workload: Workload,
    session: String,
    lock: String,
    topic: String,
    random: Random,
    rounds: u64,
    /// When the next request should have been made, where that is not when it is.
    due: Due,
    measurements: Measurements,
}

impl Worker {
    /// The client with this number, of so many.
    pub(super) fn new(number: u32, clients: u32, workload: Workload, target: Target) -> Self {
        Self {
            target,
            workload,
            session: format!("load-{number}"),
            lock: format!("load-{}", number % clients.div_ceil(CLIENTS_PER_LOCK)),
            topic: format!("load-{}", number % clients.div_ceil(CLIENTS_PER_TOPIC)),
            random: Random::new(number),
            rounds: 0,
            due: None,
            measurements: Measurements::default(),
        }
    }

    /// Works until the time is over.
    pub(super) async fn run(
        mut self,
        client: Client,
        schedule: Arc<Schedule>,
        progress: Arc<Progress>,
    ) -> Measurements {
        while let Some(due) = schedule.next().await {
            self.due = due;
            let workload = match (self.workload, self.rounds % 3) {
                (Workload::Mixed, 0) => Workload::Lock,
                (Workload::Mixed, 1) => Workload::Queue,
                (Workload::Mixed, _) => Workload::Cache,
                (workload, _) => workload,
            };
            self.rounds += 1;
            let before = self.measurements.requests();
            match workload {
                Workload::Lock => self.lock(&client).await,
                Workload::Queue => self.queue(&client).await,
                Workload::Cache | Workload::Mixed => self.cache(&client).await,
            }
            progress.add(self.measurements.requests() - before);
        }
        self.measurements
    }

    async fn lock(&mut self, client: &Client) {
        let path = format!("/v1/locks/{}/acquire", self.lock);
        let body = json!({"session": self.session, "wait_ms": 10_000});
        let Some(granted) = self.ask(client, "acquire", Method::POST, &path, body).await else {
            return;
        };
        let path = format!("/v1/locks/{}/release", self.lock);
        let body = json!({"session": self.session, "fencing_token": granted["fencing_token"]});
        self.ask(client, "release", Method::POST, &path, body).await;
    }

    async fn queue(&mut self, client: &Client) {
        let topic = format!("/v1/queues/{}", self.topic);
        let message = json!({"payload": "x".repeat(VALUE_BYTES)});
        let body = json!({"messages": [message]});
        self.ask(client, "publish", Method::POST, &format!("{topic}/messages"), body).await;

        let group = format!("{topic}/groups/load");
        let body = json!({"consumer": self.session, "max": 10});
        let path = format!("{group}/receive");
        let received = self.ask(client, "receive", Method::POST, &path, body).await;
        let receipts: Vec<Value> = received
            .iter()
            .filter_map(|answer| answer["messages"].as_array())
            .flatten()
            .map(|message| message["receipt"].clone())
            .collect();
        if !receipts.is_empty() {
            let body = json!({ "receipts": receipts });
            self.ask(client, "ack", Method::POST, &format!("{group}/ack"), body).await;
        }
    }

    async fn cache(&mut self, client: &Client) {
        let path = format!("/v1/cache/load-{}", self.random.below(KEYS));
        let start = self.begin();
        if self.random.below(10) == 0 {
            let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
            let answer = client.ask(&self.target, Method::PUT, &path, Body::Raw(value)).await;
            self.note("put", start, answer);
        } else {
            let answer = client.ask(&self.target, Method::GET, &path, Body::None).await;
            // A key that nobody has written yet is an answer like another.
            let answer = match answer {
                Answer::Refused(refused) if refused.code == "not_found" => {
                    Answer::Done(Bytes::new())
                }
                answer => answer,
            };
            self.note("get", start, answer);
        }
    }

    /// From when on a request that is made now is measured.
    fn begin(&mut self) -> Instant {
        self.due.take().unwrap_or_else(Instant::now)
    }

    /// Asks with JSON and measures; what was done answers JSON.
    async fn ask(
        &mut self,
        client: &Client,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Value,
    ) -> Option<Value> {
        let start = self.begin();
        let answer = client.ask(&self.target, method, path, Body::Json(body)).await;
        let body = self.note(operation, start, answer)?;
        serde_json::from_slice(&body).ok()
    }

    fn note(&mut self, operation: &'static str, start: Instant, answer: Answer) -> Option<Bytes> {
        let latency = start.elapsed();
        match answer {
            Answer::Done(body) => {
                self.measurements.done(operation, latency);
                Some(body)
            }
            Answer::Refused(refused) => {
                self.measurements.refused(operation, refused.code);
                None
            }
            Answer::None(reason) => {
                self.measurements.not_answered(operation, reason);
                None
            }
        }
    }
}

/// Numbers without a pattern that matters here (xorshift64*), the same in every run.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u32) -> Self {
        // Seeds that follow each other start far apart; zero would stay zero.
        Self((u64::from(seed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}
