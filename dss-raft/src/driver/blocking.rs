//! Work that may block.

use crate::ports::StorageError;

/// Does it on a thread that may. A panic in it counts as a failure of the storage.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StorageError> + Send + 'static,
) -> Result<R, StorageError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StorageError::Poisoned))
}
