//! What every storage must do with the bytes of snapshots.

use bytes::{Bytes, BytesMut};

use super::{Disks, FINE, GROUP, appending, entries, nothing, snapshot};
use crate::entry::Snapshot;
use crate::output::Persist;
use crate::ports::{Restored, SnapshotReader, SnapshotStore, Storage, StorageError};
use crate::types::GroupId;

pub(super) async fn run<S: Storage>(disks: &Disks<impl AsyncFn(usize) -> S>) {
    bytes_are_read_as_they_were_written(&disks.new_one().open().await);
    what_is_unfinished_or_discarded_has_never_been(&disks.new_one().open().await);
    a_snapshot_belongs_to_its_group(&disks.new_one().open().await);
    a_snapshot_that_was_not_finished_cannot_be_in_the_log(disks.new_one().open().await).await;
    what_is_not_in_the_log_is_not_restored(disks).await;
    the_one_before_is_kept(disks.new_one().open().await).await;
    the_one_in_the_log_is_kept_through_restarts(disks).await;
}

/// These writes, with their snapshots stored and their descriptors in place of the contents.
pub(crate) fn with_descriptors(
    store: &dyn SnapshotStore,
    mut writes: Vec<(GroupId, Persist)>,
) -> Result<Vec<(GroupId, Persist)>, StorageError> {
    for (group, persist) in &mut writes {
        if let Some(snapshot) = &mut persist.snapshot {
            snapshot.data = write(store, *group, &[&snapshot.data])?;
        }
    }
    Ok(writes)
}

/// The same, with the content of the snapshot in place of its descriptor.
pub(crate) fn with_contents(
    store: &dyn SnapshotStore,
    group: GroupId,
    mut restored: Restored,
) -> Result<Restored, StorageError> {
    if let Some(snapshot) = &mut restored.snapshot {
        snapshot.data = read_all(&mut *store.open(group, &snapshot.data)?)?;
    }
    Ok(restored)
}

fn write(
    store: &dyn SnapshotStore,
    group: GroupId,
    pieces: &[&[u8]],
) -> Result<Bytes, StorageError> {
    let mut writer = store.create(group)?;
    for piece in pieces {
        writer.write(piece)?;
    }
    writer.finish()
}

fn read_all(reader: &mut dyn SnapshotReader) -> Result<Bytes, StorageError> {
    let mut bytes = BytesMut::new();
    loop {
        let piece = reader.read_at(bytes.len() as u64, 1 << 20)?;
        if piece.is_empty() {
            return Ok(bytes.freeze());
        }
        bytes.extend_from_slice(&piece);
    }
}

fn is_missing<T>(opened: &Result<T, StorageError>) -> bool {
    matches!(opened, Err(StorageError::NoSuchSnapshot { .. }))
}

/// Bytes of which no two places look alike.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u64).step_by(8).flat_map(u64::to_le_bytes).take(length).collect()
}

fn bytes_are_read_as_they_were_written(storage: &impl Storage) {
    let store = storage.snapshots();
    for length in [0, 1, 4096, 262_143, 262_144, 262_145, 1_000_000] {
        let whole = bytes(length);
        for piece in [whole.len().max(1), 70_001] {
            let pieces: Vec<&[u8]> = whole.chunks(piece).collect();
            let descriptor = write(&*store, GROUP, &pieces).expect(FINE);
            let mut reader = store.open(GROUP, &descriptor).expect(FINE);
            assert_eq!(reader.length(), length as u64);
            assert_eq!(read_all(&mut *reader).expect(FINE), whole, "{length} bytes");
            for offset in [0, length / 3, length.saturating_sub(1), length, length + 1] {
                let part = reader.read_at(offset as u64, 100).expect(FINE);
                let rest = whole.get(offset..).unwrap_or_default();
                assert!(part.len() <= 100 && rest.starts_with(&part), "{offset} of {length}");
                assert_eq!(part.is_empty(), rest.is_empty(), "{offset} of {length}");
            }
            let past = reader.read_at(u64::MAX, 1).expect(FINE);
            assert!(past.is_empty());
        }
    }
}

