//! The short way to what is held.

use std::time::Duration;

#[cfg(feature = "tokio")]
use super::Read;
use super::{Cache, Timer};
use crate::view::Timestamp;

/// How long before its end a lease counts as over on the short way.
///
/// There the clock is a cheap one, that knows nothing of a time that tests have stopped: so the
/// timer has to close the way as well, before anything else happens at the lease's end.
const MARGIN: Duration = Duration::from_millis(20);

impl Cache {
    /// Reads `key` if that takes no message: `None` where it must be [read](Cache::read), and
    /// `Some(None)` where it is known that there is no value. `hash` is that of the key.
    #[cfg(feature = "tokio")]
    #[inline]
    pub(crate) fn hit(&mut self, now: Timestamp, hash: u64, key: &[u8]) -> Option<Option<Read>> {
        if now >= self.open_until {
            return None;
        }
        let hit = self.lines.hit(hash, key)?;
        self.hits += 1;
        let state = hit.state;
        let written = hit.value.zip(hit.version);
        Some(written.map(|(value, version)| Read { value, version, state, hit: true }))
    }

    /// Closes the short way.
    pub(super) const fn close_short_way(&mut self) {
        self.open_until = Timestamp::ZERO;
    }

    /// Opens or closes the short way, as things stand.
    pub(super) fn set_short_way(&mut self, now: Timestamp) {
        let leased = self.lease.is_some_and(|lease| now + MARGIN < lease);
        let is_open = leased && self.is_member && !self.leaving;
        self.open_until = self.lease.filter(|_| is_open).unwrap_or(Timestamp::ZERO);
        if let (true, Some(lease)) = (leased, self.lease) {
            let closes =
                Timestamp::since_origin(lease.since(Timestamp::ZERO).saturating_sub(MARGIN));
            self.timers.arm(closes, Timer::Lease);
        }
    }
}
