use super::*;
use crate::audit::testing::{Disk, FILE_BYTES};
use crate::audit::verify;
use crate::auth::Principal;
use crate::origin::Origin;

fn entry(number: usize) -> Entry {
    Entry {
        client: Origin::default(),
        principal: Principal::Anybody,
        action: "putValue",
        resource: format!("/v1/cache/{number}"),
        names: Vec::new(),
        request_id: number.to_string(),
    }
}

fn outcome() -> Outcome {
    Outcome { status: Some(204), code: None, routed_to: "n1".to_owned() }
}

fn open(folder: &Path, file_bytes_max: u64) -> AuditLog {
    let config = AuditConfig { file_bytes_max, ..AuditConfig::default() };
    AuditLog::open(folder, "n1", &config).unwrap()
}

async fn write(log: &AuditLog, number: usize) -> Result<(), NotWritten> {
    log.begin(entry(number)).end(outcome()).await
}

async fn until_writable(log: &AuditLog) {
    while !log.is_writable() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_was_ended_is_there_and_a_log_goes_on_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let log = open(folder.path(), FILE_BYTES);
        for number in 0..5 {
            write(&log, number).await.unwrap();
            let last = run * 5 + number as u64 + 1;
            assert_eq!(log.sequence(), last);
            assert_eq!(verify(folder.path(), None, None).unwrap().last, last);
        }
    }
}

#[tokio::test]
async fn files_are_begun_anew_at_a_size_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let log = open(folder.path(), 4_096);
        for number in 0..40 {
            write(&log, number).await.unwrap();
        }
    }
    let files = super::super::files::list(folder.path()).unwrap();
    assert!(files.len() > 4, "{} files", files.len());
    assert!(files.iter().all(|(_, path)| path.metadata().unwrap().len() <= 4_096));
    let verified = verify(folder.path(), None, None).unwrap();
    assert_eq!((verified.first, verified.last), (1, 80));
    let page = crate::audit::page(folder.path(), 38, 79, 3).unwrap();
    let numbers: Vec<_> = page.entries.iter().map(|entry| entry["sequence"].as_u64()).collect();
    assert_eq!((numbers, page.next), (vec![Some(39), Some(40), Some(41)], Some(41)));
    let rest = crate::audit::page(folder.path(), 77, 79, 10).unwrap();
    assert_eq!((rest.entries.len(), rest.next), (2, None));
}

#[tokio::test]
async fn requests_that_come_together_share_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let (log, trouble) = Disk::open(folder.path(), "n1");
    let all = (0..500).map(|number| {
        let log = log.clone();
        tokio::spawn(async move { write(&log, number).await })
    });
    for written in futures_util::future::join_all(all).await {
        written.unwrap().unwrap();
    }
    let syncs = trouble.lock().unwrap().syncs;
    assert!(syncs < 100, "{syncs} syncs for 500 entries");
    assert_eq!(verify(folder.path(), None, None).unwrap().last, 500);
}

#[tokio::test]
async fn a_log_is_not_gone_on_with_by_another_key() {
    let folder = tempfile::tempdir().unwrap();
    write(&open(folder.path(), FILE_BYTES), 1).await.unwrap();
    std::fs::remove_file(folder.path().join("audit.key")).unwrap();
    let refused = AuditLog::open(folder.path(), "n1", &AuditConfig::default());
    let line = crate::one_line(&refused.err().unwrap());
    assert!(line.contains("another key"), "{line}");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_an_entry() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), FILE_BYTES);
    drop(log.begin(entry(1)));
    log.flush().await.unwrap();
    let page = crate::audit::page(folder.path(), 0, 1, 10).unwrap();
    assert_eq!(page.entries[0]["outcome"], "abandoned");
    assert_eq!(page.entries[0]["status"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_disk_without_room_is_noticed_before_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let (log, trouble) = Disk::open(folder.path(), "n1");
    write(&log, 1).await.unwrap();
    trouble.lock().unwrap().room = Some(ROOM_MIN - 1);
    write(&log, 2).await.unwrap();
    assert!(!log.is_writable());
    trouble.lock().unwrap().room = None;
    until_writable(&log).await;
}

#[tokio::test]
async fn what_could_not_be_written_is_written_once_that_is_possible() {
    let folder = tempfile::tempdir().unwrap();
    let (log, trouble) = Disk::open(folder.path(), "n1");
    write(&log, 1).await.unwrap();
    // Part of a line is written, and then the disk is full.
    trouble.lock().unwrap().room = Some(100);
    assert_eq!(write(&log, 2).await, Err(NotWritten));
    assert!(!log.is_writable());
    assert_eq!(log.sequence(), 1, "nobody is told of what is not durable");
    assert_eq!(write(&log, 3).await, Err(NotWritten));
    trouble.lock().unwrap().room = None;
    trouble.lock().unwrap().breaks_sync = true;
    assert_eq!(write(&log, 4).await, Err(NotWritten));
    trouble.lock().unwrap().breaks_sync = false;
    until_writable(&log).await;
    write(&log, 5).await.unwrap();
    let verified = verify(folder.path(), None, None).unwrap();
    assert_eq!((verified.last, verified.is_unfinished), (5, false));
    let page = crate::audit::page(folder.path(), 0, 5, 10).unwrap();
    let ids: Vec<_> = page.entries.iter().map(|entry| entry["request_id"].as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5"].map(Some));
}
