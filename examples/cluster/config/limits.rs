//! What clients may do to a node before it turns them away.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The limits of one node. The defaults suit a machine with a few gigabytes of memory; each can be
/// set in `[limits]` of the cluster's file, by the name that stands here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// `connections_max`: how many connections clients may have, all together. One more is
    /// answered 503 and closed. 10,000: each takes some 20 KiB, and a file descriptor; where the
    /// operating system allows fewer of those, that is the limit.
    pub(crate) connections_max: usize,
    /// `connections_per_address_max`: how many of them from one address, where an IPv6 address
    /// counts by its first 64 bits. 6,000: one client cannot shut out the others.
    pub(crate) connections_per_address_max: usize,
    /// `first_byte_ms`: how long a connection may say nothing at its beginning. 10 s.
    pub(crate) first_byte: Duration,
    /// `handshake_ms`: how long the handshake may take from its first byte, where connections are
    /// encrypted. 10 s.
    pub(crate) handshake: Duration,
    /// `headers_ms`: how long the head of a request may take from its first byte. 10 s.
    pub(crate) headers: Duration,
    /// `body_ms`: how long a body may take. 30 s: 1 MiB at 35 KiB/s.
    pub(crate) body: Duration,
    /// `idle_ms`: how long a connection may rest between two requests. 60 s: as long as proxies
    /// keep idle connections to those behind them.
    pub(crate) idle: Duration,
    /// `answer_ms`: how long a client may take no byte of its answer. 30 s.
    pub(crate) answer: Duration,
    /// `headers_max`: how many headers a request may have. 100. More are answered 431.
    pub(crate) headers_max: usize,
    /// `head_bytes_max`: how many bytes its head may have, at least 8,192. 64 KiB.
    pub(crate) head_bytes_max: usize,
    /// `streams_max`: how many requests a connection of HTTP/2 may have under way. 100.
    pub(crate) streams_max: usize,
    /// `resets_max`: how many of them its client may have taken back that were not yet looked at;
    /// with one more, the connection is closed. 20.
    pub(crate) resets_max: usize,
    /// `requests_max`: how many requests are worked on at a time. One more is answered 429 at
    /// once: to let it queue would only have it wait, and then be answered too late. 2,000: a
    /// cluster does as many within some 100 ms.
    pub(crate) requests_max: usize,
    /// `waits_max`: how many more may wait for a lock or a message. 10,000.
    pub(crate) waits_max: usize,
    /// `auth_failures_per_address_max`: how many requests with a wrong token or none are answered
    /// 401 in a minute, by address; more are answered 429. 60. Nobody is locked out by it: a good
    /// token is always heard. A secret of 256 bits is not guessed at any rate; what is kept small
    /// is the log and the work.
    pub(crate) auth_failures_per_address_max: usize,
    /// `auth_failures_max`: how many in all. 600.
    pub(crate) auth_failures_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 6_000,
            first_byte: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(30),
            headers_max: 100,
            head_bytes_max: 64 << 10,
            streams_max: 100,
            resets_max: 20,
            requests_max: 2_000,
            waits_max: 10_000,
            auth_failures_per_address_max: 60,
            auth_failures_max: 600,
        }
    }
}

/// Every value has a range in which it makes sense: none is switched off by 0 or without end.
const COUNT: RangeInclusive<u64> = 1..=1_000_000;
const MILLIS: RangeInclusive<u64> = 1..=3_600_000;
/// What the HTTP implementation takes at least.
const HEAD_BYTES: RangeInclusive<u64> = 8_192..=1_048_576;
const HEADERS: RangeInclusive<u64> = 1..=10_000;

/// Where a limit is kept, and what it may be.
enum Slot<'a> {
    Count(&'a mut usize, RangeInclusive<u64>),
    Span(&'a mut Duration),
}

impl Limits {
    /// What each is called.
    pub(super) const NAMES: [&'static str; 16] = [
        "connections_max",
        "connections_per_address_max",
        "first_byte_ms",
        "handshake_ms",
        "headers_ms",
        "body_ms",
        "idle_ms",
        "answer_ms",
        "headers_max",
        "head_bytes_max",
        "streams_max",
        "resets_max",
        "requests_max",
        "waits_max",
        "auth_failures_per_address_max",
        "auth_failures_max",
    ];

    fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
        Some(match name {
            "connections_max" => Slot::Count(&mut self.connections_max, COUNT),
            "connections_per_address_max" => {
                Slot::Count(&mut self.connections_per_address_max, COUNT)
            }
            "first_byte_ms" => Slot::Span(&mut self.first_byte),
            "handshake_ms" => Slot::Span(&mut self.handshake),
            "headers_ms" => Slot::Span(&mut self.headers),
            "body_ms" => Slot::Span(&mut self.body),
            "idle_ms" => Slot::Span(&mut self.idle),
            "answer_ms" => Slot::Span(&mut self.answer),
            "headers_max" => Slot::Count(&mut self.headers_max, HEADERS),
            "head_bytes_max" => Slot::Count(&mut self.head_bytes_max, HEAD_BYTES),
            "streams_max" => Slot::Count(&mut self.streams_max, COUNT),
            "resets_max" => Slot::Count(&mut self.resets_max, COUNT),
            "requests_max" => Slot::Count(&mut self.requests_max, COUNT),
            "waits_max" => Slot::Count(&mut self.waits_max, COUNT),
            "auth_failures_per_address_max" => {
                Slot::Count(&mut self.auth_failures_per_address_max, COUNT)
            }
            "auth_failures_max" => Slot::Count(&mut self.auth_failures_max, COUNT),
            _ => return None,
        })
    }

    /// Sets the limit of this name.
    ///
    /// # Errors
    ///
    /// What is wrong: with the name, or with the value, which then is as before.
    pub(super) fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
        let slot = self.slot(name).ok_or("there is no such limit")?;
        let range = match &slot {
            Slot::Count(_, range) => range.clone(),
            Slot::Span(_) => MILLIS,
        };
        if !range.contains(&value) {
            return Err(format!("must be from {} to {}", range.start(), range.end()));
        }
        match slot {
            Slot::Count(limit, _) => {
                *limit = usize::try_from(value).expect("the ranges end below 2^32");
            }
            Slot::Span(limit) => *limit = Duration::from_millis(value),
        }
        Ok(())
    }

    /// Every limit, by its name.
    pub(super) fn values(mut self) -> impl Iterator<Item = (&'static str, u128)> {
        Self::NAMES.into_iter().filter_map(move |name| {
            Some(match self.slot(name)? {
                Slot::Count(limit, _) => (name, *limit as u128),
                Slot::Span(limit) => (name, limit.as_millis()),
            })
        })
    }
}
