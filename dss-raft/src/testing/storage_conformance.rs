//! What every storage must do, as tests that any of them can be run against.

mod model;
mod snapshots;

use bytes::Bytes;

#[cfg(test)]
pub(crate) use self::model::Model;
pub(crate) use self::model::Writes;
pub(crate) use self::snapshots::{with_contents, with_descriptors};
use crate::entry::{Configuration, Entries, Entry, HardState, Payload, Snapshot};
use crate::output::Persist;
use crate::ports::{Restored, Storage};
use crate::types::{GroupId, LogId, LogIndex, NodeId, PersistSeq, Term};

/// Runs the conformance suite; panics with what does not hold.
///
/// `open` opens the disk of that number: always the same one for the same number, an empty one for
/// a number that it has not seen. The suite drops what it opened before it opens the disk again,
/// and so sees only what is kept.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use dss_raft::{MemoryStorage, testing::storage_conformance};
///
/// let disks: Vec<MemoryStorage> = (0..100).map(|_| MemoryStorage::new()).collect();
/// storage_conformance(async |disk| disks[disk].clone()).await;
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It numbers fewer than 100 disks. Crashes are not among its cases: how to bring them about
/// depends on what the storage stands on.
pub async fn storage_conformance<S: Storage>(open: impl AsyncFn(usize) -> S) {
    let disks = Disks { open, next: std::cell::Cell::new(0) };
    a_new_group_has_nothing(disks.new_one()).await;
    the_latest_hard_state_is_kept(disks.new_one()).await;
    entries_are_kept_in_order(disks.new_one()).await;
    a_truncation_comes_before_the_entries_of_its_write(disks.new_one()).await;
    a_snapshot_of_its_own_log_keeps_what_follows(disks.new_one()).await;
    a_snapshot_past_the_log_replaces_it(disks.new_one()).await;
    a_snapshot_that_conflicts_replaces_the_log(disks.new_one()).await;
    a_newer_snapshot_replaces_the_older(disks.new_one()).await;
    a_compaction_forgets_the_beginning(disks.new_one()).await;
    groups_are_apart_and_written_together(disks.new_one()).await;
    large_and_empty_commands_are_kept(disks.new_one()).await;
    nothing_is_written_by_an_empty_write(disks.new_one()).await;
    snapshots::run(&disks).await;
    for seed in 0..8 {
        any_sequence_of_writes_is_kept(disks.new_one(), seed).await;
    }
}

/// The group of the cases that need one.
const GROUP: GroupId = GroupId::new(7);

/// Numbers a new disk for every case.
struct Disks<O> {
    open: O,
    next: std::cell::Cell<usize>,
}

impl<O> Disks<O> {
    fn new_one(&self) -> Disk<'_, O> {
        let number = self.next.get();
        self.next.set(number + 1);
        Disk { open: &self.open, number }
    }
}

/// The disk of one case.
struct Disk<'a, O> {
    open: &'a O,
    number: usize,
}

impl<S: Storage, O: AsyncFn(usize) -> S> Disk<'_, O> {
    async fn open(&self) -> S {
        (self.open)(self.number).await
    }

    /// Writes one after the other, and checks what a new opening finds.
    async fn keeps(&self, writes: Vec<Persist>, expected: Restored) {
        let mut storage = self.open().await;
        for write in writes {
            persist(&mut storage, vec![(GROUP, write)]).await;
        }
        assert_eq!(restore(&mut storage, GROUP).await, expected, "while it is open");
        drop(storage);
        self.finds(GROUP, &expected).await;
    }

    async fn finds(&self, group: GroupId, expected: &Restored) {
        assert_eq!(restore(&mut self.open().await, group).await, *expected, "opened again");
    }
}

/// Writes what stands in `writes` with the snapshots' contents in place of their descriptors.
async fn persist(storage: &mut impl Storage, writes: Vec<(GroupId, Persist)>) {
    let writes = with_descriptors(&*storage.snapshots(), writes).expect(FINE);
    storage.persist(writes).await.expect(FINE);
}

