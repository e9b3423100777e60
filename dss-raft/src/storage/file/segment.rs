//! Segments: files of zeros that batches are written into.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::disk::{Disk, Folder, TEMPORARY};
use super::frame::{BatchWriter, HEADER_BYTES, Header, Position, trailer_bytes_max};
use crate::codec::Record;
use crate::ports::StorageError;
use crate::types::GroupId;

const SUFFIX: &str = ".wal";
/// Zeros are written in pieces of this size.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The name of segment `number`.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:08}{SUFFIX}")
}

/// The number of the segment with this name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The segment that is written to.
pub(super) struct Segment<F> {
    pub(super) number: u64,
    pub(super) name: String,
    pub(super) file: F,
    /// What the checksums of its frames are begun with.
    pub(super) seed: u32,
    pub(super) capacity: usize,
    /// Where the next batch goes.
    pub(super) offset: usize,
}

impl<F> Segment<F> {
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.offset.checked_add(bytes).is_some_and(|end| end <= self.capacity)
    }
}

/// What a segment begins with.
pub(super) struct Beginning<'a> {
    pub(super) number: u64,
    pub(super) previous: Position,
    pub(super) records: &'a [(GroupId, Record)],
    /// What the whole of it takes at least.
    pub(super) capacity: usize,
}

/// Makes a segment whose header and first batch are durable before its name is: a segment that is
/// there by name is there as a whole.
pub(super) fn create<D: Disk>(
    folder: &Folder<D>,
    spare: &Spare<D::File>,
    beginning: &Beginning<'_>,
) -> Result<(Segment<D::File>, Position), StorageError> {
    let Beginning { number, previous, records, capacity } = *beginning;
    let (temporary, mut file) = match spare.take(capacity) {
        Some(ready) => ready,
        None => {
            let temporary = format!("{}{TEMPORARY}", segment_name(number));
            let file = zeroed(folder, &temporary, capacity)?;
            (temporary, file)
        }
    };
    let header = Header { number, capacity: capacity as u64, previous };
    let mut buffer = header.encode().to_vec();
    let mut batch = BatchWriter::new(&mut buffer, 0, header.seed(), header.start());
    for (group, record) in records {
        batch.record(*group, record);
    }
    let position = batch.finish();
    assert!(buffer.len() <= capacity, "a segment is made to hold its first batch");
    folder.write_at(&mut file, &temporary, 0, &buffer)?;
    folder.sync(&mut file, &temporary)?;
    let name = segment_name(number);
    folder.rename(&temporary, &name)?;
    folder.sync_names()?;
    let seed = header.seed();
    Ok((Segment { number, name, file, seed, capacity, offset: buffer.len() }, position))
}

/// What header and first batch take at most, with records of this many bytes.
pub(super) fn beginning_bytes_max(records: usize) -> usize {
    HEADER_BYTES + records + trailer_bytes_max(records)
}

/// A file of zeros that are on the disk: writing into it later changes no metadata.
fn zeroed<D: Disk>(
    folder: &Folder<D>,
    name: &str,
    capacity: usize,
) -> Result<D::File, StorageError> {
    let mut file = folder.create(name)?;
    zero(folder, name, &mut file, capacity)?;
    Ok(file)
}

/// Writes zeros over the file. They are synced bit by bit, so that the syncs of the log, which go
/// on meanwhile, never queue up behind many of them.
fn zero<D: Disk>(
    folder: &Folder<D>,
    name: &str,
    file: &mut D::File,
    capacity: usize,
) -> Result<(), StorageError> {
    const SYNC_BYTES: usize = 1 << 20;
    let mut offset = 0;
    while offset < capacity {
        let piece = ZEROS.len().min(capacity - offset);
        folder.write_at(file, name, offset as u64, &ZEROS[..piece])?;
        offset += piece;
        if offset.is_multiple_of(SYNC_BYTES) || offset == capacity {
            folder.sync(file, name)?;
        }
    }
    Ok(())
}

/// The next segment's file, made while the present one is written to: from a segment that is not
/// needed any more, whose blocks are allocated already, or from nothing.
pub(super) struct Spare<F> {
    capacity: usize,
    slot: Mutex<Slot<F>>,
}

enum Slot<F> {
    Wanted,
    /// Wanted; the file of this name, of the right length, can be used for it.
    Retired(String),
    /// Being made; or it could not be, and whoever needs it tries again and gets the error.
    Pending,
    Ready(String, F),
}

/// Somebody's promise to make a spare.
pub(super) struct Claim {
    retired: Option<String>,
}

impl<F> Spare<F> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, slot: Mutex::new(Slot::Wanted) }
    }

    fn slot(&self) -> MutexGuard<'_, Slot<F>> {
        // Nothing panics under this lock.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody should [`make`](Spare::make) one; says so once.
    pub(super) fn claim(&self) -> Option<Claim> {
        let mut slot = self.slot();
        let retired = match &mut *slot {
            Slot::Wanted => None,
            Slot::Retired(name) => Some(std::mem::take(name)),
            Slot::Pending | Slot::Ready(..) => return None,
        };
        *slot = Slot::Pending;
        Some(Claim { retired })
    }

    /// Takes the segment out of the log, durably: as the next spare, or for good.
    pub(super) fn retire<D: Disk<File = F>>(
        &self,
        folder: &Folder<D>,
        number: u64,
        capacity: usize,
    ) -> Result<(), StorageError> {
        let mut slot = self.slot();
        if capacity == self.capacity && matches!(*slot, Slot::Wanted) {
            let name = spare_name(number);
            folder.rename(&segment_name(number), &name)?;
            *slot = Slot::Retired(name);
        } else {
            folder.remove(&segment_name(number))?;
        }
        drop(slot);
        // Before anything is written into it: a segment is whole for as long as it has its name.
        folder.sync_names()
    }

    /// Makes one. `number` only tells its file from others.
    pub(super) fn make<D: Disk<File = F>>(&self, folder: &Folder<D>, number: u64, claim: Claim) {
        let (name, made) = match claim.retired {
            Some(name) => {
                let zeroed = folder.open(&name).and_then(|mut file| {
                    zero(folder, &name, &mut file, self.capacity)?;
                    Ok(file)
                });
                (name, zeroed)
            }
            None => {
                let name = spare_name(number);
                let made = zeroed(folder, &name, self.capacity);
                (name, made)
            }
        };
        match made {
            Ok(file) => *self.slot() = Slot::Ready(name, file),
            Err(_) => {
                // Half a spare helps nobody, least of all on a full disk.
                let _ = folder.remove(&name);
            }
        }
    }

    fn take(&self, capacity: usize) -> Option<(String, F)> {
        let mut slot = self.slot();
        if capacity != self.capacity || !matches!(*slot, Slot::Ready(..)) {
            return None;
        }
        match std::mem::replace(&mut *slot, Slot::Wanted) {
            Slot::Ready(name, file) => Some((name, file)),
            _ => None,
        }
    }
}

fn spare_name(number: u64) -> String {
    format!("spare-{number:08}{TEMPORARY}")
}
