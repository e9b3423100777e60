//! A storage that forgets everything with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::stored::{Misfit, Stored};
use crate::entry::Snapshot;
use crate::output::Persist;
use crate::ports::{Restored, Storage, StorageError};
use crate::types::GroupId;

type Disk = BTreeMap<GroupId, Stored<Snapshot>>;

/// Keeps everything in memory: for tests, and for groups that may be lost with their process.
///
/// Clones share the "disk": give one to a node, drop the node, give another clone to the next, and
/// it finds what the first had stored.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    /// Whether a write has failed. Not shared: the next start may try again.
    poisoned: bool,
}

impl MemoryStorage {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing that is done under the lock panics.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError> {
        let disk = self.disk();
        let Some(stored) = disk.get(&group) else { return Ok(Restored::default()) };
        Ok(stored.restored(stored.snapshot.clone()))
    }

    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        for (group, persist) in writes {
            let written = write(self.disk().entry(group).or_default(), persist);
            if let Err(Misfit(problem)) = written {
                self.poisoned = true;
                return Err(StorageError::OutOfOrder { group, problem });
            }
        }
        Ok(())
    }
}

fn write(stored: &mut Stored<Snapshot>, persist: Persist) -> Result<(), Misfit> {
    if let Some(hard_state) = persist.hard_state {
        stored.hard_state = hard_state;
    }
    if let Some(from) = persist.truncate_from {
        stored.truncate(from)?;
    }
    if let Some(snapshot) = persist.snapshot {
        let keeps_log = stored.agrees_with(snapshot.last);
        stored.store_snapshot(snapshot, keeps_log)?;
    }
    stored.append(&persist.entries)?;
    if let Some(to) = persist.compact_to {
        stored.compact(to)?;
    }
    Ok(())
}
