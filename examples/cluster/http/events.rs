//! What happens in the cluster, told as it happens: for the dashboard and whoever likes to watch.
//!
//! While anybody watches, one task of the node asks every half second what the dashboard shows, and
//! keeps the newest answers. Each watcher is sent the parts that differ from what it was sent last,
//! whenever it can take more: a slow one misses what was in between, and nothing is queued for it.

mod sampler;
mod subject;
mod watchers;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::schema::Type;

use self::subject::Subject;
use self::watchers::Watcher;
use super::Context;
use super::extract::{Query, check_name};
use super::problem::{Code, Problem};
use super::route::{Access, Route};

pub(crate) use self::sampler::Sampler;
pub(crate) use self::watchers::Events;

/// After this long without news a watcher is told that there is none: so it, and whatever stands
/// between the two, can tell a quiet cluster from a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// For how long a watcher is told. It may come back at once, if it still may: so nobody is told for
/// longer than this who has lost the right to know.
const LIFE: Duration = Duration::from_secs(60);
/// What a watcher is told last, where it is to come back.
const AGAIN: &[u8] = b"event: again\ndata: {}\n\n";
/// How many keys of the cache one watcher may name.
const KEYS_MAX: usize = 8;
/// What separates keys behind the `?`: no name contains it.
const BETWEEN_KEYS: char = '\n';

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/events", Access::Reader, watch)
            .named("watchEvents", "Tells what happens in the cluster, for as long as one listens.")
            .query(
                "keys",
                "Keys of the cache to tell of, with a line feed between them.",
                Type::String,
            )
            .answers_as(
                "text/event-stream",
                "Server-sent events, each with all there is to say of its subject: `nodes`, \
                 `locks`, `waits`, `deadlocks`, `ring`, `queues`, `lines` and, where nodes can be \
                 stopped, `demo`. First all of them, then each when it has changed; after a minute \
                 `again`, and the end.",
            )
            .refuses(&[Code::Overloaded]),
    ]
}

/// What to tell of.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Watched {
    keys: Option<String>,
}

async fn watch(
    State(context): State<Context>,
    Query(Watched { keys }): Query<Watched>,
) -> Result<Response, Problem> {
    let keys = keys.unwrap_or_default();
    let keys: Vec<String> =
        keys.split(BETWEEN_KEYS).filter(|key| !key.is_empty()).map(str::to_owned).collect();
    if keys.len() > KEYS_MAX {
        return Err(Problem::invalid_field("keys", format!("more than {KEYS_MAX}")));
    }
    for key in &keys {
        check_name(key).map_err(|problem| Problem::invalid_field("keys", problem))?;
    }
    let stopping = context.app.ready.stopping().clone();
    let watcher = context.events.watch(keys).ok_or_else(|| {
        Problem::new(Code::Overloaded, "as many watch this node as may; another may have room")
    })?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(told(watcher, stopping))).into_response())
}

/// What one watcher is sent until it goes or the node stops.
fn told(
    watcher: Watcher,
    stopping: CancellationToken,
) -> impl stream::Stream<Item = Result<Bytes, Infallible>> {
    let telling = Telling { news: watcher.news(), watcher, told: BTreeMap::new() };
    let begun = (telling, Instant::now() + LIFE);
    stream::unfold((Some(begun), stopping), async |(begun, stopping)| {
        let (mut telling, end) = begun?;
        tokio::select! {
            next = telling.next() => Some((Ok(next?), (Some((telling, end)), stopping))),
            () = sleep_until(end) => Some((Ok(Bytes::from_static(AGAIN)), (None, stopping))),
            () = stopping.cancelled() => None,
        }
    })
}

/// What a watcher is being told.
struct Telling {
    watcher: Watcher,
    news: watch::Receiver<watchers::Newest>,
    told: BTreeMap<Subject, Bytes>,
}

impl Telling {
    /// The next that is to be sent; nothing once there will be no more.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let mut text = Vec::new();
            let newest = self.news.borrow_and_update().clone();
            for (subject, said) in self.watcher.concerns(&newest) {
                if self.told.get(&subject) == Some(&said) {
                    continue;
                }
                text.extend_from_slice(b"event: ");
                text.extend_from_slice(subject.word().as_bytes());
                text.extend_from_slice(b"\ndata: ");
                text.extend_from_slice(&said);
                text.extend_from_slice(b"\n\n");
                self.told.insert(subject, said);
            }
            if !text.is_empty() {
                return Some(text.into());
            }
            match timeout(KEEP_ALIVE, self.news.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_ended)) => return None,
                Err(_quiet) => return Some(Bytes::from_static(b": nothing new\n\n")),
            }
        }
    }
}
