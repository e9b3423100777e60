//! Folders whose log is gone: what was promised in it cannot be kept, so they are refused.

use std::path::Path;

use dss_raft::{FileStorage, Identity, NodeId, StorageError};

async fn open(folder: &Path) -> Result<FileStorage, StorageError> {
    let identity =
        Identity { cluster: "demo".to_owned(), node: NodeId::new(1), name: "n1".to_owned() };
    FileStorage::open_with_segments(folder, identity, 64 << 10).await
}

fn remove_segments(folder: &Path) {
    for file in std::fs::read_dir(folder).expect("the folder is there") {
        let path = file.expect("a name").path();
        if path.extension().is_some_and(|extension| extension == "wal") {
            std::fs::remove_file(path).expect("it can be removed");
        }
    }
}

#[tokio::test]
async fn an_identity_without_a_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await.unwrap());
    drop(open(folder.path()).await.expect("nothing is wrong with it"));
    remove_segments(folder.path());
    let opened = open(folder.path()).await;
    assert!(matches!(opened, Err(StorageError::Damaged { .. })), "{:?}", opened.map(|_| ()));
}

#[tokio::test]
async fn a_snapshot_without_a_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("00000001.snapshot"), b"anything").unwrap();
    let opened = open(folder.path()).await;
    assert!(matches!(opened, Err(StorageError::Damaged { .. })), "{:?}", opened.map(|_| ()));
}
