//! The log that all groups of a node write to, on any [`Disk`].

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::disk::{Disk, Folder};
use super::frame::{
    ALIGNMENT, BatchWriter, FRAME_BYTES, Position, record_bytes_max, trailer_bytes_max,
};
use super::group_log::GroupLog;
use super::recovery::{self, Recovered};
use super::segment::{self, Beginning, Segment, Spare, beginning_bytes_max};
use super::snapshots::{self, SnapshotFiles};
use crate::codec::Record;
use crate::entry::{Entry, Snapshot};
use crate::output::Persist;
use crate::ports::{Restored, StorageError};
use crate::storage::stored::Misfit;
use crate::types::GroupId;

/// The share of a new segment that entries from older ones may take, so that those can go.
const CARRIED_SHARE: usize = 4;
/// From how many segments on, and how many times more bytes in them, a group's entries are written
/// again however many they are: a group that falls silent does not hold on to the others' log for
/// ever, and a large log is not written over and over.
const HELD_SEGMENTS: usize = 8;
const HELD_FACTOR: usize = 4;
/// How much of the buffer is kept between two batches.
const BUFFER_KEPT: usize = 1 << 20;

/// The log. After an error of [`persist`](Wal::persist) it takes nothing more.
pub(super) struct Wal<D: Disk> {
    folder: Arc<Folder<D>>,
    groups: BTreeMap<GroupId, GroupLog>,
    segment_bytes: usize,
    segment: Segment<D::File>,
    /// Every segment that is still there, with its length. Never empty, and without gaps.
    segments: BTreeMap<u64, usize>,
    position: Position,
    snapshots: Arc<SnapshotFiles<D>>,
    /// The snapshots that the batch at hand names.
    named: Vec<(GroupId, u64)>,
    spare: Arc<Spare<D::File>>,
    buffer: Vec<u8>,
    poisoned: bool,
}

impl<D: Disk> Wal<D> {
    /// Opens the log in the folder, or begins one. `identity` is the line that says whose it is.
    pub(super) fn open(
        folder: Arc<Folder<D>>,
        identity: &str,
        segment_bytes: usize,
    ) -> Result<Self, StorageError> {
        let spare = Arc::new(Spare::new(segment_bytes));
        let Recovered { groups, segment, segments, position } =
            recovery::open(&folder, &spare, identity, segment_bytes)?;
        let named =
            groups.iter().filter_map(|(group, log)| Some((*group, log.stored.snapshot.as_ref()?)));
        let snapshots = Arc::new(SnapshotFiles::new(Arc::clone(&folder), named));
        Ok(Self {
            folder,
            groups,
            segment_bytes,
            segment,
            segments,
            position,
            snapshots,
            named: Vec::new(),
            spare,
            buffer: Vec::new(),
            poisoned: false,
        })
    }

    /// See [`Storage::restore`](crate::Storage::restore).
    pub(super) fn restore(&self, group: GroupId) -> Result<Restored, StorageError> {
        if self.poisoned {
            // What is in memory may not be on the disk.
            return Err(StorageError::Poisoned);
        }
        let Some(log) = self.groups.get(&group) else { return Ok(Restored::default()) };
        let snapshot = log.stored.snapshot.as_ref().map(|file| Snapshot {
            last: file.last,
            configuration: file.configuration.clone(),
            data: snapshots::descriptor(file),
        });
        Ok(log.stored.restored(snapshot))
    }

    /// Where the snapshots are.
    pub(super) fn snapshots(&self) -> &Arc<SnapshotFiles<D>> {
        &self.snapshots
    }

    /// See [`Storage::persist`](crate::Storage::persist).
    pub(super) fn persist(&mut self, writes: &[(GroupId, Persist)]) -> Result<(), StorageError> {
        if self.poisoned {
            return Err(StorageError::Poisoned);
        }
        self.poisoned = true;
        self.write_batch(writes)?;
        self.poisoned = false;
        Ok(())
    }

    /// The file of the next segment, if one should be made meanwhile: call what is returned, from
    /// any thread.
    pub(super) fn spare_wanted(&self) -> Option<impl FnOnce() + Send + use<D>> {
        let (spare, folder, number) =
            (Arc::clone(&self.spare), Arc::clone(&self.folder), self.segment.number + 1);
        let claim = spare.claim()?;
        Some(move || spare.make(&folder, number, claim))
    }

