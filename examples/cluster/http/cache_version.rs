//! Versions of cached values, as the API writes them.
//!
//! The API promises unsigned 64-bit integers; the cache counts in three numbers. They fit into one
//! as long as each stays within its share, so that numbers rise as versions do. A version that has
//! outgrown its share is written with dashes: a client treats what it gets as opaque anyway.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use dss_mesi::{Condition, Epoch, Version};
use serde::Serialize;

use super::problem::Problem;

/// Bits for the writes under one grant: a million before the line has to change hands.
const WRITE_BITS: u32 = 20;
/// Bits for the grants of one home in one view.
const GRANT_BITS: u32 = 28;
/// Bits for views: one for each node that joins or is lost.
const EPOCH_BITS: u32 = 64 - GRANT_BITS - WRITE_BITS;

/// A version as a number, or as text where it does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(crate) enum VersionNumber {
    /// The number.
    Number(u64),
    /// What does not fit into one.
    Text(String),
}

impl From<Version> for VersionNumber {
    fn from(version: Version) -> Self {
        let fits = |part: u64, bits: u32| part >> bits == 0;
        let epoch = version.epoch.get();
        let all_fit = fits(epoch, EPOCH_BITS)
            && fits(version.grant, GRANT_BITS)
            && fits(version.write, WRITE_BITS);
        if !all_fit {
            return Self::Text(version.etag());
        }
        let number =
            (epoch << (GRANT_BITS + WRITE_BITS)) | (version.grant << WRITE_BITS) | version.write;
        Self::Number(number)
    }
}

/// The value of an `etag` header.
pub(crate) fn etag(version: Version) -> HeaderValue {
    let quoted = match VersionNumber::from(version) {
        VersionNumber::Number(number) => format!("\"{number}\""),
        VersionNumber::Text(text) => format!("\"{text}\""),
    };
    HeaderValue::try_from(quoted).expect("digits and dashes make a header value")
}

/// What `if-match` and `if-none-match` ask for.
///
/// # Errors
///
/// `invalid_request` where they ask for what the API does not have: several versions, a weak
/// comparison, or both at once.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Wanted, Problem> {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(&name).iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(Problem::invalid_field(name.as_str(), "given twice")),
        }
    };
    match (only(header::IF_MATCH)?, only(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Wanted::Condition(Condition::None)),
        (Some(_), Some(_)) => {
            Err(Problem::invalid("if-match and if-none-match exclude each other"))
        }
        (None, Some(value)) if value.as_bytes() == b"*" => Ok(Wanted::Condition(Condition::Absent)),
        (None, Some(_)) => Err(Problem::invalid_field("if-none-match", "only * is understood")),
        (Some(value), None) => matching(value).ok_or_else(|| {
            Problem::invalid_field("if-match", "one version in double quotes is understood")
        }),
    }
}

/// What must be so for a write to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This.
    Condition(Condition),
    /// Something that cannot be: a version that no value ever had.
    Impossible,
}

fn matching(value: &HeaderValue) -> Option<Wanted> {
    let tag = value.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
    if tag.contains('"') {
        return None;
    }
    let version = parse(tag);
    Some(
        version
            .map_or(Wanted::Impossible, |version| Wanted::Condition(Condition::Matches(version))),
    )
}

/// The version that is written like this; each is written in one way only.
fn parse(tag: &str) -> Option<Version> {
    let version = match tag.parse::<u64>() {
        Ok(number) => Version {
            epoch: Epoch::new(number >> (GRANT_BITS + WRITE_BITS)),
            grant: (number >> WRITE_BITS) & ((1 << GRANT_BITS) - 1),
            write: number & ((1 << WRITE_BITS) - 1),
        },
        Err(_) => tag.parse().ok()?,
    };
    (etag(version).as_bytes() == format!("\"{tag}\"").as_bytes()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(epoch: u64, grant: u64, write: u64) -> Version {
        Version { epoch: Epoch::new(epoch), grant, write }
    }

    fn wanted(headers: &[(HeaderName, &'static str)]) -> Result<Wanted, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        condition(&map)
    }

    #[test]
    fn an_etag_names_its_version_and_no_other() {
        for version in [
            version(0, 0, 1),
            version(1, 2, 3),
            version(65_535, (1 << 28) - 1, (1 << 20) - 1),
            version(65_536, 1, 1),
            version(1, 1 << 28, 1),
            version(1, 1, 1 << 20),
            version(u64::MAX, u64::MAX, u64::MAX),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, etag(version));
            let expected = Wanted::Condition(Condition::Matches(version));
            assert_eq!(condition(&headers), Ok(expected), "{version:?}");
        }
    }

    #[test]
    fn numbers_rise_as_versions_do() {
        let versions = [version(1, 5, 9), version(1, 6, 1), version(1, 6, 2), version(2, 0, 1)];
        let numbers = versions.map(|version| match VersionNumber::from(version) {
            VersionNumber::Number(number) => number,
            VersionNumber::Text(text) => panic!("{text} does not fit"),
        });
        assert!(numbers.is_sorted());
    }

    #[test]
    fn conditions_are_read_from_their_headers() {
        assert_eq!(wanted(&[]), Ok(Wanted::Condition(Condition::None)));
        let absent = Ok(Wanted::Condition(Condition::Absent));
        assert_eq!(wanted(&[(header::IF_NONE_MATCH, "*")]), absent);
        for foreign in ["\"abc\"", "\"\"", "\"007\"", "\"1-2-3\"", "\"+1\""] {
            assert_eq!(wanted(&[(header::IF_MATCH, foreign)]), Ok(Wanted::Impossible), "{foreign}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_invalid_request() {
        for headers in [
            &[(header::IF_MATCH, "5")][..],
            &[(header::IF_MATCH, "*")],
            &[(header::IF_MATCH, "W/\"5\"")],
            &[(header::IF_MATCH, "\"5\", \"6\"")],
            &[(header::IF_MATCH, "\"5")],
            &[(header::IF_MATCH, "\"5\""), (header::IF_MATCH, "\"6\"")],
            &[(header::IF_MATCH, "\"5\""), (header::IF_NONE_MATCH, "*")],
            &[(header::IF_NONE_MATCH, "\"5\"")],
        ] {
            assert!(wanted(headers).is_err(), "{headers:?}");
        }
    }
}
