//! A segmented write-ahead log in a folder.

mod disk;
#[cfg(test)]
mod faulty_disk;
mod frame;
#[cfg(fuzzing)]
mod fuzz;
mod group_log;
mod recovery;
mod segment;
mod snapshots;
#[cfg(test)]
mod tests;
mod wal;

#[cfg(fuzzing)]
pub(crate) use self::fuzz::fuzz_segment;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::disk::{Folder, RealDisk, sync_folder};
use self::recovery::{IDENTITY, IDENTITY_FORMAT, check_identity};
use self::snapshots::SnapshotFiles;
use self::wal::Wal;
use crate::output::Persist;
use crate::ports::{
    Restored, SnapshotReader, SnapshotStore, SnapshotWriter, Storage, StorageError,
};
use crate::types::{GroupId, NodeId};

/// How large a segment is unless asked otherwise: written within seconds under load, made of
/// zeros within a few tens of milliseconds.
const SEGMENT_BYTES: usize = 16 << 20;
/// The smallest that makes sense: a few batches.
const SEGMENT_BYTES_MIN: usize = 4 << 10;
/// Held locked while the folder is in use.
const LOCK: &str = "lock";
/// How long an opening waits for a folder in use: a process or a storage that is just ending may
/// still have work under way.
const IN_USE_PATIENCE: Duration = Duration::from_secs(1);

/// Whose folder it is: kept in it, and compared whenever it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// What people call the node.
    pub name: String,
}

impl Identity {
    /// One line: whatever is in the names is escaped.
    fn line(&self) -> String {
        let Self { cluster, node, name } = self;
        format!("{IDENTITY_FORMAT}cluster {cluster:?}, node {name:?} ({node})\n")
    }
}

/// Keeps a node's groups in a folder: a write-ahead log that they share, and snapshots beside it.
///
/// The log is a row of segments, files that are filled with zeros in advance so that writing into
/// them changes no metadata. All that is asked for at once, by however many groups, is one batch
/// with one sync. Every record is chained to the one before by CRC-32C; a batch that a crash left
/// in part is cut off at the next start, any other damage is refused with
/// [`StorageError::Damaged`]. A segment is used again, or removed, once its groups have moved on:
/// each new segment begins with what is still needed and small.
///
/// The folder belongs to one node and one process at a time. A failed write or sync is final: what
/// is on the disk is then only known after a new [`open`](FileStorage::open).
pub struct FileStorage {
    shared: Arc<Shared>,
    /// The call that was made last, where it may not have ended: its future was dropped.
    running: Option<JoinHandle<()>>,
}

struct Shared {
    wal: Mutex<Wal<RealDisk>>,
    snapshots: Arc<SnapshotFiles<RealDisk>>,
    folder: PathBuf,
    /// Unlocks when the last task that uses the folder has ended.
    _lock: File,
}

impl FileStorage {
    /// Opens the folder, or makes it. Must be called in a tokio runtime, as must everything else:
    /// the work is done on its blocking threads.
    ///
    /// # Errors
    ///
    /// Where the folder is another node's ([`StorageError::WrongIdentity`]), in use
    /// ([`StorageError::InUse`], after a second of patience), damaged ([`StorageError::Damaged`]) or out of reach
    /// ([`StorageError::Io`]). In the first three cases nothing in it was changed.
    pub async fn open(
        folder: impl Into<PathBuf>,
        identity: Identity,
    ) -> Result<Self, StorageError> {
        Self::open_with_segments(folder, identity, SEGMENT_BYTES).await
    }

    /// Like [`open`](FileStorage::open), with new segments of this many bytes (at least 4 KiB)
    /// instead of 16 MiB. A batch that is larger gets a larger segment.
    ///
    /// # Errors
    ///
    /// As [`open`](FileStorage::open).
    pub async fn open_with_segments(
        folder: impl Into<PathBuf>,
        identity: Identity,
        segment_bytes: usize,
    ) -> Result<Self, StorageError> {
        let folder = folder.into();
        let segment_bytes = segment_bytes.max(SEGMENT_BYTES_MIN);
        let deadline = Instant::now() + IN_USE_PATIENCE;
        loop {
            let (folder, identity) = (folder.clone(), identity.clone());
            match blocking(move || open(folder, &identity, segment_bytes)).await {
                Err(StorageError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(IN_USE_PATIENCE / 50).await;
                }
                opened => {
                    let shared = Arc::new(opened?);
                    return Ok(Self { shared, running: None });
                }
            }
        }
    }

