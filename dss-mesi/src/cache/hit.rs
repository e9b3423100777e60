//! The short way to what is held.

use super::{Cache, Read};
use crate::view::Timestamp;

impl Cache {
    /// Reads `key` if that takes no message: `None` where it must be [read](Cache::read), and
    /// `Some(None)` where it is known that there is no value. `hash` is that of the key.
    #[inline]
    pub(crate) fn hit(&mut self, now: Timestamp, hash: u64, key: &[u8]) -> Option<Option<Read>> {
        if self.leaving || !self.is_member || !self.is_leased(now) {
            return None;
        }
        let slot = self.lines.hit(hash, key)?;
        self.statistics.hits += 1;
        let (value, version) = (slot.value(), slot.version());
        let state = slot.state();
        Some(value.zip(version).map(|(value, version)| Read { value, version, state, hit: true }))
    }
}
