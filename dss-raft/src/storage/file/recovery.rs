//! Opening a log: what it adds up to, and what a crash left unfinished.
//!
//! A crash can leave the last batch of the last segment in part, since only one batch is written
//! at a time and the next one waits until it is durable. That part is cut off: zeroed on the disk,
//! before anything is written, so that no later write can make it valid again. Everything else
//! that is not as it was written is refused, and nothing is changed, be it in the very last batch:
//! what a crash leaves there are whole sectors, written or not ([`FrameReader::tail`]). One damage
//! cannot be told from a crash: a disk that forgets whole sectors of what it said was durable.

use std::collections::BTreeMap;
use std::ops::Range;

use super::disk::{Disk, Folder, TEMPORARY};
use super::frame::{Frame, FrameReader, Header, Position, Tail};
use super::group_log::GroupLog;
use super::segment::{
    self, Beginning, Segment, Spare, beginning_bytes_max, segment_name, segment_number,
};
use super::snapshots::{snapshot_name, snapshot_number};
use crate::codec::Record;
use crate::ports::StorageError;
use crate::storage::stored::Misfit;
use crate::types::GroupId;

/// The file that says whose folder it is.
pub(super) const IDENTITY: &str = "identity";
/// How its line begins.
pub(super) const IDENTITY_FORMAT: &str = "dss-raft storage 1: ";

/// What opening a log comes to.
pub(super) struct Recovered<F> {
    pub(super) groups: BTreeMap<GroupId, GroupLog>,
    pub(super) segment: Segment<F>,
    /// Every segment with its length.
    pub(super) segments: BTreeMap<u64, usize>,
    pub(super) position: Position,
}

/// Opens the log in the folder, or begins one there.
pub(super) fn open<D: Disk>(
    folder: &Folder<D>,
    spare: &Spare<D::File>,
    identity: &str,
    segment_bytes: usize,
) -> Result<Recovered<D::File>, StorageError> {
    let names = folder.names()?;
    let identified = names.iter().any(|name| name == IDENTITY);
    if identified {
        check_identity(folder, identity)?;
    }
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    segments.sort_unstable();
    let recovered = if segments.is_empty() {
        let has_snapshot = names.iter().any(|name| snapshot_number(name).is_some());
        if identified || has_snapshot {
            return Err(damaged(folder, &segment_name(1), 0, "the log is missing"));
        }
        begin(folder, spare, segment_bytes)?
    } else {
        recover(folder, &segments, &names, identified)?
    };
    if !identified {
        folder.write_whole(IDENTITY, identity.as_bytes())?;
        folder.sync_names()?;
    }
    Ok(recovered)
}

/// Refuses a folder that says it is somebody else's.
pub(super) fn check_identity<D: Disk>(
    folder: &Folder<D>,
    identity: &str,
) -> Result<(), StorageError> {
    let found = folder.read(IDENTITY)?;
    if found == identity.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found);
    match found.trim_end().strip_prefix(IDENTITY_FORMAT) {
        Some(owner) => Err(StorageError::WrongIdentity {
            path: folder.path(IDENTITY),
            found: owner.to_owned(),
            expected: identity.trim_end().trim_start_matches(IDENTITY_FORMAT).to_owned(),
        }),
        None => Err(damaged(folder, IDENTITY, 0, "not an identity of this version's format")),
    }
}

fn begin<D: Disk>(
    folder: &Folder<D>,
    spare: &Spare<D::File>,
    segment_bytes: usize,
) -> Result<Recovered<D::File>, StorageError> {
    let beginning = Beginning {
        number: 1,
        previous: Position::default(),
        records: &[],
        capacity: segment_bytes.max(beginning_bytes_max(0)),
    };
    let (segment, position) = segment::create(folder, spare, &beginning)?;
    let segments = BTreeMap::from([(1, segment.capacity)]);
    Ok(Recovered { groups: BTreeMap::new(), segment, segments, position })
}

fn recover<D: Disk>(
    folder: &Folder<D>,
    segments: &[u64],
    names: &[String],
    identified: bool,
) -> Result<Recovered<D::File>, StorageError> {
    let (oldest, newest) = (segments[0], segments[segments.len() - 1]);
    let mut replay = Replay { groups: BTreeMap::new(), position: None };
    let mut capacities = BTreeMap::new();
    let mut end = End { offset: 0, seed: 0, capacity: 0, torn: 0..0 };
    for (number, found) in (oldest..=newest).zip(segments) {
        if number != *found {
            return Err(damaged(folder, &segment_name(number), 0, "the segment is missing"));
        }
        end = replay.segment(folder, number, number == newest)?;
        capacities.insert(number, end.capacity);
    }
    let Replay { groups, position } = replay;
    // Only a crash during the very first start leaves a log without identity: an empty one.
    if !identified && !groups.is_empty() {
        return Err(damaged(folder, IDENTITY, 0, "the file is missing"));
    }
    for log in groups.values() {
        if !log.stored.is_whole() {
            let name = segment_name(oldest);
            return Err(damaged(folder, &name, 0, "entries before this segment are missing"));
        }
        if let Some(file) = &log.stored.snapshot {
            let name = snapshot_name(file.number);
            if !names.contains(&name) {
                return Err(damaged(folder, &name, 0, "the snapshot is missing"));
            }
        }
    }

    // From here on the folder is changed.
    let name = segment_name(newest);
    let mut file = folder.open(&name)?;
    if !end.torn.is_empty() {
        let zeros = vec![0; end.torn.len()];
        folder.write_at(&mut file, &name, end.torn.start as u64, &zeros)?;
        folder.sync(&mut file, &name)?;
    }
    let needed = oldest_needed(&groups, newest);
    remove_segments(folder, oldest..needed)?;
    let segments = capacities.split_off(&needed);
    remove_leftovers(folder, names, &groups)?;
    let End { offset, seed, capacity, .. } = end;
    let segment = Segment { number: newest, name, file, seed, capacity, offset };
    let position = position.expect("there is a segment");
    Ok(Recovered { groups, segment, segments, position })
}