fn what_is_unfinished_or_discarded_has_never_been(storage: &impl Storage) {
    let store = storage.snapshots();
    let mut writer = store.create(GROUP).expect(FINE);
    writer.write(&bytes(1_000_000)).expect(FINE);
    drop(writer);
    let one = write(&*store, GROUP, &[b"one"]).expect(FINE);
    let other = write(&*store, GROUP, &[b"other"]).expect(FINE);
    store.discard(GROUP, &one);
    assert!(is_missing(&store.open(GROUP, &one)));
    store.discard(GROUP, &one);
    let kept = read_all(&mut *store.open(GROUP, &other).expect(FINE)).expect(FINE);
    assert_eq!(kept, "other");
}

fn a_snapshot_belongs_to_its_group(storage: &impl Storage) {
    let store = storage.snapshots();
    let descriptor = write(&*store, GROUP, &[b"content"]).expect(FINE);
    let other = GroupId::new(GROUP.get() + 1);
    assert!(is_missing(&store.open(other, &descriptor)));
    store.discard(other, &descriptor);
    store.open(GROUP, &descriptor).expect(FINE);
    // Other nodes may ask for anything.
    for length in 0..2 * descriptor.len() {
        let mut wrong = descriptor.to_vec();
        wrong.resize(length, 0);
        assert!(wrong == descriptor || is_missing(&store.open(GROUP, &wrong.into())), "{length}");
    }
}

fn storing(descriptor: Bytes, index: u64) -> Persist {
    let snapshot = Snapshot { data: descriptor, ..snapshot(1, index) };
    Persist { snapshot: Some(snapshot.into()), ..nothing() }
}

async fn a_snapshot_that_was_not_finished_cannot_be_in_the_log(mut storage: impl Storage) {
    let invented = storing(Bytes::from_static(b"invented"), 4);
    let refused = storage.persist(vec![(GROUP, invented)]).await;
    assert!(matches!(refused, Err(StorageError::OutOfOrder { .. })), "{refused:?}");
}

async fn what_is_not_in_the_log_is_not_restored<S: Storage>(
    disks: &Disks<impl AsyncFn(usize) -> S>,
) {
    let disk = disks.new_one();
    let mut storage = disk.open().await;
    write(&*storage.snapshots(), GROUP, &[b"content"]).expect(FINE);
    storage.persist(vec![(GROUP, appending(entries(1, 1..=3)))]).await.expect(FINE);
    drop(storage);
    let expected = Restored { entries: entries(1, 1..=3), ..Restored::default() };
    disk.finds(GROUP, &expected).await;
}

async fn the_one_before_is_kept(mut storage: impl Storage) {
    let store = storage.snapshots();
    storage.persist(vec![(GROUP, appending(entries(1, 1..=9)))]).await.expect(FINE);
    let large = bytes(1_000_000);
    let mut descriptors = vec![write(&*store, GROUP, &[&large]).expect(FINE)];
    let mut reader = store.open(GROUP, &descriptors[0]).expect(FINE);
    for index in 1..=4 {
        let newest = descriptors[descriptors.len() - 1].clone();
        storage.persist(vec![(GROUP, storing(newest, index))]).await.expect(FINE);
        for descriptor in descriptors.iter().rev().take(2) {
            store.open(GROUP, descriptor).expect("the newest two are there");
        }
        store.discard(GROUP, &descriptors[descriptors.len() - 1]);
        descriptors.push(write(&*store, GROUP, &[b"content"]).expect(FINE));
    }
    assert!(is_missing(&store.open(GROUP, &descriptors[0])), "it does not stay for ever");
    assert_eq!(read_all(&mut *reader).expect("whoever reads it may go on"), large);
}

async fn the_one_in_the_log_is_kept_through_restarts<S: Storage>(
    disks: &Disks<impl AsyncFn(usize) -> S>,
) {
    let disk = disks.new_one();
    let mut storage = disk.open().await;
    let descriptor = write(&*storage.snapshots(), GROUP, &[b"content"]).expect(FINE);
    storage.persist(vec![(GROUP, storing(descriptor.clone(), 4))]).await.expect(FINE);
    drop(storage);
    let mut storage = disk.open().await;
    let restored = storage.restore(GROUP).await.expect(FINE);
    let found = restored.snapshot.map(|snapshot| snapshot.data);
    assert_eq!(found.as_ref(), Some(&descriptor), "other nodes may still know it by this");
    let store = storage.snapshots();
    let content = read_all(&mut *store.open(GROUP, &descriptor).expect(FINE)).expect(FINE);
    assert_eq!(content, "content");
}