/// What is stored, with the snapshot's content in place of its descriptor.
async fn restore(storage: &mut impl Storage, group: GroupId) -> Restored {
    let restored = storage.restore(group).await.expect(FINE);
    with_contents(&*storage.snapshots(), group, restored).expect(FINE)
}

const FINE: &str = "nothing is wrong with the disk";

pub(super) fn entry(term: u64, index: u64) -> Entry {
    let command = Bytes::from(format!("command {index} of term {term}"));
    Entry { id: id(term, index), payload: Payload::Command(command) }
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term::new(term), LogIndex::new(index))
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

pub(super) fn snapshot(term: u64, index: u64) -> Snapshot {
    Snapshot {
        last: id(term, index),
        configuration: Configuration::of_voters([1, 2, index].map(NodeId::new)),
        data: Bytes::from(format!("everything up to {index}")),
    }
}

fn hard_state(term: u64, voted_for: Option<u64>) -> HardState {
    HardState {
        term: Term::new(term),
        voted_for: voted_for.map(NodeId::new),
        ..HardState::default()
    }
}

fn nothing() -> Persist {
    Persist {
        seq: PersistSeq::new(1),
        hard_state: None,
        truncate_from: None,
        snapshot: None,
        entries: Entries::EMPTY,
        compact_to: None,
    }
}

fn appending(entries: Vec<Entry>) -> Persist {
    Persist { entries: entries.into(), ..nothing() }
}

fn storing(snapshot: Snapshot) -> Persist {
    Persist { snapshot: Some(snapshot.into()), ..nothing() }
}

async fn a_new_group_has_nothing<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    disk.keeps(vec![], Restored::default()).await;
}

async fn the_latest_hard_state_is_kept<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    let states = [hard_state(1, Some(1)), hard_state(2, None), hard_state(2, Some(3))];
    let writes = states.map(|state| Persist { hard_state: Some(state), ..nothing() });
    let expected = Restored { hard_state: states[2], ..Restored::default() };
    disk.keeps(writes.to_vec(), expected).await;
}

async fn entries_are_kept_in_order<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    let blank = Entry { id: id(3, 6), payload: Payload::Blank };
    let all = [entries(1, 1..=3), entries(3, 4..=5), vec![blank]];
    let expected = Restored { entries: all.concat(), ..Restored::default() };
    disk.keeps(all.map(appending).to_vec(), expected).await;
}

async fn a_truncation_comes_before_the_entries_of_its_write<S: Storage>(
    disk: Disk<'_, impl AsyncFn(usize) -> S>,
) {
    let replacing =
        |from, entries| Persist { truncate_from: Some(LogIndex::new(from)), ..appending(entries) };
    let writes = vec![
        appending(entries(1, 1..=3)),
        appending(entries(1, 4..=9)),
        replacing(6, entries(2, 6..=7)),
        replacing(3, entries(3, 3..=4)),
        replacing(4, vec![]),
        // Past the end there is nothing to forget.
        replacing(9, entries(3, 4..=4)),
    ];
    let kept = [entries(1, 1..=2), entries(3, 3..=4)].concat();
    disk.keeps(writes, Restored { entries: kept, ..Restored::default() }).await;
}

async fn a_snapshot_of_its_own_log_keeps_what_follows<S: Storage>(
    disk: Disk<'_, impl AsyncFn(usize) -> S>,
) {
    let writes = vec![appending(entries(1, 1..=9)), storing(snapshot(1, 5))];
    let snapshot = Some(snapshot(1, 5));
    disk.keeps(writes, Restored { snapshot, entries: entries(1, 1..=9), ..Restored::default() })
        .await;
}

async fn a_snapshot_past_the_log_replaces_it<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    let installed = Persist { entries: entries(2, 21..=22).into(), ..storing(snapshot(2, 20)) };
    let writes = vec![appending(entries(1, 1..=9)), installed, appending(entries(2, 23..=23))];
    let snapshot = Some(snapshot(2, 20));
    disk.keeps(writes, Restored { snapshot, entries: entries(2, 21..=23), ..Restored::default() })
        .await;
}

