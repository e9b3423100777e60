//! What a node counts, and how Prometheus reads it.

mod exposition;
mod histogram;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use dss_mesi::LineState;
use tokio::time::Instant;

use super::route::Route;

pub(crate) use exposition::{Exposition, Kind, MEDIA_TYPE};
pub(crate) use histogram::Histogram;

/// Upper bounds of the latency buckets, in microseconds: from a local cache hit to an acquire that
/// waits.
const BUCKETS_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    10_000_000, 60_000_000,
];

/// What a request ended in: the class of its status, or the client went away before it ended.
const OUTCOMES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "abandoned"];
const ABANDONED: usize = 4;

/// Things that handlers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    LocksGranted,
    LocksRefused,
    LockWaitsTimedOut,
    Deadlocks,
    LocksReleased,
    MessagesPublished,
    MessagesDelivered,
    MessagesAcknowledged,
    MessagesReturned,
    Forwarded,
    ConnectionsRefused,
    HandshakesFailed,
    RequestsShed,
    Unauthenticated,
    Forbidden,
}

impl Counter {
    const ALL: [(Self, &'static str, &'static str); 15] = [
        (Self::LocksGranted, "dss_lock_grants_total", "Acquires that this node granted."),
        (
            Self::LocksRefused,
            "dss_lock_refusals_total",
            "Acquires refused since the lock was held.",
        ),
        (Self::LockWaitsTimedOut, "dss_lock_wait_timeouts_total", "Acquires that waited in vain."),
        (Self::Deadlocks, "dss_lock_deadlocks_total", "Acquires refused as deadlocks."),
        (Self::LocksReleased, "dss_lock_releases_total", "Locks released by their holders."),
        (Self::MessagesPublished, "dss_queue_published_total", "Messages stored."),
        (Self::MessagesDelivered, "dss_queue_delivered_total", "Messages handed to consumers."),
        (Self::MessagesAcknowledged, "dss_queue_acknowledged_total", "Deliveries acknowledged."),
        (Self::MessagesReturned, "dss_queue_returned_total", "Deliveries given back."),
        (Self::Forwarded, "dss_forwarded_requests_total", "Requests answered for other nodes."),
        (
            Self::ConnectionsRefused,
            "dss_http_connections_refused_total",
            "Connections turned away since there were too many.",
        ),
        (
            Self::HandshakesFailed,
            "dss_http_handshakes_failed_total",
            "Connections of clients that were not encrypted, in the wrong way, or not in time.",
        ),
        (
            Self::RequestsShed,
            "dss_http_requests_shed_total",
            "Requests answered 429 at once since too many were under way.",
        ),
        (
            Self::Unauthenticated,
            "dss_http_unauthenticated_total",
            "Requests refused since their token was worth nothing, or not there.",
        ),
        (
            Self::Forbidden,
            "dss_http_forbidden_total",
            "Requests refused since the role of their token does not allow them.",
        ),
    ];
}

/// What a node has counted since it started. Cardinality is bounded: one series for each entry of
/// the route table and outcome, never one for a name that a client chose.
#[derive(Debug)]
pub(crate) struct Recorder {
    routes: Vec<RouteSeries>,
    counters: [AtomicU64; Counter::ALL.len()],
    connections: AtomicU64,
    lock_waits: Histogram,
    lock_waiting: AtomicU64,
    /// Reads that found their line here, by its state.
    cache_hits: [(LineState, &'static str, AtomicU64); 3],
}

#[derive(Debug)]
struct RouteSeries {
    method: String,
    path: &'static str,
    in_flight: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES.len()],
    durations: Histogram,
}

impl Recorder {
    /// Nothing counted yet for `routes`, nor for requests that match none of them.
    pub(crate) fn new(routes: &[Route]) -> Self {
        let named = routes.iter().map(|route| (route.method.to_string(), route.path));
        let unmatched = [("any".to_owned(), "none")];
        let routes = named.chain(unmatched).map(|(method, path)| RouteSeries {
            method,
            path,
            in_flight: AtomicU64::default(),
            outcomes: Default::default(),
            durations: Histogram::new(&BUCKETS_MICROS),
        });
        Self {
            routes: routes.collect(),
            counters: Default::default(),
            connections: AtomicU64::default(),
            lock_waits: Histogram::new(&BUCKETS_MICROS),
            lock_waiting: AtomicU64::default(),
            cache_hits: [
                (LineState::Modified, "M", AtomicU64::default()),
                (LineState::Exclusive, "E", AtomicU64::default()),
                (LineState::Shared, "S", AtomicU64::default()),
            ],
        }
    }

    /// The place of requests that match no route.
    pub(crate) fn unmatched(&self) -> usize {
        self.routes.len() - 1
    }

    pub(crate) fn count(&self, counter: Counter, by: usize) {
        self.counters[counter as usize].fetch_add(by as u64, Ordering::Relaxed);
    }

    /// So many clients are connected.
    pub(crate) fn set_connections(&self, connections: usize) {
        self.connections.store(connections as u64, Ordering::Relaxed);
    }