    fn write_batch(&mut self, writes: &[(GroupId, Persist)]) -> Result<(), StorageError> {
        let bytes_max = batch_bytes_max(writes);
        if u32::try_from(bytes_max).is_err() {
            return Err(StorageError::Io {
                operation: "could not write a batch of more than 4 GiB to",
                path: self.folder.path(&self.segment.name),
                source: io::ErrorKind::FileTooLarge.into(),
            });
        }
        if !self.segment.has_room_for(bytes_max) {
            self.roll(bytes_max)?;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut batch =
            BatchWriter::new(&mut buffer, self.segment.offset, self.segment.seed, self.position);
        for (group, persist) in writes {
            self.write_group(&mut batch, *group, persist)?;
        }
        let position = batch.finish();
        assert!(buffer.len() <= bytes_max, "the batch is no larger than foreseen");
        let Segment { name, file, offset, .. } = &mut self.segment;
        self.folder.write_at(file, name, *offset as u64, &buffer)?;
        self.folder.sync(file, name)?;
        *offset += buffer.len();
        self.position = position;
        buffer.clear();
        buffer.shrink_to(BUFFER_KEPT);
        self.buffer = buffer;
        for (group, number) in self.named.drain(..) {
            self.snapshots.named(group, number);
        }
        Ok(())
    }

    /// The records of one write, in the order that [`Persist`] names.
    fn write_group(
        &mut self,
        batch: &mut BatchWriter<'_>,
        group: GroupId,
        persist: &Persist,
    ) -> Result<(), StorageError> {
        let mut records = Vec::new();
        records.extend(persist.hard_state.map(Record::HardState));
        records.extend(persist.truncate_from.map(Record::Truncate));
        let segment = self.segment.number;
        let log = self.groups.entry(group).or_default();
        for record in records {
            apply(log, segment, group, &record)?;
            batch.record(group, &record);
        }
        if let Some(snapshot) = &persist.snapshot {
            let problem = "a snapshot was not finished";
            let file = self.snapshots.to_name(group, snapshot);
            let file = file.ok_or(StorageError::OutOfOrder { group, problem })?;
            self.named.push((group, file.number));
            let keeps_log = log.stored.agrees_with(snapshot.last);
            let record = Record::Snapshot { file, keeps_log };
            apply(log, segment, group, &record)?;
            batch.record(group, &record);
        }
        if !persist.entries.is_empty() {
            let record = Record::Entries(persist.entries.clone());
            apply(log, segment, group, &record)?;
            batch.record(group, &record);
        }
        if let Some(to) = persist.compact_to {
            let record = Record::Compact(to);
            apply(log, segment, group, &record)?;
            batch.record(group, &record);
        }
        Ok(())
    }

    /// Goes on in a new segment, which has room for `bytes` and needs as few of the older ones as
    /// possible; those that nobody needs any more go.
    fn roll(&mut self, bytes: usize) -> Result<(), StorageError> {
        let carried = self.groups_to_carry();
        let mut records = Vec::new();
        for (group, log) in &self.groups {
            let checkpoint = log.checkpoint(carried.contains(group));
            records.extend(checkpoint.into_iter().map(|record| (*group, record)));
        }
        let beginning: usize = records.iter().map(|(_, record)| record_bytes_max(record)).sum();
        let capacity = self.segment_bytes.max(beginning_bytes_max(beginning) + bytes);
        let number = self.segment.number + 1;
        let beginning = Beginning { number, previous: self.position, records: &records, capacity };
        (self.segment, self.position) = segment::create(&self.folder, &self.spare, &beginning)?;
        for (group, record) in &records {
            let log = self.groups.get_mut(group).expect("the record was made from it");
            apply(log, number, *group, record)?;
        }
        self.segments.insert(number, self.segment.capacity);
        let needed = recovery::oldest_needed(&self.groups, number);
        // The oldest first, each for good before the next: what is left never has a gap.
        while let Some(oldest) = self.segments.first_entry().filter(|it| *it.key() < needed) {
            let (number, capacity) = oldest.remove_entry();
            self.spare.retire(&self.folder, number, capacity)?;
        }
        Ok(())
    }

    /// The groups whose entries are written again: the lightest, while they fit in a fair share,
    /// and those that hold on to many segments for little.
    fn groups_to_carry(&self) -> Vec<GroupId> {
        let mut by_weight: Vec<(usize, GroupId, u64)> = self
            .groups
            .iter()
            .filter_map(|(group, log)| Some((log.weight(), *group, log.oldest_segment()?)))
            .collect();
        by_weight.sort_unstable();
        let mut room = self.segment_bytes / CARRIED_SHARE;
        let mut carried = Vec::new();
        for (weight, group, oldest) in by_weight {
            let held = usize::try_from(self.segment.number + 1 - oldest).unwrap_or(usize::MAX);
            let holds_much = held >= HELD_SEGMENTS
                && held.saturating_mul(self.segment_bytes) / HELD_FACTOR >= weight;
            if weight <= room || holds_much {
                room = room.saturating_sub(weight);
                carried.push(group);
            }
        }
        carried
    }
}

fn apply(
    log: &mut GroupLog,
    segment: u64,
    group: GroupId,
    record: &Record,
) -> Result<(), StorageError> {
    log.apply(segment, record)
        .map_err(|Misfit(problem)| StorageError::OutOfOrder { group, problem })
}

/// What a batch of these takes at most.
fn batch_bytes_max(writes: &[(GroupId, Persist)]) -> usize {
    /// A frame around a record without lists, of which a write has at most five.
    const RECORD_BYTES_MAX: usize = FRAME_BYTES + 96 + ALIGNMENT;
    let of_write = |(_, persist): &(GroupId, Persist)| {
        let entries: usize = persist.entries.iter().map(Entry::weight).sum();
        let snapshot = persist.snapshot.as_ref();
        let members = snapshot.map_or(0, |snapshot| snapshot.configuration.weight());
        5 * RECORD_BYTES_MAX + entries + members
    };
    let records = writes.iter().map(of_write).sum();
    records + trailer_bytes_max(records)
}