    /// Does the work on a blocking thread, after whatever was begun before. It is done to its end
    /// where this future is dropped.
    async fn with_wal<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Wal<RealDisk>) -> Result<R, StorageError> + Send + 'static,
    ) -> Result<R, StorageError> {
        if let Some(previous) = &mut self.running {
            // Its outcome is in the log: it is poisoned or it is not.
            let _ = previous.await;
            self.running = None;
        }
        let shared = Arc::clone(&self.shared);
        let (answer, answered) = oneshot::channel();
        self.running = Some(tokio::task::spawn_blocking(move || {
            let wal = shared.wal.lock();
            let result = wal.map_err(|_| StorageError::Poisoned).and_then(|mut wal| work(&mut wal));
            // Before the answer, so that whoever has it and drops the storage can open it again.
            drop(shared);
            let _ = answer.send(result);
        }));
        // No answer: the work panicked, or the runtime has ended.
        answered.await.unwrap_or(Err(StorageError::Poisoned))
    }
}

#[async_trait]
impl Storage for FileStorage {
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError> {
        self.with_wal(move |wal| wal.restore(group)).await
    }

    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError> {
        let work = move |wal: &mut Wal<_>| wal.persist(&writes).map(|()| wal.spare_wanted());
        if let Some(make) = self.with_wal(work).await? {
            // The folder stays locked for as long as somebody works in it.
            let shared = Arc::clone(&self.shared);
            tokio::task::spawn_blocking(move || {
                make();
                drop(shared);
            });
        }
        Ok(())
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        Arc::new(FileSnapshots(Arc::clone(&self.shared)))
    }
}

/// The snapshots in the folder, which is in use for as long as somebody may ask for them.
struct FileSnapshots(Arc<Shared>);

impl SnapshotStore for FileSnapshots {
    fn create(&self, group: GroupId) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        let writer = self.0.snapshots.create(group)?;
        Ok(Box::new(WriterInFolder { writer: Box::new(writer), _folder: Arc::clone(&self.0) }))
    }

    fn open(
        &self,
        group: GroupId,
        descriptor: &Bytes,
    ) -> Result<Box<dyn SnapshotReader>, StorageError> {
        Ok(Box::new(self.0.snapshots.open(group, descriptor)?))
    }

    fn discard(&self, group: GroupId, descriptor: &Bytes) {
        self.0.snapshots.discard(group, descriptor);
    }
}

/// Keeps the folder locked while a snapshot is written to it.
struct WriterInFolder {
    writer: Box<dyn SnapshotWriter>,
    _folder: Arc<Shared>,
}

impl SnapshotWriter for WriterInFolder {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.writer.write(bytes)
    }

    fn finish(self: Box<Self>) -> Result<Bytes, StorageError> {
        self.writer.finish()
    }
}

impl std::fmt::Debug for FileStorage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FileStorage")
            .field("folder", &self.shared.folder)
            .finish_non_exhaustive()
    }
}

/// Runs the work where it may block.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StorageError> + Send + 'static,
) -> Result<R, StorageError> {
    // It fails where the work panicked, or where the runtime ends: in neither case is it known
    // what became of it.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StorageError::Poisoned))
}

fn open(path: PathBuf, identity: &Identity, segment_bytes: usize) -> Result<Shared, StorageError> {
    let identity = identity.line();
    let folder = Arc::new(Folder::new(path.clone(), RealDisk::new(path.clone())));
    // Before the lock, so that a wrong folder is named as such even while its owner runs.
    if path.join(IDENTITY).exists() {
        check_identity(&folder, &identity)?;
    }
    create_folder(&path)?;
    let lock = lock(&path.join(LOCK))?;
    let wal = Wal::open(folder, &identity, segment_bytes)?;
    let snapshots = Arc::clone(wal.snapshots());
    Ok(Shared { wal: Mutex::new(wal), snapshots, folder: path, _lock: lock })
}

fn create_folder(path: &Path) -> Result<(), StorageError> {
    let error =
        |source| StorageError::Io { operation: "could not create", path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path).map_err(error)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent).map_err(error),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File, StorageError> {
    let error =
        |operation| move |source| StorageError::Io { operation, path: path.to_owned(), source };
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(error("could not open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(error("could not lock")(source)),
    }
}
