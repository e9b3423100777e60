use std::time::Duration;

use dss_raft::{
    Configuration, Entries, Entry, HardState, LogId, LogIndex, MemoryStorage, Payload, Persist,
    PersistSeq, RecoverError, Restored, Storage, Term, recover,
};
use tokio::time::timeout;

use crate::cluster::{Cluster, GROUP, Sum, id};
use crate::durable::open;

/// Three nodes with these numbers, of which only the first one's storage is left.
async fn lost_majority(compact_after: u64, numbers: &[u64]) -> (Cluster, MemoryStorage) {
    let mut cluster = Cluster::start_compacting(3, compact_after).await;
    for number in numbers {
        cluster.add(*number).await;
    }
    cluster.converged(numbers).await;
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
    }
    let survivor = cluster.disks.remove(&id(1)).expect("it had one");
    cluster.disks.clear();
    (cluster, survivor)
}

#[tokio::test(start_paused = true)]
async fn one_survivor_goes_on_alone_and_is_joined_by_new_nodes() {
    for compact_after in [20_000, 30] {
        let mut numbers: Vec<u64> = (0..100).collect();
        let (mut cluster, mut survivor) = lost_majority(compact_after, &numbers).await;
        recover(&mut survivor, GROUP, id(1)).await.expect("there is something to recover");
        cluster.start_node_on(id(1), survivor, Sum::default()).await;
        cluster.add(1_000).await;
        numbers.push(1_000);
        cluster.converged(&numbers).await;
        assert_eq!(cluster.groups[&id(1)].status().configuration.voters, [id(1)].into());

        cluster.start_node(id(2)).await;
        cluster.start_node(id(3)).await;
        let group = cluster.groups[&id(1)].clone();
        let members = Configuration::of_voters([1, 2, 3].map(id));
        let changed = group.change(group.status().configuration, members);
        let changed = timeout(Duration::from_secs(60), changed).await.expect("it ends");
        assert!(changed.is_ok(), "{changed:?}");
        cluster.crash(id(1));
        cluster.add(1_001).await;
        numbers.push(1_001);
        cluster.converged(&numbers).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_member_that_comes_back_all_the_same_changes_nothing_alone() {
    let numbers: Vec<u64> = (0..10).collect();
    let mut cluster = Cluster::start(3).await;
    for number in &numbers {
        cluster.add(*number).await;
    }
    cluster.converged(&numbers).await;
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
    }
    let mut survivor = cluster.disks.remove(&id(1)).expect("it had one");
    recover(&mut survivor, GROUP, id(1)).await.expect("there is something to recover");
    cluster.start_node_on(id(1), survivor, Sum::default()).await;
    cluster.start_node(id(2)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    cluster.add(11).await;
    assert_eq!(cluster.leader().await, id(1));
    assert_eq!(cluster.seen(id(1)).await.last(), Some(&11));
}

#[tokio::test]
async fn a_log_on_files_is_recovered_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(3).await;
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
        cluster.start_node_on(node, open(folder.path(), node).await, Sum::default()).await;
    }
    cluster.add(7).await;
    cluster.converged(&[7]).await;
    for node in [1, 2, 3].map(id) {
        cluster.nodes[&node].shutdown().await;
        cluster.crash(node);
    }
    let mut storage = open(folder.path(), id(2)).await;
    recover(&mut storage, GROUP, id(2)).await.expect("there is something to recover");
    drop(storage);
    for number in [8, 9] {
        cluster.start_node_on(id(2), open(folder.path(), id(2)).await, Sum::default()).await;
        cluster.add(number).await;
        cluster.nodes[&id(2)].shutdown().await;
        cluster.crash(id(2));
    }
    cluster.start_node_on(id(2), open(folder.path(), id(2)).await, Sum::default()).await;
    cluster.converged(&[7, 8, 9]).await;
}

#[tokio::test]
async fn what_cannot_be_recovered_is_left_as_it_is() {
    let mut storage = MemoryStorage::new();
    let refused = recover(&mut storage, GROUP, id(1)).await;
    assert!(matches!(refused, Err(RecoverError::NothingStored { .. })), "{refused:?}");
    assert_eq!(storage.restore(GROUP).await.unwrap(), Restored::default());

    let end = LogId { term: Term::new(u64::MAX), index: LogIndex::new(1) };
    let write = Persist {
        seq: PersistSeq::new(1),
        hard_state: Some(HardState { term: end.term, ..HardState::default() }),
        truncate_from: None,
        snapshot: None,
        entries: Entries::from(Entry { id: end, payload: Payload::Blank }),
        compact_to: None,
    };
    storage.persist(vec![(GROUP, write)]).await.unwrap();
    let before = storage.restore(GROUP).await.unwrap();
    let refused = recover(&mut storage, GROUP, id(1)).await;
    assert!(matches!(refused, Err(RecoverError::NoRoom { .. })), "{refused:?}");
    assert_eq!(storage.restore(GROUP).await.unwrap(), before);
}
