//! The values of the API that are types of their own: spans of time, instants, payloads.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Problem;

/// How long an acquire may wait: up to a day. A client that wants longer asks again.
pub(crate) type WaitMs = Millis<0, { 24 * 60 * 60 * 1000 }>;
/// How long a receive may wait: up to an hour.
pub(crate) type PollMs = Millis<0, { whole_millis(dss_queue::limits::WAIT_MAX) }>;
/// How long a session lives without a sign of life: up to a day.
pub(crate) type TtlMs =
    Millis<{ whole_millis(dss_lock::TTL_MIN) }, { whole_millis(dss_lock::TTL_MAX) }>;
/// For how long locks are kept back after their session has expired: up to a minute.
pub(crate) type LockDelayMs = Millis<0, { whole_millis(dss_lock::LOCK_DELAY_MAX) }>;
/// How long a delivered message stays hidden: up to 12 hours.
pub(crate) type VisibilityMs = Millis<1, { whole_millis(dss_queue::limits::VISIBILITY_MAX) }>;
/// How long a message is held back: up to ten years.
pub(crate) type DelayMs = Millis<0, { whole_millis(dss_queue::limits::SPAN_MAX) }>;
/// How long a topic keeps a message: up to ten years.
pub(crate) type RetentionMs = Millis<1, { whole_millis(dss_queue::limits::SPAN_MAX) }>;

const fn whole_millis(limit: Duration) -> u64 {
    limit.as_secs() * 1000 + limit.subsec_millis() as u64
}

/// A whole number of milliseconds between two bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Millis<const MIN: u64, const MAX: u64>(Duration);

impl<const MIN: u64, const MAX: u64> Millis<MIN, MAX> {
    pub(crate) const fn get(self) -> Duration {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Millis<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if (MIN..=MAX).contains(&number) {
            return Ok(Self(Duration::from_millis(number)));
        }
        Err(de::Error::custom(format_args!("{number} is not from {MIN} to {MAX} milliseconds")))
    }
}

impl<const MIN: u64, const MAX: u64> PartialSchema for Millis<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(utoipa::Number::UInt(usize::try_from(MIN).unwrap_or(usize::MAX))))
            .maximum(Some(utoipa::Number::UInt(usize::try_from(MAX).unwrap_or(usize::MAX))))
            .into()
    }
}

impl<const MIN: u64, const MAX: u64> ToSchema for Millis<MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("Millis_{MIN}_{MAX}").into()
    }
}

/// A duration as the whole milliseconds of an answer.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An instant as RFC 3339 text in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instant(jiff::Timestamp);

impl Instant {
    /// The instant this many milliseconds after 1970; past the year 9999 it stays there.
    pub(crate) fn from_unix_millis(millis: u64) -> Self {
        let in_range = i64::try_from(millis).ok().map(jiff::Timestamp::from_millisecond);
        Self(in_range.and_then(Result::ok).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Instant {}

/// The standard alphabet; padding is written and not insisted on.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a message that came as one of `payload` and `payload_base64`.
pub(crate) fn payload(text: Option<String>, base64: Option<&str>) -> Result<Bytes, Problem> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => match BASE64.decode(base64) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) => Err(Problem::invalid_field("payload_base64", error)),
        },
        (None, None) => Err(Problem::invalid("a message needs payload or payload_base64")),
        (Some(_), Some(_)) => {
            Err(Problem::invalid("payload and payload_base64 exclude each other"))
        }
    }
}

/// How a payload is answered: as text where it is UTF-8, else as base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    Text(String),
    Base64(String),
}

impl From<&Bytes> for Payload {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(BASE64.encode(bytes)),
        }
    }
}

impl Payload {
    /// The members `payload` and `payload_base64`, one of which is there.
    pub(crate) fn into_members(self) -> (Option<String>, Option<String>) {
        match self {
            Self::Text(text) => (Some(text), None),
            Self::Base64(text) => (None, Some(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::Code;

    #[test]
    fn a_span_outside_its_bounds_is_refused() {
        for text in ["0", "86400001", "1000000000000000000", "-1", "1.5", "\"5\"", "null"] {
            assert!(serde_json::from_str::<TtlMs>(text).is_err(), "{text}");
        }
        for text in ["1", "86400000"] {
            assert!(serde_json::from_str::<TtlMs>(text).is_ok(), "{text}");
        }
        assert_eq!(serde_json::from_str::<WaitMs>("0").unwrap().get(), Duration::ZERO);
    }

    #[test]
    fn instants_are_rfc_3339_in_utc_with_milliseconds() {
        let text = |millis| serde_json::to_value(Instant::from_unix_millis(millis)).unwrap();
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(1_735_689_600_250), "2025-01-01T00:00:00.250Z");
        assert_eq!(text(u64::MAX), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn a_payload_is_one_of_text_and_base64() {
        assert_eq!(payload(Some("ä".into()), None), Ok(Bytes::from_static("ä".as_bytes())));
        assert_eq!(payload(Some(String::new()), None), Ok(Bytes::new()));
        assert_eq!(payload(None, Some("/wA=")), Ok(Bytes::from_static(&[0xff, 0])));
        assert_eq!(payload(None, Some("/wA")), Ok(Bytes::from_static(&[0xff, 0])));
        for (text, base64) in [(None, None), (Some("a"), Some("YQ==")), (None, Some("%%%"))] {
            let refused = payload(text.map(str::to_owned), base64).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidRequest);
        }
    }

    #[test]
    fn a_payload_is_answered_as_text_where_it_is_text() {
        let members =
            |bytes: &'static [u8]| Payload::from(&Bytes::from_static(bytes)).into_members();
        assert_eq!(members(b"hi"), (Some("hi".into()), None));
        assert_eq!(members(&[0xff, 0]), (None, Some("/wA=".into())));
    }
}
