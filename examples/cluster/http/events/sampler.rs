//! Looks at the cluster while anybody watches.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Uri;
use bytes::Bytes;
use dss_raft::NodeId;
use dss_ring::Position;
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::watchers::Seen;
use super::{Events, Subject};
use crate::app::App;
use crate::http::routing::{Call, Routing};

/// How often the cluster is looked at.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long to rest in any case, however quickly watchers come and go.
const PAUSE: Duration = Duration::from_millis(100);
/// How long it may take to answer one question. What takes longer counts as not known.
const PATIENCE: Duration = Duration::from_millis(800);
/// How many locks are told of; whoever wants more asks for them.
const LOCKS_MAX: usize = 100;
/// How many topics are told of.
const TOPICS_MAX: usize = 32;
/// In how many sectors the ring is told of.
const SECTORS: u64 = 360;
/// What is told of a subject that nobody could be asked about.
const UNKNOWN: &str = "null";

/// Asks what is told.
pub(crate) struct Sampler {
    app: App,
    routing: Routing,
    events: Events,
    stopping: CancellationToken,
    /// What each node said last.
    statuses: Mutex<BTreeMap<NodeId, Bytes>>,
}

impl Sampler {
    /// From here on, until the node stops, what happens is told to whoever watches.
    pub(crate) fn start(app: App, routing: Routing, events: Events) {
        let stopping = app.ready.stopping().clone();
        let sampler = Self { app, routing, events, stopping, statuses: Mutex::default() };
        tokio::spawn(async move {
            tokio::select! {
                () = sampler.stopping.cancelled() => {}
                () = sampler.run() => {}
            }
        });
    }

    async fn run(&self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.events.watched().await;
            // Whoever begins to watch is not kept waiting.
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.events.changed() => {}
            }
            let seen = self.look().await;
            self.events.publish(seen);
            sleep(PAUSE).await;
        }
    }

    async fn look(&self) -> Seen {
        let locks = format!("/v1/locks?limit={LOCKS_MAX}");
        let (nodes, locks, waits, deadlocks, queues, lines) = tokio::join!(
            self.nodes(),
            self.ask(&locks),
            self.ask("/v1/wait-for"),
            self.ask("/v1/deadlocks"),
            self.queues(),
            self.lines(),
        );
        let mut subjects = BTreeMap::from([
            (Subject::Nodes, nodes.into()),
            (Subject::Locks, locks),
            (Subject::Waits, waits),
            (Subject::Deadlocks, deadlocks),
            (Subject::Queues, queues.into()),
            (Subject::Ring, self.ring()),
        ]);
        if let Some(demo) = &self.app.demo {
            subjects.insert(Subject::Demo, json(&demo.standings()).into());
        }
        Seen { subjects, lines }
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<NodeId, Bytes>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a route answers, from whichever node can.
    async fn ask(&self, path: &str) -> Bytes {
        self.answer(path, |call| call).await.unwrap_or(Bytes::from_static(UNKNOWN.as_bytes()))
    }

    async fn answer(&self, path: &str, directed: impl FnOnce(Call) -> Call) -> Option<Bytes> {
        let uri = Uri::try_from(path).expect("paths are made of what may stand in one");
        let call = directed(Call::question(uri));
        let answered = timeout(PATIENCE, self.routing.answer(&call)).await.ok()?;
        let body = answered.status().is_success().then(|| answered.into_body().collect())?;
        body.await.ok().map(|body| body.to_bytes())
    }

    /// What each node says of itself. One that is connected and slow has said it before.
    async fn nodes(&self) -> String {
        let asked = self.app.members.nodes().into_iter().map(async |node| {
            let status = self.answer("/v1/status", |call| call.at(node.id)).await;
            let before = self.statuses().get(&node.id).cloned();
            let status = status.or(before.filter(|_| self.app.peers.is_up(node.id)));
            if let Some(status) = &status {
                self.statuses().insert(node.id, status.clone());
            }
            let status = status.as_deref().map_or(UNKNOWN.into(), String::from_utf8_lossy);
            let url = format!("{}://{}", self.app.config.scheme(), node.client);
            let (id, url) = (json(&node.name), json(&url));
            format!(r#"{{"id":{id},"url":{url},"status":{status}}}"#)
        });
        let (here, cluster) = (json(&self.app.name), json(&self.app.config.cluster()));
        let nodes = join_all(asked).await.join(",");
        format!(r#"{{"here":{here},"cluster":{cluster},"nodes":[{nodes}]}}"#)
    }

    /// The topics with their groups.
    async fn queues(&self) -> String {
        #[derive(Deserialize)]
        struct Topics {
            topics: Vec<String>,
        }
        let Some(answer) = self.answer("/v1/queues", |call| call).await else {
            return UNKNOWN.to_owned();
        };
        let topics = serde_json::from_slice(&answer).map_or(Vec::new(), |Topics { topics }| topics);
        let asked = topics.iter().take(TOPICS_MAX).map(async |topic| {
            self.answer(&format!("/v1/queues/{}", segment(topic)), |call| call).await
        });
        // One that could not be asked may just have been deleted.
        let told: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
        let told: Vec<_> = told.iter().map(|topic| String::from_utf8_lossy(topic)).collect();
        format!(r#"{{"count":{},"topics":[{}]}}"#, topics.len(), told.join(","))
    }

    /// The lines that are watched.
    async fn lines(&self) -> BTreeMap<String, String> {
        let asked = self.events.keys().into_iter().map(async |key| {
            let path = format!("/v1/cache/{}/line", segment(&key));
            let answer = self.answer(&path, |call| call).await;
            let line = answer.as_deref().map_or(UNKNOWN.into(), String::from_utf8_lossy);
            let position = part_of_ring(Position::of_key(key.as_bytes()));
            let name = json(&key);
            let line = format!(r#"{{"key":{name},"position":{position},"line":{line}}}"#);
            (key, line)
        });
        join_all(asked).await.into_iter().collect()
    }

    /// The ring, as the share of each node, and whose the sectors are: where each begins, in its
    /// order. There are more points than can be drawn.
    fn ring(&self) -> Bytes {
        #[derive(Serialize)]
        struct Ring<'a> {
            nodes: Vec<(&'a String, f64)>,
            sectors: Vec<usize>,
        }
        let Some(ring) = self.app.ring() else { return Bytes::from_static(UNKNOWN.as_bytes()) };
        let names: Vec<_> = ring.nodes().map(|(node, _)| node).collect();
        let mut points = ring.points().peekable();
        let mut sectors = Vec::new();
        for sector in 0..SECTORS {
            let begin = (sector << Position::BITS) / SECTORS;
            while points.next_if(|(position, _)| position.get() < begin).is_some() {}
            // Behind the last point the ring begins anew.
            let owner = points.peek().copied().or_else(|| ring.points().next());
            sectors.extend(owner.and_then(|(_, node)| names.binary_search(&node).ok()));
        }
        let share = |node| ring.share(node).unwrap_or_default();
        json(&Ring { nodes: names.iter().map(|node| (*node, share(node))).collect(), sectors })
            .into()
    }
}

/// Where on the ring a position is, from 0 to 1, exactly enough for a drawing.
fn part_of_ring(position: Position) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "48 bits have room in 53")]
    let part = position.get() as f64 / (1_u64 << Position::BITS) as f64;
    (part * 1e5).round() / 1e5
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers are always written as JSON")
}
