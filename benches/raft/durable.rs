//! One group on a real disk, and the same bytes in a plain file.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use dss_raft::{
    Config, Configuration, Envelope, FileStorage, Group, GroupId, Identity, Node, NodeId, Transport,
};
use tempfile::TempDir;

use crate::driver::{Machine, Service};

/// How large an entry is.
const ENTRY: &[u8; 256] = &[7; 256];

/// Appends to a file, and has each batch synced.
pub(crate) struct PlainFile {
    file: File,
    _folder: TempDir,
}

impl PlainFile {
    pub(crate) const NAME: &'static str = "fdatasync";

    pub(crate) fn create() -> Self {
        let folder = folder();
        let file = OpenOptions::new().create_new(true).append(true).open(folder.path().join("log"));
        Self { file: file.expect("the folder is new"), _folder: folder }
    }

    pub(crate) fn append(&mut self, entries: u64) {
        let entries = usize::try_from(entries).expect("memory holds them");
        self.file.write_all(&ENTRY.repeat(entries)).expect("the disk has room");
        self.file.sync_data().expect("the disk works");
    }
}

/// A group of one node on a [`FileStorage`]: with three, three disks would be needed.
#[derive(Clone)]
pub(crate) struct DurableGroup {
    group: Group<Machine>,
    _node: Node,
    _folder: Arc<TempDir>,
}

impl Service for DurableGroup {
    const NAME: &'static str = "dss-raft";

    async fn start() -> Self {
        let folder = folder();
        let id = NodeId::new(1);
        let identity = Identity { cluster: "bench".into(), node: id, name: "n1".into() };
        let storage = FileStorage::open(folder.path(), identity).await.expect("the folder is new");
        let node = Node::start(storage, Arc::new(Nowhere));
        let members = Configuration::of_voters([id]);
        let group = node.start_group(GroupId::new(0), Config::new(id, 1), members, Machine).await;
        let group = group.expect("there is nothing to restore");
        let elected = group.leadership().wait_for(|now| now.leader.is_some()).await.is_ok();
        assert!(elected, "the group runs");
        Self { group, _node: node, _folder: Arc::new(folder) }
    }

    async fn write(&self) {
        let applied = self.group.propose(Bytes::from_static(ENTRY)).await;
        applied.expect("it leads, and the disk works");
    }
}

/// A folder where the build is, since the place for temporary files may be in memory.
fn folder() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the build was written there")
}

struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, _: NodeId, _: Envelope) {}
}