async fn a_snapshot_that_conflicts_replaces_the_log<S: Storage>(
    disk: Disk<'_, impl AsyncFn(usize) -> S>,
) {
    let writes = vec![appending(entries(1, 1..=9)), storing(snapshot(2, 5))];
    let snapshot = Some(snapshot(2, 5));
    disk.keeps(writes, Restored { snapshot, ..Restored::default() }).await;
}

async fn a_newer_snapshot_replaces_the_older<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    let large = Snapshot { data: vec![9; 300_000].into(), ..snapshot(1, 7) };
    let compacting = Persist { compact_to: Some(LogIndex::new(7)), ..storing(large.clone()) };
    let writes = vec![
        appending(entries(1, 1..=9)),
        storing(snapshot(1, 4)),
        compacting,
        appending(entries(1, 10..=10)),
    ];
    let snapshot = Some(large);
    disk.keeps(writes, Restored { snapshot, entries: entries(1, 8..=10), ..Restored::default() })
        .await;
}

async fn a_compaction_forgets_the_beginning<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    let compacting = |to| Persist { compact_to: Some(LogIndex::new(to)), ..nothing() };
    let writes = vec![
        appending(entries(1, 1..=4)),
        appending(entries(1, 5..=9)),
        storing(snapshot(1, 9)),
        compacting(3),
        compacting(6),
        compacting(6),
    ];
    let snapshot = Some(snapshot(1, 9));
    disk.keeps(writes, Restored { snapshot, entries: entries(1, 7..=9), ..Restored::default() })
        .await;
}

async fn groups_are_apart_and_written_together<S: Storage>(
    disk: Disk<'_, impl AsyncFn(usize) -> S>,
) {
    let groups = [0, 1, u32::MAX].map(GroupId::new);
    let mut storage = disk.open().await;
    // Twice the same group in one call: both writes count, in order.
    for index in [1, 3] {
        let write = |(term, group): (u64, &GroupId)| {
            [index, index + 1].map(|index| (*group, appending(entries(term, index..=index))))
        };
        persist(&mut storage, (1..).zip(&groups).flat_map(write).collect()).await;
    }
    drop(storage);
    for (term, group) in (1..).zip(groups) {
        let expected = Restored { entries: entries(term, 1..=4), ..Restored::default() };
        disk.finds(group, &expected).await;
    }
    disk.finds(GroupId::new(2), &Restored::default()).await;
}

async fn large_and_empty_commands_are_kept<S: Storage>(disk: Disk<'_, impl AsyncFn(usize) -> S>) {
    let commands = [0, 1, 70_000, 0, 3_000_000];
    let all: Vec<Entry> = (1..)
        .zip(commands)
        .map(|(index, length)| Entry {
            id: id(1, index),
            payload: Payload::Command(vec![u8::try_from(index).unwrap_or(0); length].into()),
        })
        .collect();
    let writes = all.iter().map(|entry| appending(vec![entry.clone()])).collect();
    disk.keeps(writes, Restored { entries: all, ..Restored::default() }).await;
}

async fn nothing_is_written_by_an_empty_write<S: Storage>(
    disk: Disk<'_, impl AsyncFn(usize) -> S>,
) {
    let mut storage = disk.open().await;
    persist(&mut storage, vec![]).await;
    drop(storage);
    disk.keeps(vec![nothing(), nothing()], Restored::default()).await;
}

async fn any_sequence_of_writes_is_kept<S: Storage>(
    disk: Disk<'_, impl AsyncFn(usize) -> S>,
    seed: u64,
) {
    let mut writes = Writes::new(seed);
    for _ in 0..3 {
        let mut storage = disk.open().await;
        for group in Writes::groups() {
            let found = restore(&mut storage, group).await;
            assert_eq!(found, writes.model().restored(group), "seed {seed}, {group}");
        }
        for _ in 0..40 {
            persist(&mut storage, writes.next_batch()).await;
        }
    }
}
