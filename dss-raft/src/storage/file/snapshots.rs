//! Snapshots: files beside the log, which names them.

use bytes::Bytes;

use super::disk::{Disk, Folder};
use crate::codec::SnapshotFile;
use crate::entry::Snapshot;
use crate::ports::StorageError;

const SUFFIX: &str = ".snapshot";

/// The name of snapshot `number`.
pub(super) fn snapshot_name(number: u64) -> String {
    format!("{number:08}{SUFFIX}")
}

/// The number of the snapshot with this name.
pub(super) fn snapshot_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (snapshot_name(number) == name).then_some(number)
}

/// Writes the snapshot's data, durably, and returns what the log says of it.
pub(super) fn write<D: Disk>(
    folder: &Folder<D>,
    number: u64,
    snapshot: &Snapshot,
) -> Result<SnapshotFile, StorageError> {
    folder.write_whole(&snapshot_name(number), &snapshot.data)?;
    folder.sync_names()?;
    Ok(SnapshotFile {
        number,
        last: snapshot.last,
        configuration: snapshot.configuration.clone(),
        length: snapshot.data.len() as u64,
        checksum: crc32c::crc32c(&snapshot.data),
    })
}

/// Reads the snapshot back.
pub(super) fn read<D: Disk>(
    folder: &Folder<D>,
    file: &SnapshotFile,
) -> Result<Snapshot, StorageError> {
    let name = snapshot_name(file.number);
    let data = folder.read(&name)?;
    let damaged = |problem| StorageError::Damaged { path: folder.path(&name), offset: 0, problem };
    if data.len() as u64 != file.length {
        return Err(damaged("the snapshot is of another length"));
    }
    if crc32c::crc32c(&data) != file.checksum {
        return Err(damaged("the checksum of the snapshot is wrong"));
    }
    Ok(Snapshot {
        last: file.last,
        configuration: file.configuration.clone(),
        data: Bytes::from(data),
    })
}
