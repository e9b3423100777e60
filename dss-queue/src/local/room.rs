//! Whether a disk has room for more.

use std::path::PathBuf;

use crate::broker::BrokerError;

/// A disk and how much of it has to stay free.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    reserve_bytes: u64,
}

impl Room {
    pub(super) fn new(folder: PathBuf, reserve_bytes: u64) -> Self {
        Self { folder, reserve_bytes }
    }

    /// Whether a publish may be written. Asking takes a microsecond.
    ///
    /// A disk that does not say how much it has free is taken to have enough: its writes will tell.
    pub(super) fn check(&self) -> Result<(), BrokerError> {
        match self.free_bytes() {
            Some(free) if free < self.reserve_bytes => Err(BrokerError::Overloaded),
            _ => Ok(()),
        }
    }

    #[cfg(unix)]
    fn free_bytes(&self) -> Option<u64> {
        let space = rustix::fs::statvfs(&self.folder).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    #[cfg(not(unix))]
    fn free_bytes(&self) -> Option<u64> {
        let _ = &self.folder;
        None
    }
}
