//! The queue in a folder: what it survives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dss_queue::{
    Broker, BrokerError, Delivery, LocalBroker, NewMessage, OpenError, ReceiveRequest,
};
use dss_raft::{GroupId, MemoryStorage, Persist, Restored, SnapshotStore, Storage, StorageError};

use crate::bench::{consumer, group, message, texts, topic};

async fn receive(broker: &LocalBroker, name: &str, max: usize) -> Vec<Delivery> {
    let request =
        ReceiveRequest { consumer: consumer(), max, wait: Duration::ZERO, visibility: None };
    broker.receive(&topic("orders"), &group(name), request).await.unwrap()
}

async fn publish(broker: &LocalBroker, text: &str) -> Result<(), BrokerError> {
    broker.publish(&topic("orders"), vec![message(text)]).await.map(drop)
}

/// The newest segment of the log, and where what was written in it ends.
fn newest_segment(folder: &Path) -> (PathBuf, usize) {
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut written: Vec<_> = files
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .filter(|(bytes, _)| bytes.len() > 1 << 20)
        .filter_map(|(bytes, path)| Some((path, bytes.iter().rposition(|byte| *byte != 0)? + 1)))
        .collect();
    written.sort();
    written.pop().unwrap()
}

#[tokio::test]
async fn leases_places_and_dedupe_ids_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(folder.path()).await.unwrap();
    let once = NewMessage { dedupe_id: Some("once".to_owned()), ..message("a") };
    let first = broker.publish(&topic("orders"), vec![once.clone()]).await.unwrap();
    publish(&broker, "b").await.unwrap();
    publish(&broker, "c").await.unwrap();
    let slow = receive(&broker, "slow", 1).await;
    let held = receive(&broker, "g", 2).await;
    broker.ack(&topic("orders"), &group("g"), vec![held[0].receipt]).await.unwrap();
    broker.shutdown().await;
    drop(broker);

    let broker = LocalBroker::open(folder.path()).await.unwrap();
    assert_eq!(broker.publish(&topic("orders"), vec![once]).await.unwrap(), first);
    assert_eq!(texts(&receive(&broker, "g", 9).await), ["c"], "a is done, b is leased");
    let receipts = vec![held[0].receipt, held[1].receipt];
    let settled = broker.ack(&topic("orders"), &group("g"), receipts).await.unwrap();
    assert_eq!((settled.done, settled.stale), (1, vec![held[0].receipt]));
    let settled = broker.ack(&topic("orders"), &group("slow"), vec![slow[0].receipt]).await;
    assert_eq!(settled.unwrap().done, 1);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_torn_write_at_the_end_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(folder.path()).await.unwrap();
    let long = "torn".repeat(500);
    for text in ["a", "b", &long] {
        publish(&broker, text).await.unwrap();
    }
    // As after a crash: nothing is flushed or handed over any more.
    drop(broker);
    let copy = tempfile::tempdir().unwrap();
    let (path, end) = newest_segment(folder.path());
    let torn = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains("torn");
    assert!(torn, "the last publish is in the newest segment");
    for entry in folder.path().read_dir().unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let path = copy.path().join(path.file_name().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let text = bytes.windows(4).position(|window| window == b"torn").unwrap();
    // A disk writes whole sectors.
    bytes[(text + 1_000).next_multiple_of(512)..end].fill(0);
    std::fs::write(&path, bytes).unwrap();

    let broker = LocalBroker::open(copy.path()).await.unwrap();
    assert_eq!(texts(&receive(&broker, "g", 9).await), ["a", "b"]);
    publish(&broker, "d").await.unwrap();
    assert_eq!(texts(&receive(&broker, "g", 9).await), ["d"]);
    broker.shutdown().await;
}

#[tokio::test]
async fn damage_in_the_middle_is_reported_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(folder.path()).await.unwrap();
    for text in ["damaged", "b", "c"] {
        publish(&broker, text).await.unwrap();
    }
    broker.shutdown().await;
    drop(broker);
    let (path, _) = newest_segment(folder.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let text = bytes.windows(7).position(|window| window == b"damaged").unwrap();
    bytes[text] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let refused = LocalBroker::open(folder.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Storage(StorageError::Damaged { .. })), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_full_disk_refuses_publishing_while_receive_and_ack_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(folder.path()).await.unwrap();
    publish(&broker, "a").await.unwrap();
    broker.shutdown().await;
    drop(broker);
    // No disk has this much free.
    let broker = LocalBroker::open_with_reserve(folder.path(), u64::MAX).await.unwrap();
    assert_eq!(publish(&broker, "b").await, Err(BrokerError::Overloaded));
    let held = receive(&broker, "g", 1).await;
    let settled = broker.ack(&topic("orders"), &group("g"), vec![held[0].receipt]).await;
    assert_eq!(settled.unwrap().done, 1);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_folder_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let broker = LocalBroker::open(folder.path()).await.unwrap();
    let second = LocalBroker::open(folder.path()).await.unwrap_err();
    assert!(matches!(second, OpenError::Storage(StorageError::InUse { .. })), "{second:?}");
    broker.shutdown().await;
}

/// A disk that fails once it is told to, and says that it has written what it has not.
struct Fickle {
    disk: MemoryStorage,
    fails: Arc<AtomicBool>,
    lies: Arc<AtomicBool>,
}

#[async_trait]
impl Storage for Fickle {
    async fn restore(&mut self, group: GroupId) -> Result<Restored, StorageError> {
        self.disk.restore(group).await
    }

    async fn persist(&mut self, writes: Vec<(GroupId, Persist)>) -> Result<(), StorageError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StorageError::Poisoned);
        }
        if self.lies.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.disk.persist(writes).await
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.disk.snapshots()
    }
}

fn fickle() -> (MemoryStorage, Arc<AtomicBool>, Arc<AtomicBool>, Fickle) {
    let disk = MemoryStorage::default();
    let (fails, lies) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let fickle = Fickle { disk: disk.clone(), fails: Arc::clone(&fails), lies: Arc::clone(&lies) };
    (disk, fails, lies, fickle)
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_final_and_what_was_answered_is_there_afterwards() {
    let (disk, fails, _, storage) = fickle();
    let broker = LocalBroker::open_on(storage).await.unwrap();
    publish(&broker, "a").await.unwrap();
    fails.store(true, Ordering::Relaxed);
    publish(&broker, "b").await.unwrap_err();
    fails.store(false, Ordering::Relaxed);
    publish(&broker, "c").await.unwrap_err();
    drop(broker);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let broker = LocalBroker::open_on(disk).await.unwrap();
    assert_eq!(texts(&receive(&broker, "g", 9).await), ["a"]);
}

/// The planted bug that the test above and the ones of the folder are there for: an answer before
/// the write is durable loses a message, and they would see it.
#[tokio::test(start_paused = true)]
async fn an_answer_before_the_write_is_found_out() {
    let (disk, _, lies, storage) = fickle();
    let broker = LocalBroker::open_on(storage).await.unwrap();
    publish(&broker, "a").await.unwrap();
    lies.store(true, Ordering::Relaxed);
    publish(&broker, "b").await.unwrap();
    drop(broker);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let broker = LocalBroker::open_on(disk).await.unwrap();
    assert_eq!(texts(&receive(&broker, "g", 9).await), ["a"], "b was answered and is lost");
}
