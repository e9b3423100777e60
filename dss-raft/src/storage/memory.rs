//! A storage that forgets everything with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::stored::{Misfit, Stored};
use crate::entry::Snapshot;
use crate::output::Persist;
use crate::ports::{
    Restored, SnapshotReader, SnapshotStore, SnapshotWriter, Storage, StorageError,
};
use crate::types::GroupId;

/// Keeps everything in memory: for tests, and for groups that may be lost with their process.
///
/// Clones share the "disk": give one to a node, drop the node, give another clone to the next, and
/// it finds what the first had stored.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    shared: Shared,
    /// Whether a write has failed. Not shared: the next start may try again.
    poisoned: bool,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    groups: BTreeMap<GroupId, Stored<Snapshot>>,
    snapshots: BTreeMap<u64, MemorySnapshot>,
    next_snapshot: u64,
}

#[derive(Debug, Clone)]
struct MemorySnapshot {
    group: GroupId,
    bytes: Bytes,
    /// How many snapshots of the group are newer in the log; `None` where it never was there.
    age: Option<u32>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        // Nothing that is done under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStorage {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError> {
        let disk = self.shared.lock();
        let Some(stored) = disk.groups.get(&group) else { return Ok(Restored::default()) };
        Ok(stored.restored(stored.snapshot.clone()))
    }

    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        for (group, persist) in writes {
            if let Err(Misfit(problem)) = self.shared.lock().write(group, persist) {
                self.poisoned = true;
                return Err(StorageError::OutOfOrder { group, problem });
            }
        }
        Ok(())
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        Arc::new(self.shared.clone())
    }
}

impl Disk {
    fn write(&mut self, group: GroupId, persist: Persist) -> Result<(), Misfit> {
        let stored = self.groups.entry(group).or_default();
        if let Some(hard_state) = persist.hard_state {
            stored.hard_state = hard_state;
        }
        if let Some(from) = persist.truncate_from {
            stored.truncate(from)?;
        }
        if let Some(snapshot) = persist.snapshot {
            let number = number(&snapshot.data)
                .filter(|number| self.snapshots.get(number).is_some_and(|it| it.group == group))
                .ok_or(Misfit("a snapshot was not finished"))?;
            let keeps_log = stored.agrees_with(snapshot.last);
            stored.store_snapshot(*snapshot, keeps_log)?;
            self.snapshots.retain(|other, snapshot| {
                if *other == number {
                    snapshot.age = Some(0);
                } else if snapshot.group == group {
                    snapshot.age = snapshot.age.map(|age| age + 1);
                }
                snapshot.age < Some(2)
            });
        }
        let stored = self.groups.entry(group).or_default();
        stored.append(&persist.entries)?;
        if let Some(to) = persist.compact_to {
            stored.compact(to)?;
        }
        Ok(())
    }
}

impl SnapshotStore for Shared {
    fn create(&self, group: GroupId) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        Ok(Box::new(Writer { shared: self.clone(), group, bytes: Vec::new() }))
    }

    fn open(
        &self,
        group: GroupId,
        descriptor: &Bytes,
    ) -> Result<Box<dyn SnapshotReader>, StorageError> {
        let disk = self.lock();
        let found = number(descriptor).and_then(|number| disk.snapshots.get(&number));
        let found = found.filter(|snapshot| snapshot.group == group);
        let snapshot = found.ok_or(StorageError::NoSuchSnapshot { group })?;
        Ok(Box::new(Reader(snapshot.bytes.clone())))
    }

    fn discard(&self, group: GroupId, descriptor: &Bytes) {
        let Some(number) = number(descriptor) else { return };
        self.lock().snapshots.retain(|other, snapshot| {
            *other != number || snapshot.group != group || snapshot.age.is_some()
        });
    }
}

fn number(descriptor: &Bytes) -> Option<u64> {
    Some(u64::from_le_bytes(descriptor[..].try_into().ok()?))
}

struct Writer {
    shared: Shared,
    group: GroupId,
    bytes: Vec<u8>,
}

impl SnapshotWriter for Writer {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Bytes, StorageError> {
        let mut disk = self.shared.lock();
        disk.next_snapshot += 1;
        let number = disk.next_snapshot;
        let snapshot = MemorySnapshot { group: self.group, bytes: self.bytes.into(), age: None };
        disk.snapshots.insert(number, snapshot);
        Ok(number.to_le_bytes().to_vec().into())
    }
}

struct Reader(Bytes);

impl SnapshotReader for Reader {
    fn length(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let end = offset.saturating_add(bytes_max).min(self.0.len());
        Ok(self.0.slice(offset..end))
    }
}
