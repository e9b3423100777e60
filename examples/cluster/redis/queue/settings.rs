//! A topic's settings as Redis keeps them: four numbers in a line, `-` for none.

use std::time::Duration;

use dss_queue::{BrokerError, Overflow, TopicSettings};

/// Whether the scripts can do what the settings say.
pub(super) fn check_supported(settings: &TopicSettings) -> Result<(), BrokerError> {
    let refused = |field| BrokerError::Invalid { field, problem: "is not supported on Redis" };
    if settings.max_bytes.is_some() {
        return Err(refused("max_bytes"));
    }
    if settings.overflow != Overflow::DropOldest {
        return Err(refused("overflow"));
    }
    settings.backoff.map_or(Ok(()), |_| Err(refused("backoff")))
}

/// Whole milliseconds, rounded up: nothing ends before it should.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

pub(super) fn parts_of(settings: &TopicSettings) -> [String; 4] {
    let or_none = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
    [
        millis(settings.visibility).to_string(),
        settings.max_attempts.to_string(),
        or_none(settings.retention.map(millis)),
        or_none(settings.max_length),
    ]
}

pub(super) fn settings_of(line: &str) -> Option<TopicSettings> {
    let mut parts = line.split(' ');
    let mut next = || parts.next();
    let visibility = Duration::from_millis(next()?.parse().ok()?);
    let max_attempts = next()?.parse().ok()?;
    let retention = optional(next()?)?.map(Duration::from_millis);
    let max_length = optional(next()?)?;
    Some(TopicSettings {
        visibility,
        max_attempts,
        retention,
        max_length,
        ..TopicSettings::default()
    })
}

/// The inner `None` is "none", the outer one no number.
#[expect(clippy::option_option, reason = "a value that may be absent, or unreadable")]
fn optional(text: &str) -> Option<Option<u64>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_and_nothing_else_is_read() {
        let full = TopicSettings {
            visibility: Duration::from_micros(1_500),
            max_attempts: 7,
            retention: Some(Duration::from_secs(2)),
            max_length: Some(u64::MAX),
            ..TopicSettings::default()
        };
        let line = parts_of(&full).join(" ");
        assert_eq!(line, "2 7 2000 18446744073709551615");
        let rounded = TopicSettings { visibility: Duration::from_millis(2), ..full };
        assert_eq!(settings_of(&line), Some(rounded));
        let default = TopicSettings::default();
        assert_eq!(settings_of(&parts_of(&default).join(" ")), Some(default));
        for line in ["", "1 2 3", "1 x - -", "1 -2 - -"] {
            assert_eq!(settings_of(line), None, "{line}");
        }
    }
}
