//! A storage whose writes are timed.

use std::sync::Arc;

use async_trait::async_trait;
use dss_raft::{GroupId, Persist, Restored, SnapshotStore, Storage, StorageError};
use tokio::time::Instant;

use crate::http::Histogram;

/// A storage, and how long it takes to make writes durable.
pub(super) struct Measured<S> {
    storage: S,
    durations: Arc<Histogram>,
}

impl<S> Measured<S> {
    pub(super) fn new(storage: S, durations: Arc<Histogram>) -> Self {
        Self { storage, durations }
    }
}

#[async_trait]
impl<S: Storage> Storage for Measured<S> {
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError> {
        self.storage.restore(group).await
    }

    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError> {
        let begun = Instant::now();
        let persisted = self.storage.persist(writes).await;
        self.durations.record(begun.elapsed());
        persisted
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.storage.snapshots()
    }
}
