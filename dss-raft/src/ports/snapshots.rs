//! Where the bytes of snapshots are kept, beside the log.

use bytes::Bytes;

use super::storage::StorageError;
use crate::types::GroupId;

/// Keeps the bytes of snapshots. The log says which of them counts.
///
/// All of it may block, and is called on threads that may; several snapshots are written and read
/// at the same time, and while the log is written.
///
/// A snapshot has a *descriptor*, a few bytes that mean something to this store alone. The core
/// carries them as [`Snapshot::data`](crate::Snapshot), and other nodes give them back to ask for
/// parts of the snapshot.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Begins a snapshot of the group.
    ///
    /// # Errors
    ///
    /// Where it cannot be begun. The storage goes on all the same, as after every error here.
    fn create(&self, group: GroupId) -> Result<Box<dyn SnapshotWriter>, StorageError>;

    /// Opens a finished snapshot of the group. It can be read to its end, whatever the log says
    /// meanwhile.
    ///
    /// A snapshot can be opened from when it is finished until two newer ones of its group are in
    /// the log, or until [`discard`](SnapshotStore::discard); after a restart only if it is the one
    /// in the log.
    ///
    /// # Errors
    ///
    /// Where the descriptor, which may come from another node, names none
    /// ([`StorageError::NoSuchSnapshot`]), or the snapshot cannot be read.
    fn open(
        &self,
        group: GroupId,
        descriptor: &Bytes,
    ) -> Result<Box<dyn SnapshotReader>, StorageError>;

    /// Forgets a finished snapshot that will not be in the log.
    fn discard(&self, group: GroupId, descriptor: &Bytes);
}

/// A snapshot that is being written. Dropped before it is finished, it has never been.
pub trait SnapshotWriter: Send + 'static {
    /// Appends these bytes.
    ///
    /// # Errors
    ///
    /// Where they cannot be written. The snapshot is then of no use.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError>;

    /// Makes the snapshot durable and returns its descriptor.
    ///
    /// # Errors
    ///
    /// Where that failed. The snapshot has then never been.
    fn finish(self: Box<Self>) -> Result<Bytes, StorageError>;
}

/// A finished snapshot.
pub trait SnapshotReader: Send + 'static {
    /// How many bytes it has.
    fn length(&self) -> u64;

    /// The bytes from `offset` on, at most `bytes_max` of them and at least one, unless it ends
    /// there. They are what was written, or an error.
    ///
    /// # Errors
    ///
    /// Where they cannot be read, or are damaged.
    fn read_at(&mut self, offset: u64, bytes_max: usize) -> Result<Bytes, StorageError>;
}
