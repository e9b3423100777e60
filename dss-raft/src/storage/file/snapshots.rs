//! Snapshots: files beside the log, which names them.
//!
//! ```text
//! file  = magic 8 | format 4 | 0 4, chunk*
//! chunk = length 4 | checksum 4 | bytes
//! ```
//!
//! All chunks but the last are of the same length. The checksum is the CRC-32C of the bytes, begun
//! with that of the snapshot's number and the chunk's place in it. A file gets its name when all
//! of it is durable; until the log names it, it has never been.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::disk::{Disk, Folder, TEMPORARY};
use crate::codec::SnapshotFile;
use crate::entry::Snapshot;
use crate::ports::{SnapshotReader, SnapshotWriter, StorageError};
use crate::types::GroupId;

const SUFFIX: &str = ".snapshot";
const MAGIC: [u8; 8] = *b"dss-snap";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHUNK_HEADER_BYTES: usize = 8;
/// How many bytes of the state a chunk holds: enough that its header and a call for it are nothing
/// beside it, and little beside the memory of any node.
const CHUNK_BYTES: usize = 256 << 10;
/// How much is written between two syncs, so that the log's syncs never wait for all of it.
const SYNC_BYTES: usize = 4 << 20;

/// The name of snapshot `number`.
pub(super) fn snapshot_name(number: u64) -> String {
    format!("{number:08}{SUFFIX}")
}

/// The number of the snapshot with this name.
pub(super) fn snapshot_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (snapshot_name(number) == name).then_some(number)
}

/// The snapshots of all groups in one folder.
pub(super) struct SnapshotFiles<D: Disk> {
    folder: Arc<Folder<D>>,
    shelf: Mutex<Shelf>,
}

struct Shelf {
    next_number: u64,
    files: BTreeMap<u64, File>,
}

/// A finished file.
#[derive(Debug, Clone, Copy)]
struct File {
    group: GroupId,
    length: u64,
    checksum: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Finished, and not in the log yet.
    Beside,
    /// The one that the log names.
    InLog,
    /// The one that the log named before: a follower may be half through it.
    Before,
}

impl File {
    fn descriptor(&self, number: u64) -> Bytes {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&self.checksum.to_le_bytes());
        bytes.into()
    }
}

/// What the log says of a snapshot, as its descriptor.
pub(super) fn descriptor(file: &SnapshotFile) -> Bytes {
    let SnapshotFile { number, length, checksum, .. } = *file;
    File { group: GroupId::new(0), length, checksum, place: Place::InLog }.descriptor(number)
}

