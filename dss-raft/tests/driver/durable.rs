use std::path::Path;

use dss_raft::{FileStorage, Identity, NodeId};

use crate::cluster::{Cluster, Sum, id};

pub(crate) async fn open(folder: &Path, node: NodeId) -> FileStorage {
    let name = format!("n{node}");
    let identity = Identity { cluster: "demo".to_owned(), node, name: name.clone() };
    let opened = FileStorage::open_with_segments(folder.join(name), identity, 64 << 10).await;
    opened.expect("nothing is wrong with the folder")
}

async fn start(cluster: &mut Cluster, folder: &Path) {
    for node in [1, 2, 3].map(id) {
        let storage = open(folder, node).await;
        cluster.start_node_on(node, storage, Sum::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_on_files_restarts_after_a_crash_and_after_a_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_compacting(3, 50).await;
    for node in [1, 2, 3].map(id) {
        cluster.crash(node);
    }
    start(&mut cluster, folder.path()).await;
    let mut numbers = Vec::new();
    for round in 0..4 {
        for number in 0..60 {
            cluster.add(round * 100 + number).await;
            numbers.push(round * 100 + number);
        }
        for node in [1, 2, 3].map(id) {
            if round % 2 == 0 {
                cluster.nodes[&node].shutdown().await;
            }
            cluster.crash(node);
        }
        start(&mut cluster, folder.path()).await;
        let leader = cluster.leader().await;
        let seen = cluster.groups[&leader].read(|sum| sum.seen.clone()).await;
        assert_eq!(seen.as_ref(), Ok(&numbers), "round {round}");
        cluster.converged(&numbers).await;
    }
}
