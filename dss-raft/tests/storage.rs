//! The storages against the conformance suite, and the file storage on a real file system.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use dss_raft::testing::storage_conformance;
use dss_raft::{
    Entries, Entry, FileStorage, GroupId, HardState, Identity, LogId, LogIndex, MemoryStorage,
    NodeId, Payload, Persist, PersistSeq, Storage, StorageError, Term,
};

const GROUP: GroupId = GroupId::new(1);

fn identity() -> Identity {
    Identity { cluster: "demo".to_owned(), node: NodeId::new(1), name: "n1".to_owned() }
}

async fn open(folder: &Path) -> Result<FileStorage, StorageError> {
    FileStorage::open_with_segments(folder, identity(), 64 << 10).await
}

fn entry(index: u64) -> Persist {
    let command = Bytes::from(vec![7; 100]);
    let entry = Entry {
        id: LogId::new(Term::new(1), LogIndex::new(index)),
        payload: Payload::Command(command),
    };
    Persist {
        seq: PersistSeq::new(index),
        hard_state: Some(HardState {
            term: Term::new(1),
            voted_for: Some(NodeId::new(1)),
            ..HardState::default()
        }),
        truncate_from: None,
        snapshot: None,
        entries: vec![entry].into(),
        compact_to: None,
    }
}

#[tokio::test]
async fn the_memory_storage_conforms() {
    let disks: Vec<MemoryStorage> = (0..100).map(|_| MemoryStorage::new()).collect();
    storage_conformance(async |disk| disks[disk].clone()).await;
}

#[tokio::test]
async fn the_file_storage_conforms() {
    let folder = tempfile::tempdir().unwrap();
    storage_conformance(async |disk| {
        open(&folder.path().join(disk.to_string())).await.expect("nothing is wrong with it")
    })
    .await;
}

#[tokio::test]
async fn the_folder_is_made_with_its_parents() {
    let folder = tempfile::tempdir().unwrap();
    let nested = folder.path().join("a/b/c");
    open(&nested).await.unwrap().persist(vec![(GROUP, entry(1))]).await.unwrap();
    assert_eq!(open(&nested).await.unwrap().restore(GROUP).await.unwrap().entries.len(), 1);
}

#[tokio::test]
async fn a_folder_of_another_node_or_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    let others = [
        Identity { cluster: "other".to_owned(), ..identity() },
        Identity { node: NodeId::new(2), ..identity() },
        Identity { name: "n2\nn1".to_owned(), ..identity() },
    ];
    for other in others {
        match FileStorage::open(folder.path(), other).await {
            Err(error @ StorageError::WrongIdentity { .. }) => {
                let text = error.to_string();
                assert!(text.contains("identity") && text.contains("demo"), "{text}");
                assert_eq!(text.lines().count(), 1, "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_second_opener_is_refused_while_the_first_one_lives() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let second = open(folder.path()).await;
    assert!(matches!(second, Err(StorageError::InUse { .. })), "{second:?}");
    drop(first);
    open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    std::fs::write(&file, "not a folder").unwrap();
    match open(&file).await {
        Err(error @ StorageError::Io { .. }) => assert!(error.to_string().contains("data")),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"not a folder");
}

#[tokio::test]
async fn a_dropped_persist_is_done_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open(folder.path()).await.unwrap();
    let mut written = 0;
    for _ in 0..50 {
        // Polled twice at most: begun perhaps, and nobody waits for it.
        let writes = vec![(GROUP, entry(written + 1)), (GROUP, entry(written + 2))];
        let _ = tokio::time::timeout(Duration::ZERO, storage.persist(writes)).await;
        let found = storage.restore(GROUP).await.unwrap().entries.len() as u64;
        assert!(found == written || found == written + 2, "{found} after {written}");
        written = found;
    }
    assert!(written > 0);
    drop(storage);
    let restored = open(folder.path()).await.unwrap().restore(GROUP).await.unwrap();
    assert_eq!(restored.entries.len() as u64, written);
}

#[tokio::test]
async fn a_write_that_does_not_follow_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open(folder.path()).await.unwrap();
    storage.persist(vec![(GROUP, entry(1))]).await.unwrap();
    let gap = storage.persist(vec![(GROUP, entry(3))]).await;
    assert!(matches!(gap, Err(StorageError::OutOfOrder { group: GROUP, .. })), "{gap:?}");
    let next = storage.persist(vec![(GROUP, entry(2))]).await;
    assert!(matches!(next, Err(StorageError::Poisoned)), "{next:?}");
    drop(storage);
    let restored = open(folder.path()).await.unwrap().restore(GROUP).await.unwrap();
    assert_eq!(restored.entries.len(), 1);
}

#[tokio::test]
async fn a_log_of_many_segments_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open(folder.path()).await.unwrap();
    for first in (1..=3000).step_by(100) {
        let writes = (first..first + 100).map(|index| (GROUP, entry(index))).collect();
        storage.persist(writes).await.unwrap();
    }
    drop(storage);
    let segments = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().ends_with(".wal"))
        .count();
    assert!(segments > 3, "{segments} segments");
    let restored = open(folder.path()).await.unwrap().restore(GROUP).await.unwrap();
    assert_eq!(restored.entries.len(), 3000);
    assert!(Entries::from(restored.entries).is_consecutive());
}