impl<D: Disk> SnapshotFiles<D> {
    /// Those that a log names.
    pub(super) fn new<'a>(
        folder: Arc<Folder<D>>,
        named: impl Iterator<Item = (GroupId, &'a SnapshotFile)>,
    ) -> Self {
        let files: BTreeMap<u64, File> = named
            .map(|(group, file)| {
                let SnapshotFile { number, length, checksum, .. } = *file;
                (number, File { group, length, checksum, place: Place::InLog })
            })
            .collect();
        let next_number = files.last_key_value().map_or(1, |(number, _)| number + 1);
        Self { folder, shelf: Mutex::new(Shelf { next_number, files }) }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing panics under this lock.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// See [`SnapshotStore::create`](crate::SnapshotStore::create).
    pub(super) fn create(self: &Arc<Self>, group: GroupId) -> Result<Writer<D>, StorageError> {
        let number = {
            let mut shelf = self.shelf();
            shelf.next_number += 1;
            shelf.next_number - 1
        };
        let name = snapshot_name(number) + TEMPORARY;
        let mut file = self.folder.create(&name)?;
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        self.folder.write_at(&mut file, &name, 0, &header)?;
        Ok(Writer {
            files: Arc::clone(self),
            group,
            number,
            name,
            file,
            offset: HEADER_BYTES,
            unsynced: 0,
            chunk: Vec::new(),
            chunks: 0,
            length: 0,
            checksum: 0,
            finished: false,
        })
    }

    /// See [`SnapshotStore::open`](crate::SnapshotStore::open).
    pub(super) fn open(
        &self,
        group: GroupId,
        descriptor: &Bytes,
    ) -> Result<Reader<D>, StorageError> {
        let (number, snapshot) =
            self.find(group, descriptor).ok_or(StorageError::NoSuchSnapshot { group })?;
        let name = snapshot_name(number);
        let mut file = self.folder.open_to_read(&name)?;
        let header = self.folder.read_at(&mut file, &name, 0, HEADER_BYTES)?;
        let folder = Arc::clone(&self.folder);
        let reader = Reader { folder, name, file, number, length: snapshot.length };
        if header[0..8] != MAGIC || header[8..16] != [FORMAT.to_le_bytes(), [0; 4]].concat() {
            return Err(reader.damaged(0, "not a snapshot of this version's format"));
        }
        Ok(reader)
    }

    fn find(&self, group: GroupId, descriptor: &Bytes) -> Option<(u64, File)> {
        let number = u64::from_le_bytes(descriptor.get(..8)?.try_into().ok()?);
        let file = *self.shelf().files.get(&number)?;
        (file.group == group && file.descriptor(number) == descriptor).then_some((number, file))
    }

    /// What the log is to say of this snapshot; `None` where it was not finished.
    pub(super) fn to_name(&self, group: GroupId, snapshot: &Snapshot) -> Option<SnapshotFile> {
        let (number, file) = self.find(group, &snapshot.data)?;
        Some(SnapshotFile {
            number,
            last: snapshot.last,
            configuration: snapshot.configuration.clone(),
            length: file.length,
            checksum: file.checksum,
        })
    }

    /// The log names this one, durably: the one before is kept beside it, older ones go.
    pub(super) fn named(&self, group: GroupId, number: u64) {
        let mut gone = Vec::new();
        self.shelf().files.retain(|other, file| {
            if file.group == group {
                file.place = match file.place {
                    _ if *other == number => Place::InLog,
                    Place::InLog => Place::Before,
                    Place::Beside => Place::Beside,
                    Place::Before => {
                        gone.push(*other);
                        return false;
                    }
                };
            }
            true
        });
        self.remove(&gone);
    }

    /// See [`SnapshotStore::discard`](crate::SnapshotStore::discard).
    pub(super) fn discard(&self, group: GroupId, descriptor: &Bytes) {
        let Some((number, File { place: Place::Beside, .. })) = self.find(group, descriptor) else {
            return;
        };
        self.shelf().files.remove(&number);
        self.remove(&[number]);
    }

    fn remove(&self, numbers: &[u64]) {
        for number in numbers {
            // Nothing names it; what stays behind goes at the next start.
            let _ = self.folder.remove(&snapshot_name(*number));
        }
    }
}

/// A snapshot that is being written.
pub(super) struct Writer<D: Disk> {
    files: Arc<SnapshotFiles<D>>,
    group: GroupId,
    number: u64,
    name: String,
    file: D::File,
    /// Where in the file the next chunk goes.
    offset: usize,
    unsynced: usize,
    chunk: Vec<u8>,
    chunks: u64,
    length: u64,
    checksum: u32,
    finished: bool,
}

impl<D: Disk> Writer<D> {
    fn write_chunk(&mut self) -> Result<(), StorageError> {
        let folder = &self.files.folder;
        let bytes = std::mem::take(&mut self.chunk);
        let length = u32::try_from(bytes.len()).expect("a chunk is small");
        let checksum = crc32c::crc32c_append(chunk_seed(self.number, self.chunks), &bytes);
        let mut header = [0; CHUNK_HEADER_BYTES];
        header[0..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        folder.write_at(&mut self.file, &self.name, self.offset as u64, &header)?;
        let start = self.offset + CHUNK_HEADER_BYTES;
        folder.write_at(&mut self.file, &self.name, start as u64, &bytes)?;
        self.offset = start + bytes.len();
        self.checksum = crc32c::crc32c_append(self.checksum, &bytes);
        self.length += bytes.len() as u64;
        self.chunks += 1;
        self.unsynced += bytes.len();
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            folder.sync(&mut self.file, &self.name)?;
        }
        self.chunk = bytes;
        self.chunk.clear();
        Ok(())
    }
}

impl<D: Disk> SnapshotWriter for Writer<D> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let (fits, rest) = bytes.split_at(bytes.len().min(CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(fits);
            bytes = rest;
            if self.chunk.len() == CHUNK_BYTES {
                self.write_chunk()?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Bytes, StorageError> {
        if !self.chunk.is_empty() {
            self.write_chunk()?;
        }
        let folder = &self.files.folder;
        folder.sync(&mut self.file, &self.name)?;
        folder.rename(&self.name, &snapshot_name(self.number))?;
        folder.sync_names()?;
        self.finished = true;
        let Self { group, number, length, checksum, .. } = *self;
        let file = File { group, length, checksum, place: Place::Beside };
        self.files.shelf().files.insert(number, file);
        Ok(file.descriptor(number))
    }
}

impl<D: Disk> Drop for Writer<D> {
    fn drop(&mut self) {
        if !self.finished {
            // What stays behind goes at the next start.
            let _ = self.files.folder.remove(&self.name);
        }
    }
}

/// A finished snapshot, open for reading.
pub(super) struct Reader<D: Disk> {
    folder: Arc<Folder<D>>,
    name: String,
    file: D::File,
    number: u64,
    length: u64,
}

impl<D: Disk> Reader<D> {
    fn damaged(&self, offset: u64, problem: &'static str) -> StorageError {
        StorageError::Damaged { path: self.folder.path(&self.name), offset, problem }
    }
}

impl<D: Disk> SnapshotReader for Reader<D> {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, offset: u64, bytes_max: usize) -> Result<Bytes, StorageError> {
        if offset >= self.length {
            return Ok(Bytes::new());
        }
        let chunk = offset / CHUNK_BYTES as u64;
        let begin = chunk * CHUNK_BYTES as u64;
        let length = (self.length - begin).min(CHUNK_BYTES as u64);
        let at = HEADER_BYTES as u64 + begin + chunk * CHUNK_HEADER_BYTES as u64;
        let length = usize::try_from(length).expect("a chunk is small");
        let bytes =
            self.folder.read_at(&mut self.file, &self.name, at, CHUNK_HEADER_BYTES + length)?;
        let bytes = Bytes::from(bytes);
        let number = |at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes were cut out"))
        };
        let content = bytes.slice(CHUNK_HEADER_BYTES..);
        if usize::try_from(number(0)).ok() != Some(length) {
            return Err(self.damaged(at, "a chunk of the snapshot is of another length"));
        }
        if number(4) != crc32c::crc32c_append(chunk_seed(self.number, chunk), &content) {
            return Err(self.damaged(at, "the checksum of a chunk of the snapshot is wrong"));
        }
        let from = usize::try_from(offset - begin).expect("a chunk is small");
        Ok(content.slice(from..length.min(from.saturating_add(bytes_max))))
    }
}

fn chunk_seed(number: u64, chunk: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), &chunk.to_le_bytes())
}
