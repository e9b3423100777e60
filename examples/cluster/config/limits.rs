//! What clients may do to a node before it turns them away.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

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
    /// `requests_max`: how many requests are worked on at a time. One more is answered 429 at
    /// once: to let it queue would only have it wait, and then be answered too late. 2,000: a
    /// cluster does as many within some 100 ms.
    pub(crate) requests_max: usize,
    /// `waits_max`: how many more may wait for a lock or a message. 10,000.
    pub(crate) waits_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 6_000,
            first_byte: Duration::from_secs(10),
            headers: Duration::from_secs(10),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(30),
            headers_max: 100,
            head_bytes_max: 64 << 10,
            requests_max: 2_000,
            waits_max: 10_000,
        }
    }
}

/// Every value has a range in which it makes sense: none is switched off by 0 or without end.
const COUNT: std::ops::RangeInclusive<u64> = 1..=1_000_000;
const MILLIS: std::ops::RangeInclusive<u64> = 1..=3_600_000;
/// What the HTTP implementation takes at least.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 8_192..=1_048_576;
const HEADERS: std::ops::RangeInclusive<u64> = 1..=10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    connections_max: Option<Spanned<u64>>,
    connections_per_address_max: Option<Spanned<u64>>,
    first_byte_ms: Option<Spanned<u64>>,
    headers_ms: Option<Spanned<u64>>,
    body_ms: Option<Spanned<u64>>,
    idle_ms: Option<Spanned<u64>>,
    answer_ms: Option<Spanned<u64>>,
    headers_max: Option<Spanned<u64>>,
    head_bytes_max: Option<Spanned<u64>>,
    requests_max: Option<Spanned<u64>>,
    waits_max: Option<Spanned<u64>>,
}

/// A value out of its range: its field, where it stands and what is wrong.
pub(super) struct OutOfRange<'a> {
    pub(super) field: &'static str,
    pub(super) value: &'a Spanned<u64>,
    pub(super) problem: String,
}

impl LimitsTable {
    pub(super) fn check(&self) -> Result<Limits, OutOfRange<'_>> {
        let mut limits = Limits::default();
        let counts = [
            ("limits.connections_max", &self.connections_max, COUNT, &mut limits.connections_max),
            (
                "limits.connections_per_address_max",
                &self.connections_per_address_max,
                COUNT,
                &mut limits.connections_per_address_max,
            ),
            ("limits.headers_max", &self.headers_max, HEADERS, &mut limits.headers_max),
            ("limits.head_bytes_max", &self.head_bytes_max, HEAD_BYTES, &mut limits.head_bytes_max),
            ("limits.requests_max", &self.requests_max, COUNT, &mut limits.requests_max),
            ("limits.waits_max", &self.waits_max, COUNT, &mut limits.waits_max),
        ];
        for (field, value, range, limit) in counts {
            if let Some(number) = within(field, value.as_ref(), &range)? {
                *limit = usize::try_from(number).expect("the ranges end below 2^32");
            }
        }
        let spans = [
            ("limits.first_byte_ms", &self.first_byte_ms, &mut limits.first_byte),
            ("limits.headers_ms", &self.headers_ms, &mut limits.headers),
            ("limits.body_ms", &self.body_ms, &mut limits.body),
            ("limits.idle_ms", &self.idle_ms, &mut limits.idle),
            ("limits.answer_ms", &self.answer_ms, &mut limits.answer),
        ];
        for (field, value, limit) in spans {
            if let Some(millis) = within(field, value.as_ref(), &MILLIS)? {
                *limit = Duration::from_millis(millis);
            }
        }
        Ok(limits)
    }
}

fn within<'a>(
    field: &'static str,
    value: Option<&'a Spanned<u64>>,
    range: &std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, OutOfRange<'a>> {
    let Some(value) = value else { return Ok(None) };
    if range.contains(value.as_ref()) {
        return Ok(Some(*value.as_ref()));
    }
    let problem = format!("must be from {} to {}", range.start(), range.end());
    Err(OutOfRange { field, value, problem })
}
