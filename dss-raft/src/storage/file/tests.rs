mod damage;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::{Disk as _, Folder};
use super::faulty_disk::{FaultyDisk, Loss};
use super::frame::{
    BatchWriter, FRAME_BYTES, HEADER_BYTES, Position, record_bytes_max, trailer_bytes_max,
};
use super::snapshots::SnapshotFiles;
use super::wal::Wal;
use bytes::Bytes;

use crate::codec::Record;
use crate::entry::{Configuration, Entries, Entry, Payload, Snapshot};
use crate::output::Persist;
use crate::ports::{Restored, SnapshotReader, SnapshotStore, SnapshotWriter, StorageError};
use crate::testing::storage_conformance::{Model, Writes, with_contents, with_descriptors};
use crate::types::{GroupId, LogId, LogIdentity, LogIndex, NodeId, PersistSeq, Term};

const IDENTITY: &str = "dss-raft storage 1: cluster \"test\", node \"n1\" (1)\n";
/// Small, so that the log rolls every few batches.
const SEGMENT_BYTES: usize = 4 << 10;

fn open(disk: &FaultyDisk) -> Result<Wal<FaultyDisk>, StorageError> {
    let folder = Arc::new(Folder::new(PathBuf::from("folder"), disk.clone()));
    Wal::open(folder, IDENTITY, SEGMENT_BYTES)
}

/// Writes a batch with its snapshots, and makes a spare where one is wanted.
fn write(wal: &mut Wal<FaultyDisk>, writes: &mut Writes) -> Result<(), StorageError> {
    let batch = with_descriptors(&Store(Arc::clone(wal.snapshots())), writes.next_batch())?;
    wal.persist(&batch)?;
    if let Some(make) = wal.spare_wanted() {
        make();
    }
    Ok(())
}

/// A disk with this many batches of this seed, and what is stored after each number of them.
fn written(seed: u64, batches: usize) -> (FaultyDisk, Vec<Model>) {
    let disk = FaultyDisk::default();
    let mut wal = open(&disk).unwrap();
    let mut writes = Writes::new(seed);
    let mut models = vec![writes.model().clone()];
    for _ in 0..batches {
        write(&mut wal, &mut writes).unwrap();
        models.push(writes.model().clone());
    }
    (disk, models)
}

struct Store(Arc<SnapshotFiles<FaultyDisk>>);

impl SnapshotStore for Store {
    fn create(&self, group: GroupId) -> Result<Box<dyn SnapshotWriter>, StorageError> {
        Ok(Box::new(self.0.create(group)?))
    }

    fn open(
        &self,
        group: GroupId,
        descriptor: &Bytes,
    ) -> Result<Box<dyn SnapshotReader>, StorageError> {
        Ok(Box::new(self.0.open(group, descriptor)?))
    }

    fn discard(&self, group: GroupId, descriptor: &Bytes) {
        self.0.discard(group, descriptor);
    }
}

/// What a group has stored, with the content of its snapshot.
fn restore(wal: &Wal<FaultyDisk>, group: GroupId) -> Result<Restored, StorageError> {
    with_contents(&Store(Arc::clone(wal.snapshots())), group, wal.restore(group)?)
}

fn holds(wal: &Wal<FaultyDisk>, model: &Model) -> bool {
    Writes::groups().all(|group| restore(wal, group).unwrap() == model.restored(group))
}

/// Whether the log holds the same, but for entries that its snapshots cover.
fn covers(wal: &Wal<FaultyDisk>, model: &Model) -> bool {
    Writes::groups().all(|group| {
        let (found, expected) = (restore(wal, group).unwrap(), model.restored(group));
        let covered = found.snapshot.as_ref().map_or(LogIndex::ZERO, |it| it.last.index);
        let behind = |entries: &[Entry]| {
            entries.iter().filter(|entry| entry.id.index > covered).cloned().collect::<Vec<_>>()
        };
        found.hard_state == expected.hard_state
            && found.snapshot == expected.snapshot
            && behind(&found.entries) == behind(&expected.entries)
    })
}

