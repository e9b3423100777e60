//! The numbers that put grants, recalls and writes of one line in order.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::view::Epoch;

/// The place of a grant or recall among all those of a line.
///
/// A home counts on with every transaction, over all its lines, and a key that moves to another
/// home moves in a later epoch: so the order is total for each line, though its homes know nothing
/// of one another, and a home may forget lines that nobody holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Seq {
    /// The view in which the home counted.
    pub epoch: Epoch,
    /// Its count.
    pub count: u64,
}

/// Names one request of a cache; a later one of the same life is larger.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct RequestId(pub(crate) u64);

/// Which write a value comes from; main memory keeps the largest.
///
/// The first two parts name the exclusive grant under which it was written, the third counts the
/// writes under it: so versions of a line rise in the order of its writes, whoever wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The view of the grant.
    pub epoch: Epoch,
    /// The home's count of the grant.
    pub grant: u64,
    /// The count of writes under the grant, from 1.
    pub write: u64,
}

impl Version {
    /// The text that stands for this version in an `ETag`: three decimal numbers with dashes.
    #[must_use]
    pub fn etag(&self) -> String {
        self.to_string()
    }

    /// The grant under which it was written.
    #[must_use]
    pub(crate) const fn seq(&self) -> Seq {
        Seq { epoch: self.epoch, count: self.grant }
    }

    /// The version of the next write under `grant`, where the line's value has version `current`.
    pub(crate) fn next(current: Option<Self>, grant: Seq) -> Self {
        let write = match current {
            Some(version) if version.seq() == grant => version.write + 1,
            _ => 1,
        };
        Self { epoch: grant.epoch, grant: grant.count, write }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}-{}", self.epoch, self.grant, self.write)
    }
}

/// A text is not what [`Version::etag`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is three decimal numbers with dashes between them")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    /// Accepts exactly what [`Version::etag`] writes: two texts never mean the same version.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let mut parts = text.split('-').map(|part| part.parse::<u64>().map_err(|_| VersionError));
        let mut part = || parts.next().unwrap_or(Err(VersionError));
        let version = Self { epoch: Epoch::new(part()?), grant: part()?, write: part()? };
        if version.etag() == text { Ok(version) } else { Err(VersionError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(epoch: u64, grant: u64, write: u64) -> Version {
        Version { epoch: Epoch::new(epoch), grant, write }
    }

    #[test]
    fn an_etag_reads_back_as_its_version() {
        for version in [version(0, 0, 0), version(1, 20, 300), version(u64::MAX, 0, u64::MAX)] {
            assert_eq!(version.etag().parse(), Ok(version));
        }
        for text in ["", "1-2", "1-2-3-4", "01-2-3", "+1-2-3", "1-2-", "1 -2-3", "a-b-c"] {
            assert_eq!(text.parse::<Version>(), Err(VersionError), "{text:?}");
        }
    }

    #[test]
    fn a_write_under_a_later_grant_is_newer() {
        let grant = |epoch, count| Seq { epoch: Epoch::new(epoch), count };
        let first = Version::next(None, grant(1, 7));
        let second = Version::next(Some(first), grant(1, 7));
        let third = Version::next(Some(second), grant(1, 9));
        let fourth = Version::next(Some(third), grant(2, 1));
        assert_eq!([first.write, second.write, third.write, fourth.write], [1, 2, 1, 1]);
        assert!(first < second && second < third && third < fourth);
    }
}
