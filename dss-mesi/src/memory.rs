//! Main memory in memory: the deterministic table, and the [`Memory`] made of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ports::{Memory, MemoryError, StoreOutcome, Stored};
use crate::version::Version;
use crate::view::Epoch;

/// The first byte of a snapshot.
const FORMAT: u8 = 1;

/// The core of a main memory: versioned, conditional writes under a fence.
///
/// Deterministic, so that it can be replicated; every [`Memory`] behaves as this table does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct MemoryTable {
    fence: Epoch,
    values: BTreeMap<Bytes, Stored>,
}

/// Bytes given to [`MemoryTable::restore`] are no snapshot of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot of a main memory")]
pub struct TableError;

impl MemoryTable {
    /// A table without values, with the fence at [`Epoch::ZERO`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest write of `key`, be it a tombstone; `None` where it was never written.
    #[must_use]
    pub fn load(&self, key: &[u8]) -> Option<&Stored> {
        self.values.get(key)
    }

    /// Stores, unless `writer` is below the fence or `version` below the stored one.
    pub fn store(
        &mut self,
        writer: Epoch,
        key: Bytes,
        version: Version,
        value: Option<Bytes>,
    ) -> StoreOutcome {
        if writer < self.fence {
            return StoreOutcome::Fenced { fence: self.fence };
        }
        match self.values.get_mut(&key) {
            Some(stored) if stored.version > version => {
                return StoreOutcome::Stale { newest: stored.version };
            }
            // Of one version there is one value: an equal one is the same write again.
            Some(stored) if stored.version == version => {}
            Some(stored) => *stored = Stored { version, value },
            None => {
                self.values.insert(key, Stored { version, value });
            }
        }
        StoreOutcome::Stored
    }

    /// Raises the fence to `epoch`; one that is higher stays. Returns where it stands then.
    pub fn fence(&mut self, epoch: Epoch) -> Epoch {
        self.fence = self.fence.max(epoch);
        self.fence
    }

    /// Drops what is stored under `key`, as no main memory may.
    #[cfg(test)]
    pub(crate) fn forget(&mut self, key: &[u8]) {
        self.values.remove(key);
    }

    /// How many keys have a value or a tombstone.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether nothing was ever stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The whole table in bytes.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        postcard::to_extend(self, vec![FORMAT])
            .expect("a table holds nothing that postcard cannot write")
            .into()
    }

    /// The table of which these bytes are the [`snapshot`](MemoryTable::snapshot).
    ///
    /// # Errors
    ///
    /// Where they are none; never panics.
    pub fn restore(bytes: &[u8]) -> Result<Self, TableError> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => match postcard::take_from_bytes(rest) {
                Ok((table, [])) => Ok(table),
                _ => Err(TableError),
            },
            _ => Err(TableError),
        }
    }
}

/// A [`Memory`] in this process, for tests and for caches that need no durability.
///
/// Clones share one table.
#[derive(Debug, Clone, Default)]
pub struct InMemoryMemory {
    table: Arc<Mutex<MemoryTable>>,
}

impl InMemoryMemory {
    /// An empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of what it has.
    #[must_use]
    pub fn table(&self) -> MemoryTable {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, MemoryTable> {
        // No method of the table leaves it half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Memory for InMemoryMemory {
    async fn load(&self, key: &Bytes) -> Result<Option<Stored>, MemoryError> {
        Ok(self.lock().load(key).cloned())
    }

    async fn store(
        &self,
        writer: Epoch,
        key: &Bytes,
        version: Version,
        value: Option<Bytes>,
    ) -> Result<StoreOutcome, MemoryError> {
        Ok(self.lock().store(writer, key.clone(), version, value))
    }

    async fn fence(&self, epoch: Epoch) -> Result<(), MemoryError> {
        match self.lock().fence(epoch) {
            fence if fence == epoch => Ok(()),
            fence => Err(MemoryError::Fenced { fence }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_restores_values_tombstones_and_the_fence() {
        let mut table = MemoryTable::new();
        let version = |write| Version { epoch: Epoch::new(2), grant: 1, write };
        table.store(Epoch::new(2), "a".into(), version(1), Some("x".into()));
        table.store(Epoch::new(2), "b".into(), version(2), None);
        table.fence(Epoch::new(5));
        let restored = MemoryTable::restore(&table.snapshot()).unwrap();
        assert_eq!(restored, table);
        assert_eq!(restored.len(), 2);
        for bytes in [&b""[..], b"\x01", b"\x02\x00\x00", &table.snapshot()[1..]] {
            assert_eq!(MemoryTable::restore(bytes), Err(TableError));
        }
    }
}