/// How many batches the log holds, at least `from`.
fn batches_in(wal: &Wal<FaultyDisk>, models: &[Model], from: usize) -> Option<usize> {
    (from..models.len()).find(|count| holds(wal, &models[*count]))
}

/// The parts of what is not synced that a crash may leave.
fn losses(seed: u64) -> [Loss; 5] {
    [
        Loss::Nothing,
        Loss::Everything,
        Loss::Parts { piece: 512, seed },
        Loss::Parts { piece: 512, seed: !seed },
        Loss::Parts { piece: 4096, seed },
    ]
}

/// Runs `batches` batches on a disk that crashes at operation `crash_at`; returns how many were
/// acknowledged.
fn run_until_crash(disk: &FaultyDisk, seed: u64, batches: usize, crash_at: u64) -> usize {
    disk.crash_at(crash_at);
    let Ok(mut wal) = open(disk) else { return 0 };
    let mut writes = Writes::new(seed);
    (0..batches).take_while(|_| write_acknowledged(&mut wal, &mut writes)).count()
}

fn write_acknowledged(wal: &mut Wal<FaultyDisk>, writes: &mut Writes) -> bool {
    write(wal, writes).is_ok()
}

/// Opens a disk with these files and one of them changed; says what became of it.
fn opened_with(
    contents: &BTreeMap<String, Vec<u8>>,
    change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>),
) -> (Result<Wal<FaultyDisk>, StorageError>, FaultyDisk) {
    let mut contents = contents.clone();
    change(&mut contents);
    let disk = FaultyDisk::with(&contents);
    let opened = open(&disk);
    if opened.is_err() {
        assert!(disk.contents() == contents, "what is refused is not changed");
    }
    (opened, disk)
}

/// The name of the newest segment, and where in it the zeros begin that are behind its last batch.
fn end_of_log(contents: &BTreeMap<String, Vec<u8>>) -> (String, usize) {
    let newest = contents.keys().rfind(|name| name.ends_with(".wal")).unwrap();
    let used = contents[newest].iter().rposition(|byte| *byte != 0).unwrap();
    (newest.clone(), (used + 1).next_multiple_of(FRAME_BYTES))
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    const BATCHES: usize = 60;
    for seed in 0..3 {
        let (whole, models) = written(seed, BATCHES);
        for crash_at in 0..whole.operations() {
            let disk = FaultyDisk::default();
            let acknowledged = run_until_crash(&disk, seed, BATCHES, crash_at);
            assert!(disk.crashed());
            for loss in losses(seed + crash_at) {
                let case = format!("seed {seed}, crash at {crash_at}, {loss:?}");
                let after = disk.after(loss);
                let wal = open(&after).unwrap_or_else(|error| panic!("{case}: {error}"));
                let found = batches_in(&wal, &models, acknowledged);
                let found = found.unwrap_or_else(|| panic!("{case}: {acknowledged} are not there"));
                assert!(found <= acknowledged + 1, "{case}: {found} of {acknowledged}");
            }
        }
    }
}

#[test]
fn a_log_goes_on_after_any_crash_and_what_was_cut_off_never_comes_back() {
    const BATCHES: usize = 30;
    for seed in 10..12 {
        let (whole, models) = written(seed, BATCHES);
        for crash_at in 0..whole.operations() {
            let disk = FaultyDisk::default();
            let acknowledged = run_until_crash(&disk, seed, BATCHES, crash_at);
            let mut after = disk.after(Loss::Parts { piece: 512, seed: crash_at });
            // Recovery itself may crash, at each of its operations.
            for crash_again_at in 0.. {
                after.crash_at(crash_again_at);
                let recovered = open(&after).is_ok();
                let crashed = after.crashed();
                assert!(recovered || crashed, "seed {seed}, crash at {crash_at}: refused");
                after = after.after(Loss::Parts { piece: 512, seed: crash_again_at });
                if recovered && !crashed {
                    break;
                }
            }
            let mut wal = open(&after).unwrap();
            let found = batches_in(&wal, &models, acknowledged).unwrap();
            let mut writes = Writes::new(seed);
            for _ in 0..found {
                writes.next_batch();
            }
            for _ in 0..20 {
                write(&mut wal, &mut writes).unwrap();
            }
            drop(wal);
            let wal = open(&after.after(Loss::Everything)).unwrap();
            assert!(holds(&wal, writes.model()), "seed {seed}, crash at {crash_at}");
        }
    }
}

