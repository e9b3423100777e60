//! The file storage under SIGKILL: a process writes until it is killed, again and again.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use dss_raft::{
    Configuration, Entries, Entry, FileStorage, GroupId, HardState, Identity, LogId, LogIndex,
    NodeId, Payload, Persist, PersistSeq, Restored, Snapshot, Storage as _, StorageError, Term,
};

const FOLDER: &str = "DSS_RAFT_KILL_FOLDER";
const GROUP: GroupId = GroupId::new(1);
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

/// The write of this entry.
fn write(index: u64) -> Persist {
    let snapshot = (index.is_multiple_of(SNAPSHOT_EVERY)).then(|| Snapshot {
        last: id(index - 1),
        configuration: Configuration::of_voters([NodeId::new(1)]),
        data: command(index - 1),
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
        snapshot,
        entries: vec![Entry { id: id(index), payload: Payload::Command(command(index)) }].into(),
    }
}

/// The last entry, once everything before it is what was written.
fn check(restored: &Restored) -> u64 {
    let covered = restored.snapshot.as_ref().map_or(0, |snapshot| {
        let last = snapshot.last.index.get();
        assert_eq!((snapshot.last, &snapshot.data), (id(last), &command(last)));
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
    let mut last = check(&storage.restore(GROUP).await.unwrap());
    loop {
        last += 1;
        storage.persist(vec![(GROUP, write(last))]).await.unwrap();
        println!("written {last}");
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..8 {
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
        tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = reader.join().unwrap().unwrap_or(0).max(acknowledged);
        let found = check(&open(folder.path()).await.unwrap().restore(GROUP).await.unwrap());
        assert!(found >= acknowledged, "round {round}: {found} of {acknowledged}");
    }
    assert!(acknowledged > 2 * SNAPSHOT_EVERY, "it wrote {acknowledged} only");
}
