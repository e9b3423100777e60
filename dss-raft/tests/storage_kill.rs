//! The file storage under SIGKILL: a process writes until it is killed, again and again.
//!
//! `DSS_RAFT_KILLS=100 cargo test -p dss-raft --test storage_kill` kills it a hundred times; without
//! the variable it is a few times only.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Configuration, Entries, Entry, FileStorage, GroupId, HardState, Identity, LogId, LogIndex,
    NodeId, Payload, Persist, PersistSeq, Restored, Snapshot, SnapshotStore, Storage as _,
    StorageError, Term,
};

const FOLDER: &str = "DSS_RAFT_KILL_FOLDER";
const GROUP: GroupId = GroupId::new(1);
/// How many times to kill.
const KILLS: &str = "DSS_RAFT_KILLS";
/// A second group, whose writes share batches with the first one's.
const OTHER: GroupId = GroupId::new(2);
/// How many entries a batch has at most: under load, many clients' proposals become one.
const BATCH_MAX: u64 = 16;
const FINE: &str = "nothing is wrong with the folder";
/// Every so many entries there is a snapshot, and the log is cut.
const SNAPSHOT_EVERY: u64 = 100;

async fn open(folder: &Path) -> Result<FileStorage, StorageError> {
    let node = NodeId::new(1);
    let identity = Identity { cluster: "demo".to_owned(), node, name: "n1".to_owned() };
    FileStorage::open_with_segments(folder, identity, 32 << 10).await
}

fn id(index: u64) -> LogId {
    LogId::new(Term::new(1 + index / 1000), LogIndex::new(index))
}

fn command(index: u64) -> Bytes {
    format!("{index} ").repeat(1 + usize::try_from(index % 40).expect("small")).into()
}

/// The write of this entry, and of a snapshot before it where one is due.
fn write(index: u64, snapshots: &dyn SnapshotStore) -> Persist {
    let snapshot = (index.is_multiple_of(SNAPSHOT_EVERY)).then(|| {
        let mut writer = snapshots.create(GROUP).expect(FINE);
        writer.write(&command(index - 1)).expect(FINE);
        Snapshot {
            last: id(index - 1),
            configuration: Configuration::of_voters([NodeId::new(1)]),
            data: writer.finish().expect(FINE),
        }
    });
    Persist {
        seq: PersistSeq::new(index),
        hard_state: Some(HardState {
            term: id(index).term,
            voted_for: None,
            ..HardState::default()
        }),
        truncate_from: None,
        compact_to: snapshot.as_ref().map(|snapshot| snapshot.last.index),
        snapshot: snapshot.map(Box::new),
        entries: vec![Entry { id: id(index), payload: Payload::Command(command(index)) }].into(),
    }
}

/// The last entry, once everything before it is what was written.
fn check(restored: &Restored, snapshots: &dyn SnapshotStore) -> u64 {
    let covered = restored.snapshot.as_ref().map_or(0, |snapshot| {
        let last = snapshot.last.index.get();
        let mut reader = snapshots.open(GROUP, &snapshot.data).expect(FINE);
        let data = reader.read_at(0, usize::MAX).expect(FINE);
        assert_eq!((snapshot.last, data), (id(last), command(last)));
        last
    });
    for (index, entry) in (covered + 1..).zip(&restored.entries) {
        assert_eq!(entry.id, id(index));
        assert_eq!(entry.payload, Payload::Command(command(index)));
    }
    let last = covered + restored.entries.len() as u64;
    assert!(last == 0 || restored.hard_state.term == id(last).term);
    assert!(Entries::from(restored.entries.clone()).is_consecutive());
    last
}

#[tokio::test]
#[ignore = "the process that is killed: started by the other test"]
async fn writes_until_it_is_killed() {
    let folder = std::env::var(FOLDER).expect("the other test says where to write");
    let mut storage = open(Path::new(&folder)).await.unwrap();
    let snapshots = storage.snapshots();
    let mut last = check(&storage.restore(GROUP).await.unwrap(), &*snapshots);
    assert_eq!(restored_votes(&storage.restore(OTHER).await.unwrap()), last);
    loop {
        // Batches of all sizes, the other group's vote in the same one.
        let end = last + 1 + last % BATCH_MAX;
        let mut writes: Vec<_> =
            (last + 1..=end).map(|index| (GROUP, write(index, &*snapshots))).collect();
        writes.push((OTHER, vote(end)));
        storage.persist(writes).await.unwrap();
        last = end;
        println!("written {last}");
    }
}

/// The other group's write: its term is the first group's last entry.
fn vote(index: u64) -> Persist {
    Persist {
        seq: PersistSeq::new(index),
        hard_state: Some(HardState { term: Term::new(index), ..HardState::default() }),
        truncate_from: None,
        snapshot: None,
        entries: Entries::EMPTY,
        compact_to: None,
    }
}

fn restored_votes(restored: &Restored) -> u64 {
    restored.hard_state.term.get()
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let kills = std::env::var(KILLS).map_or(8, |kills| kills.parse().expect("a number"));
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let written = |line: String| line.strip_prefix("written ")?.parse().ok();
            // A line that was cut short by the kill may name a smaller number: only that.
            lines.map_while(Result::ok).filter_map(written).last()
        });
        tokio::time::sleep(Duration::from_millis(150 + 70 * (round % 8))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = reader.join().unwrap().unwrap_or(0).max(acknowledged);
        let mut storage = open(folder.path()).await.unwrap();
        let restored = storage.restore(GROUP).await.unwrap();
        let found = check(&restored, &*storage.snapshots());
        assert!(found >= acknowledged, "round {round}: {found} of {acknowledged}");
        // Of a batch there is all or nothing.
        let votes = restored_votes(&storage.restore(OTHER).await.unwrap());
        assert_eq!(votes, found, "round {round}");
    }
    assert!(acknowledged > 2 * SNAPSHOT_EVERY, "it wrote {acknowledged} only");
}