#[test]
fn segments_that_nobody_needs_go() {
    let (disk, _) = written(1, 2000);
    let segments = disk.contents().keys().filter(|name| name.ends_with(".wal")).count();
    let snapshots = disk.contents().keys().filter(|name| name.ends_with(".snapshot")).count();
    assert!(segments <= 9, "{segments} segments");
    assert!(snapshots <= 6, "{snapshots} snapshots");
}

#[test]
fn segments_that_nobody_needs_are_used_again() {
    let disk = FaultyDisk::default();
    let folder = Arc::new(Folder::new(PathBuf::from("folder"), disk.clone()));
    // Larger than what is carried over, so that all are of one length.
    let mut wal = Wal::open(folder, IDENTITY, 64 << 10).unwrap();
    let mut writes = Writes::new(1);
    for _ in 0..3000 {
        write(&mut wal, &mut writes).unwrap();
    }
    let newest = disk.contents().into_keys().rfind(|name| name.ends_with(".wal")).unwrap();
    let segments: usize = newest.trim_end_matches(".wal").parse().unwrap();
    let files = disk.created().iter().filter(|name| !name.contains("snapshot")).count();
    assert!(segments > 30 && files < segments / 3, "{files} files for {segments} segments");
    drop(wal);
    let folder = Arc::new(Folder::new(PathBuf::from("folder"), disk.after(Loss::Everything)));
    assert!(holds(&Wal::open(folder, IDENTITY, 64 << 10).unwrap(), writes.model()));
}

#[test]
fn a_failed_sync_is_final_and_what_was_acknowledged_before_is_there() {
    const BATCHES: usize = 40;
    let mut failed = 0;
    for seed in 20..22 {
        let (whole, models) = written(seed, BATCHES);
        for fail_at in 0..whole.operations() {
            let disk = FaultyDisk::default();
            disk.fail_syncs_from(fail_at);
            let Ok(mut wal) = open(&disk) else { continue };
            let mut writes = Writes::new(seed);
            let acknowledged =
                (0..BATCHES).take_while(|_| write_acknowledged(&mut wal, &mut writes)).count();
            if acknowledged == BATCHES {
                continue;
            }
            if wal.restore(Writes::groups().next().unwrap()).is_ok() {
                // It was the sync of a snapshot, which the log does without.
                continue;
            }
            failed += 1;
            let again = wal.persist(&writes.next_batch());
            assert!(matches!(again, Err(StorageError::Poisoned)), "{again:?}");
            let restored = wal.restore(Writes::groups().next().unwrap());
            assert!(matches!(restored, Err(StorageError::Poisoned)));
            for loss in losses(fail_at) {
                let wal = open(&disk.after(loss)).unwrap();
                let found = batches_in(&wal, &models, acknowledged);
                assert!(found.is_some_and(|found| found <= acknowledged + 1), "at {fail_at}");
            }
        }
    }
    assert!(failed > BATCHES);
}

#[test]
fn a_full_disk_is_an_error_and_nothing_is_lost() {
    const BATCHES: usize = 200;
    let (whole, models) = written(30, BATCHES);
    for kilobytes in 5..whole.bytes() / 1024 {
        let disk = FaultyDisk::default();
        disk.limit_to(kilobytes * 1024);
        let Ok(mut wal) = open(&disk) else { continue };
        let mut writes = Writes::new(30);
        let acknowledged =
            (0..BATCHES).take_while(|_| write_acknowledged(&mut wal, &mut writes)).count();
        assert!(acknowledged < BATCHES);
        let wal = open(&disk.after(Loss::Everything)).unwrap();
        let found = batches_in(&wal, &models, acknowledged);
        assert!(found.is_some_and(|found| found <= acknowledged + 1), "{kilobytes} KiB");
    }
}

