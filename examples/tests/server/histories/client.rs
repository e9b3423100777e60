//! A client that fights over locks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::SILENCE;
use super::check::{Grant, History, Write, WriteOutcome};
use crate::client::{Answer, Client};

/// How many locks there are.
pub(super) const LOCKS: usize = 3;
/// For how long sessions live without a sign of life.
pub(super) const TTL: Duration = Duration::from_millis(1_500);
/// How long a client waits for a lock.
const WAIT: Duration = Duration::from_millis(700);
/// How long it waits for any answer beyond that, before it asks another node.
const ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// How often it asks for one lock.
const TRIES: usize = 3;

/// A client with a session of its own for each attempt at a lock.
pub(super) struct Contender {
    number: u64,
    nodes: Arc<[String]>,
    client: Client,
    random: u64,
    stopped: watch::Receiver<bool>,
    history: History,
}

/// A session, and up to when it surely lives.
struct Session {
    name: String,
    lives_until: Instant,
}

impl Contender {
    pub(super) fn new(number: u64, nodes: Arc<[String]>, stopped: watch::Receiver<bool>) -> Self {
        // Seeds far apart; zero would stay zero.
        let random = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (client, history) = (Client::new(), History::default());
        Self { number, nodes, client, random, stopped, history }
    }

    /// Takes locks until it is told to stop.
    pub(super) async fn run(mut self) -> History {
        let mut round = 0;
        while !*self.stopped.borrow() {
            round += 1;
            self.round(round).await;
        }
        self.history
    }

    async fn round(&mut self, round: u64) {
        let Some(mut session) = self.open(format!("contender-{}-{round}", self.number)).await
        else {
            return;
        };
        let lock = self.one_of(LOCKS);
        let is_shared = self.below(5) == 0;
        let Some(mut grant) = self.acquire(&session, lock, is_shared).await else { return };
        grant.until = session.lives_until;
        if is_shared {
            sleep(Duration::from_millis(self.below(100))).await;
        } else {
            self.write(&grant).await;
            match self.below(10) {
                0 => return self.fall_silent(grant).await,
                1 => self.keep(&mut session, &mut grant).await,
                _ => sleep(Duration::from_millis(self.below(100))).await,
            }
            self.write(&grant).await;
        }
        grant.until = grant.until.min(Instant::now());
        let body = json!({"session": session.name, "fencing_token": grant.token});
        self.history.grants.push(grant);
        self.post(&format!("/v1/locks/contended-{lock}/release"), &body).await;
    }

    /// As a process that is paused for longer than its session lives, and then goes on.
    async fn fall_silent(&mut self, grant: Grant) {
        self.history.grants.push(grant.clone());
        sleep(SILENCE).await;
        self.write(&grant).await;
    }

    /// Holds the lock for longer than a session lives by itself, with signs of life.
    async fn keep(&mut self, session: &mut Session, grant: &mut Grant) {
        let end = Instant::now() + TTL + TTL / 2;
        while Instant::now() < end {
            sleep(TTL / 4).await;
            let sent = Instant::now();
            if sent > grant.until {
                return;
            }
            let path = format!("/v1/sessions/{}", session.name);
            let renewed = self.ask(Method::PUT, &path, &json!({"create": false}), &[]).await;
            if renewed.is_some_and(|answer| answer.status == 200) {
                self.history.renewed += 1;
                session.lives_until = sent + TTL;
                grant.until = session.lives_until;
            }
        }
    }

    async fn open(&mut self, name: String) -> Option<Session> {
        let body = json!({"ttl_ms": millis(TTL)});
        let sent = Instant::now();
        let opened = self.ask(Method::PUT, &format!("/v1/sessions/{name}"), &body, &[]).await?;
        (opened.status == 200).then(|| Session { name, lives_until: sent + TTL })
    }

    async fn acquire(&mut self, session: &Session, lock: usize, is_shared: bool) -> Option<Grant> {
        let body = json!({
            "session": session.name,
            "mode": if is_shared { "shared" } else { "exclusive" },
            "wait_ms": millis(WAIT),
            "ttl_ms": millis(TTL),
            "request_id": session.name,
        });
        let asked = Instant::now();
        for _ in 0..TRIES {
            let path = format!("/v1/locks/contended-{lock}/acquire");
            let Some(answer) = self.post(&path, &body).await else { continue };
            match answer.status.as_u16() {
                200 => {
                    let token = answer.json()["fencing_token"].as_u64().expect("a token");
                    let granted = Instant::now();
                    return Some(Grant { lock, is_shared, token, asked, granted, until: granted });
                }
                503 | 504 => {}
                404 | 409 => return None,
                _ => panic!("{answer:?}"),
            }
        }
        None
    }

    /// Writes the value that the lock guards, under the grant's token.
    async fn write(&mut self, grant: &Grant) {
        let path = format!("/v1/cache/guarded-{}", grant.lock);
        let (lock, token) = (format!("contended-{}", grant.lock), grant.token.to_string());
        let fence = [("x-dss-lock", lock.as_str()), ("x-dss-fencing-token", &token)];
        let begun = Instant::now();
        let answer = self.ask(Method::PUT, &path, &grant.token.into(), &fence).await;
        let outcome = match answer.map(|answer| (answer.status.as_u16(), answer)) {
            Some((204, _)) => WriteOutcome::Done,
            Some((409, answer)) => {
                assert_eq!(answer.json()["code"], "stale_token", "{answer:?}");
                WriteOutcome::Stale
            }
            // It was surely not done.
            Some((503, _)) => return,
            Some((504, _)) | None => WriteOutcome::Unknown,
            Some((_, answer)) => panic!("{answer:?}"),
        };
        let (lock, token, ended) = (grant.lock, grant.token, Instant::now());
        self.history.writes.push(Write { lock, token, begun, ended, outcome });
    }

    async fn post(&mut self, path: &str, body: &Value) -> Option<Answer> {
        self.ask(Method::POST, path, body, &[]).await
    }

    /// Asks any node; none where it does not answer in time.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Option<Answer> {
        let node = self.one_of(self.nodes.len());
        let url = format!("{}{path}", self.nodes[node]);
        let headers: Vec<_> =
            [("content-type", "application/json")].iter().chain(headers).copied().collect();
        let asked = self.client.send(method, &url, &headers, Bytes::from(body.to_string()));
        let answer = timeout(WAIT + ANSWER_MAX, asked).await;
        if !matches!(answer, Ok(Ok(_))) {
            // A node that is not there answers at once that it is not.
            sleep(Duration::from_millis(10)).await;
        }
        answer.ok()?.ok()
    }

    fn one_of(&mut self, several: usize) -> usize {
        usize::try_from(self.below(several as u64)).expect("it is below a usize")
    }

    /// A number without a pattern that matters here (xorshift64*), the same in every run.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).expect("a span of this test is short")
}
