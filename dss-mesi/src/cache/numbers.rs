//! Seq and version of a line, packed.

use std::num::NonZeroU32;

use crate::version::{Seq, Version};
use crate::view::Epoch;

/// The two in 24 bytes instead of 40, as long as epochs and writes stay below 2^32 - 1 and counts
/// below 2^48: a home that grants a million lines a second gets there in nine years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// One more than the epoch, so that an `Option` of all this takes no more room.
    after_epoch: NonZeroU32,
    count_low: u32,
    version_epoch: u32,
    grant_low: u32,
    write: u32,
    count_high: u16,
    grant_high: u16,
}

/// Stands for no version: nothing is written before the first view.
const NONE: Version = Version { epoch: Epoch::ZERO, grant: 0, write: 0 };

impl Numbers {
    /// `None` where they are too large.
    pub(super) fn new(seq: Seq, version: Option<Version>) -> Option<Self> {
        let version = version.unwrap_or(NONE);
        let (count_high, count_low) = halves(seq.count)?;
        let (grant_high, grant_low) = halves(version.grant)?;
        Some(Self {
            after_epoch: u32::try_from(seq.epoch.get()).ok()?.checked_add(1)?.try_into().ok()?,
            count_low,
            version_epoch: version.epoch.get().try_into().ok()?,
            grant_low,
            write: version.write.try_into().ok()?,
            count_high,
            grant_high,
        })
    }

    pub(super) const fn seq(&self) -> Seq {
        let count = (self.count_high as u64) << 32 | self.count_low as u64;
        Seq { epoch: Epoch::new(self.after_epoch.get() as u64 - 1), count }
    }

    #[inline]
    pub(super) fn version(&self) -> Option<Version> {
        let version = Version {
            epoch: Epoch::new(u64::from(self.version_epoch)),
            grant: u64::from(self.grant_high) << 32 | u64::from(self.grant_low),
            write: u64::from(self.write),
        };
        (version != NONE).then_some(version)
    }
}

fn halves(number: u64) -> Option<(u16, u32)> {
    let [a, b, c, d, e, f, 0, 0] = number.to_le_bytes() else { return None };
    Some((u16::from_le_bytes([e, f]), u32::from_le_bytes([a, b, c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_kept_and_what_does_not_is_refused() {
        let seq = |epoch, count| Seq { epoch: Epoch::new(epoch), count };
        let version =
            |epoch, grant, write| Some(Version { epoch: Epoch::new(epoch), grant, write });
        let (narrow, wide) = (u64::from(u32::MAX) - 1, (1 << 48) - 1);
        for (seq, version) in [
            (seq(0, 0), None),
            (seq(1, 2), version(3, 4, 5)),
            (seq(narrow, wide), version(narrow, wide, narrow)),
            (seq(narrow, wide), None),
        ] {
            let numbers = Numbers::new(seq, version).unwrap();
            assert_eq!((numbers.seq(), numbers.version()), (seq, version));
        }
        for (seq, version) in [
            (seq(narrow + 1, 0), None),
            (seq(0, wide + 1), None),
            (seq(0, u64::MAX), None),
            (seq(0, 0), version(narrow + 2, 0, 0)),
            (seq(0, 0), version(0, wide + 1, 0)),
            (seq(0, 0), version(0, 0, narrow + 2)),
        ] {
            assert_eq!(Numbers::new(seq, version), None);
        }
    }
}