#[test]
fn files_of_others_and_unfinished_ones_do_no_harm() {
    let (disk, models) = written(60, 30);
    let contents = disk.contents();
    let (opened, disk) = opened_with(&contents, |contents| {
        for name in ["notes.txt", "1.wal", "x.wal", "00000009.wal.tmp", "00000999.snapshot"] {
            contents.insert(name.to_owned(), b"whatever".to_vec());
        }
    });
    assert!(holds(&opened.unwrap(), &models[30]));
    let names: Vec<String> = disk.contents().into_keys().collect();
    assert!(names.contains(&"notes.txt".to_owned()) && names.contains(&"x.wal".to_owned()));
    assert!(!names.contains(&"00000999.snapshot".to_owned()), "nothing names it");
    assert!(!names.iter().any(|name| name.ends_with(".tmp")), "they were not finished");
}

#[test]
fn a_torn_tail_is_zeroed_before_anything_is_written() {
    let (disk, models) = written(70, 25);
    let contents = disk.contents();
    let (newest, end) = end_of_log(&contents);
    // Sectors of a batch whose beginning was not written.
    let first = end.div_ceil(512) + 1;
    for sectors in 1..=3 {
        let (opened, disk) = opened_with(&contents, |contents| {
            let segment = contents.get_mut(&newest).unwrap();
            segment[first * 512..(first + sectors) * 512].fill(0xa5);
        });
        assert!(holds(&opened.unwrap(), &models[25]), "{sectors} sectors");
        let durable = disk.after(Loss::Everything).contents();
        assert!(durable[&newest] == contents[&newest], "{sectors} sectors");
    }
}

#[test]
fn a_trailer_takes_no_more_than_is_set_aside_for_it() {
    // Every other sector holds nothing, which takes the longest list.
    let command: Vec<u8> = (0..1 << 17).map(|at| u8::from(at % 1024 == 0)).collect();
    for cut in (0..1024).step_by(8) {
        let payload = Payload::Command(Bytes::copy_from_slice(&command[cut..]));
        let id = LogId::new(Term::new(1), LogIndex::new(1));
        let mut batch = Vec::new();
        let mut writer = BatchWriter::new(&mut batch, 0, 1, Position::default());
        let record = Record::Entries(vec![Entry { id, payload }].into());
        writer.record(GroupId::new(1), &record);
        writer.finish();
        let records = record_bytes_max(&record);
        assert!(batch.len() > command.len() - cut + 120 * 8, "empty sectors are listed");
        let bytes_max = records + trailer_bytes_max(records);
        assert!(batch.len() <= bytes_max, "{} > {bytes_max}", batch.len());
    }
}

#[test]
fn a_snapshot_of_a_group_of_very_many_members_finds_room() {
    let nodes = |from: u64| (from..from + 100).map(|number| NodeId::new(u64::MAX - number));
    let mut configuration = Configuration::of_voters(nodes(0)).with_learners(nodes(100));
    configuration.outgoing = nodes(200).collect();
    let known = |node| (node, LogIdentity::new(u64::MAX));
    configuration.logs = nodes(0).chain(nodes(100)).chain(nodes(200)).map(known).collect();
    let disk = FaultyDisk::default();
    let mut wal = open(&disk).unwrap();
    let group = GroupId::new(1);
    let mut last = None;
    for number in 1..=3 {
        let id = LogId::new(Term::new(1), LogIndex::new(number));
        let data = Bytes::from_static(b"state");
        let snapshot = Snapshot { last: id, configuration: configuration.clone(), data };
        let persist = Persist {
            seq: PersistSeq::new(number),
            hard_state: None,
            truncate_from: None,
            snapshot: Some(Box::new(snapshot.clone())),
            entries: Entries::EMPTY,
            compact_to: None,
        };
        let store = Store(Arc::clone(wal.snapshots()));
        wal.persist(&with_descriptors(&store, vec![(group, persist)]).unwrap()).unwrap();
        last = Some(snapshot);
    }
    drop(wal);
    let wal = open(&disk).unwrap();
    assert_eq!(restore(&wal, group).unwrap().snapshot, last);
}
