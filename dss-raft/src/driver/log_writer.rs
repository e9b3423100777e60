//! The task that owns a node's storage and writes for all of its groups.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use super::inputs::Event;
use crate::entry::Entry;
use crate::output::Persist;
use crate::ports::{Restored, Storage, StorageError};
use crate::types::{GroupId, PersistSeq};

/// How many writes become one call of the storage at most, and of how many bytes: more would make
/// the first wait longer for the last than a second sync takes.
const WRITES_MAX: usize = 1024;
const BYTES_MAX: usize = 16 << 20;

/// What the writer is asked for.
pub(super) enum WriterRequest {
    /// What the group had made durable.
    Restore { group: GroupId, answer: oneshot::Sender<Result<Restored, StorageError>> },
    /// From now on the group writes, and hears of it here.
    Register { group: GroupId, events: mpsc::UnboundedSender<Event> },
    /// A group's next write.
    Persist { group: GroupId, persist: Persist },
}

/// The writer: `run` is its task.
pub(super) struct LogWriter<S> {
    storage: S,
    requests: mpsc::UnboundedReceiver<WriterRequest>,
    groups: Groups,
    failure: Arc<OnceLock<StorageError>>,
}

/// Whom to tell. Dropped with the task: a storage that panics has failed too.
#[derive(Default)]
struct Groups {
    events: BTreeMap<GroupId, mpsc::UnboundedSender<Event>>,
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.tell_failed();
    }
}

impl Groups {
    fn tell(&self, group: GroupId, event: Event) {
        if let Some(events) = self.events.get(&group) {
            // A group that has stopped does not want to know.
            let _ = events.send(event);
        }
    }

    fn tell_failed(&self) {
        for group in self.events.keys() {
            self.tell(*group, Event::StorageFailed);
        }
    }
}

impl<S: Storage> LogWriter<S> {
    pub(super) fn new(
        storage: S,
        requests: mpsc::UnboundedReceiver<WriterRequest>,
        failure: Arc<OnceLock<StorageError>>,
    ) -> Self {
        Self { storage, requests, groups: Groups::default(), failure }
    }

    /// Serves until every sender is gone and everything asked for is done.
    pub(super) async fn run(mut self) {
        while let Some(request) = self.requests.recv().await {
            let mut next = Some(request);
            while let Some(request) = next.take() {
                next = match request {
                    WriterRequest::Restore { group, answer } => {
                        // Whoever asked may have gone.
                        let _ = answer.send(self.storage.restore(group).await);
                        None
                    }
                    WriterRequest::Register { group, events } => {
                        self.register(group, events);
                        None
                    }
                    WriterRequest::Persist { group, persist } => self.write(group, persist).await,
                };
            }
        }
    }

    fn register(&mut self, group: GroupId, events: mpsc::UnboundedSender<Event>) {
        self.groups.events.insert(group, events);
        if self.failure.get().is_some() {
            self.groups.tell(group, Event::StorageFailed);
        }
    }

    /// Writes this and whatever writes are queued behind it; returns the request that ended the
    /// batch because it is no write.
    async fn write(&mut self, group: GroupId, persist: Persist) -> Option<WriterRequest> {
        let mut bytes = weight(&persist);
        let mut last = BTreeMap::from([(group, persist.seq)]);
        let mut writes = vec![(group, persist)];
        let mut next = None;
        while writes.len() < WRITES_MAX && bytes < BYTES_MAX {
            match self.requests.try_recv() {
                Ok(WriterRequest::Persist { group, persist }) => {
                    bytes += weight(&persist);
                    last.insert(group, persist.seq);
                    writes.push((group, persist));
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.persist(writes, last).await;
        next
    }

    async fn persist(
        &mut self,
        writes: Vec<(GroupId, Persist)>,
        last: BTreeMap<GroupId, PersistSeq>,
    ) {
        if self.failure.get().is_some() {
            // The groups know. Writing on behind a lost write would hide the hole.
            return;
        }
        match self.storage.persist(writes).await {
            Ok(()) => {
                for (group, seq) in last {
                    self.groups.tell(group, Event::Persisted(seq));
                }
            }
            Err(error) => {
                // The first failure is the one to report, and only this task sets it.
                let _ = self.failure.set(error);
                self.groups.tell_failed();
            }
        }
    }
}

fn weight(persist: &Persist) -> usize {
    let entries: usize = persist.entries.iter().map(Entry::weight).sum();
    entries + persist.snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len())
}