/// The oldest segment that holds anything needed, when `newest` begins with a checkpoint of all.
pub(super) fn oldest_needed(groups: &BTreeMap<GroupId, GroupLog>, newest: u64) -> u64 {
    groups.values().filter_map(GroupLog::oldest_segment).min().unwrap_or(newest).min(newest)
}

/// Removes segments, the oldest first, each for good before the next: what is left never has a
/// gap.
fn remove_segments<D: Disk>(folder: &Folder<D>, segments: Range<u64>) -> Result<(), StorageError> {
    for number in segments {
        folder.remove(&segment_name(number))?;
        folder.sync_names()?;
    }
    Ok(())
}

/// Removes files that were not finished, and snapshots that nothing names.
fn remove_leftovers<D: Disk>(
    folder: &Folder<D>,
    names: &[String],
    groups: &BTreeMap<GroupId, GroupLog>,
) -> Result<(), StorageError> {
    let is_needed = |number| {
        groups.values().any(|log| {
            log.stored.snapshot.as_ref().is_some_and(|snapshot| snapshot.number == number)
        })
    };
    for name in names {
        let superfluous = snapshot_number(name).is_some_and(|number| !is_needed(number));
        if superfluous || name.ends_with(TEMPORARY) {
            folder.remove(name)?;
        }
    }
    Ok(())
}

/// What the segments read so far add up to.
struct Replay {
    groups: BTreeMap<GroupId, GroupLog>,
    /// The last complete batch; `None` before the first segment.
    position: Option<Position>,
}

/// How a segment ends.
struct End {
    /// Behind the last complete batch.
    offset: usize,
    seed: u32,
    capacity: usize,
    /// What is to be zeroed.
    torn: Range<usize>,
}

impl Replay {
    fn segment<D: Disk>(
        &mut self,
        folder: &Folder<D>,
        number: u64,
        is_last: bool,
    ) -> Result<End, StorageError> {
        let name = segment_name(number);
        let bytes = folder.read(&name)?;
        let refuse = |offset, problem| damaged(folder, &name, offset, problem);
        let header = Header::decode(&bytes).map_err(|problem| refuse(0, problem))?;
        if header.number != number {
            return Err(refuse(0, "the segment is another one than its name says"));
        }
        if header.capacity != bytes.len() as u64 {
            return Err(refuse(0, "the segment is of another length than its header says"));
        }
        if self.position.is_some_and(|position| position != header.previous) {
            return Err(refuse(0, "the segment does not follow the one before it"));
        }
        let mut frames = FrameReader::new(&bytes, &header);
        let mut batch = Vec::new();
        let mut complete = None;
        while let Some(frame) = frames.next() {
            match frame {
                Frame::Record(group, payload) => {
                    let record = Record::decode(payload)
                        .map_err(|_| refuse(frames.offset(), "a record cannot be read"))?;
                    batch.push((group, record));
                }
                Frame::Trailer => {
                    self.apply(number, &batch)
                        .map_err(|Misfit(problem)| refuse(frames.offset(), problem))?;
                    batch.clear();
                    complete = Some(frames.offset());
                }
            }
        }
        // A segment gets its name when its first batch is durable.
        let offset =
            complete.ok_or_else(|| refuse(frames.offset(), "the first batch is damaged"))?;
        self.position = Some(frames.position());
        let torn = match frames.tail(offset) {
            Tail::Clean => offset..offset,
            Tail::Torn(torn) if is_last => torn,
            Tail::Torn(_) => return Err(refuse(frames.offset(), "a frame is damaged")),
            Tail::Damaged(problem) => return Err(refuse(frames.offset(), problem)),
        };
        Ok(End { offset, seed: header.seed(), capacity: bytes.len(), torn })
    }

    fn apply(&mut self, segment: u64, batch: &[(GroupId, Record)]) -> Result<(), Misfit> {
        for (group, record) in batch {
            match (self.groups.get_mut(group), record) {
                (Some(log), record) => log.apply(segment, record)?,
                (None, Record::Checkpoint(checkpoint)) => {
                    self.groups.insert(*group, GroupLog::begin(checkpoint));
                }
                (None, record) => self.groups.entry(*group).or_default().apply(segment, record)?,
            }
        }
        Ok(())
    }
}

fn damaged<D: Disk>(
    folder: &Folder<D>,
    name: &str,
    offset: usize,
    problem: &'static str,
) -> StorageError {
    StorageError::Damaged { path: folder.path(name), offset: offset as u64, problem }
}