    /// A read has found its line here in this state.
    pub(crate) fn count_hit(&self, state: LineState) {
        if let Some((_, _, hits)) = self.cache_hits.iter().find(|(counted, ..)| *counted == state) {
            hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An acquire begins to wait, and ends when this is dropped.
    pub(crate) fn wait_for_lock(self: &Arc<Self>) -> LockWait {
        self.lock_waiting.fetch_add(1, Ordering::Relaxed);
        LockWait { recorder: Arc::clone(self), start: Instant::now() }
    }

    /// Begins to measure a request to the route at this place of the table.
    pub(crate) fn begin(self: &Arc<Self>, route: usize) -> Measured {
        self.routes[route].in_flight.fetch_add(1, Ordering::Relaxed);
        Measured { recorder: Arc::clone(self), route, start: Instant::now(), outcome: ABANDONED }
    }

    /// Writes what was counted.
    pub(crate) fn write(&self, exposition: &mut Exposition) {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        for (counter, name, help) in Counter::ALL {
            let value = load(&self.counters[counter as usize]);
            exposition.family(name, Kind::Counter, help).sample(&[], value);
        }
        exposition
            .family("dss_http_connections", Kind::Gauge, "Connections that clients have.")
            .sample(&[], load(&self.connections));
        self.write_locks_and_cache(exposition);
        let mut family = exposition.family(
            "dss_http_requests_total",
            Kind::Counter,
            "Requests of clients by what they ended in.",
        );
        for series in &self.routes {
            for (outcome, count) in OUTCOMES.iter().zip(&series.outcomes) {
                let [method, route] = series.labels();
                family.sample(&[method, route, ("outcome", outcome)], load(count));
            }
        }
        let mut family = exposition.family(
            "dss_http_requests_in_flight",
            Kind::Gauge,
            "Requests of clients that are not answered yet.",
        );
        for series in &self.routes {
            family.sample(&series.labels(), load(&series.in_flight));
        }
        let mut family = exposition.family(
            "dss_http_request_duration_seconds",
            Kind::Histogram,
            "How long clients waited for their answers.",
        );
        for series in &self.routes {
            series.durations.write(&mut family, &series.labels());
        }
    }

    fn write_locks_and_cache(&self, exposition: &mut Exposition) {
        let help = "Acquires under way at this node that may wait.";
        exposition
            .family("dss_lock_acquires_waiting", Kind::Gauge, help)
            .sample(&[], self.lock_waiting.load(Ordering::Relaxed));
        let help = "How long acquires that may wait took, whatever they ended in.";
        let mut family = exposition.family("dss_lock_wait_seconds", Kind::Histogram, help);
        self.lock_waits.write(&mut family, &[]);
        let help = "Reads that found their line here, by its state.";
        let mut family = exposition.family("dss_cache_state_hits_total", Kind::Counter, help);
        for (_, state, hits) in &self.cache_hits {
            family.sample(&[("state", state)], hits.load(Ordering::Relaxed));
        }
    }
}

/// An acquire that may wait.
#[derive(Debug)]
pub(crate) struct LockWait {
    recorder: Arc<Recorder>,
    start: Instant,
}

impl Drop for LockWait {
    fn drop(&mut self) {
        self.recorder.lock_waiting.fetch_sub(1, Ordering::Relaxed);
        self.recorder.lock_waits.record(self.start.elapsed());
    }
}

impl RouteSeries {
    fn labels(&self) -> [(&str, &str); 2] {
        [("method", &self.method), ("route", self.path)]
    }
}

/// A request that is being measured. Dropped before it is [`answered`](Self::answered), it counts
/// as abandoned.
#[derive(Debug)]
pub(crate) struct Measured {
    recorder: Arc<Recorder>,
    route: usize,
    start: Instant,
    outcome: usize,
}

impl Measured {
    /// The request was answered with this status.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.outcome = match status.as_u16() {
            ..300 => 0,
            300..400 => 1,
            400..500 => 2,
            500.. => 3,
        };
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let series = &self.recorder.routes[self.route];
        series.in_flight.fetch_sub(1, Ordering::Relaxed);
        series.outcomes[self.outcome].fetch_add(1, Ordering::Relaxed);
        series.durations.record(self.start.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_counter_stands_at_its_own_place_under_its_own_name() {
        let names: std::collections::BTreeSet<_> =
            Counter::ALL.iter().map(|(_, name, _)| name).collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for (place, (counter, name, _)) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, place);
            assert!(name.starts_with("dss_") && name.ends_with("_total"), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_outcome_and_duration() {
        let recorder = Arc::new(Recorder::new(&[]));
        let measured = recorder.begin(recorder.unmatched());
        tokio::time::advance(Duration::from_millis(3)).await;
        measured.answered(StatusCode::NOT_FOUND);
        drop(recorder.begin(recorder.unmatched()));
        let _in_flight = recorder.begin(recorder.unmatched());

        let mut exposition = Exposition::default();
        recorder.write(&mut exposition);
        let text = exposition.finish();
        let labels = r#"method="any",route="none""#;
        for line in [
            format!(r#"dss_http_requests_total{{{labels},outcome="4xx"}} 1"#),
            format!(r#"dss_http_requests_total{{{labels},outcome="abandoned"}} 1"#),
            format!(r#"dss_http_requests_total{{{labels},outcome="2xx"}} 0"#),
            format!("dss_http_requests_in_flight{{{labels}}} 1"),
            format!(r#"dss_http_request_duration_seconds_bucket{{{labels},le="0.0025"}} 1"#),
            format!(r#"dss_http_request_duration_seconds_bucket{{{labels},le="0.005"}} 2"#),
            format!(r#"dss_http_request_duration_seconds_bucket{{{labels},le="+Inf"}} 2"#),
            format!("dss_http_request_duration_seconds_count{{{labels}}} 2"),
            format!("dss_http_request_duration_seconds_sum{{{labels}}} 0.003"),
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }
}
