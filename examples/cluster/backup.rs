//! Backups: what every Raft group of a cluster has replicated, in one file, and folders made of it.
//!
//! ```text
//!   "dss-backup-1\n"   what it holds, encoded by postcard   xxh3 of all that, 8 bytes, little endian
//! ```
//!
//! Each group is as it was at one moment, all that was acknowledged before included; the moments of
//! two groups may differ by as long as reading them took. What is kept on Redis servers is theirs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Method;
use bytes::Bytes;
use clap::Args;
use dss_raft::{
    Configuration, Entries, FileStorage, GroupId, HardState, Identity, LogId, LogIndex, Persist,
    PersistSeq, Snapshot, Storage, StorageError, Term,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::client::{Body, Client, Credentials, CredentialsError, Target, Unanswered};
use crate::config::{ClusterConfig, NodeConfig};
use crate::private_file;

/// What a backup begins with.
const MAGIC: &[u8] = b"dss-backup-1\n";
/// How long a node may take to put a backup together and send it.
const BACKUP_MAX: Duration = Duration::from_secs(300);

/// The options of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    /// A node to ask, as `http://HOST:PORT`.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8001")]
    target: Target,
    /// The file to write; it must not be there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    credentials: Credentials,
}

/// Why there is no backup, or nothing is restored from one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("no backup was made")]
    Unanswered(#[from] Unanswered),
    #[error("{}", .path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is no whole backup: {1}")]
    Damaged(PathBuf, &'static str),
    #[error("{path} is of the cluster {found:?}, not of {expected:?}")]
    AnotherCluster { path: PathBuf, found: String, expected: String },
    #[error("{0} is there already: a node is restored into a new folder")]
    Exists(PathBuf),
    #[error("the data folder cannot be written")]
    Storage(#[from] StorageError),
}

/// What a cluster had replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Backup {
    pub(crate) cluster: String,
    pub(crate) groups: Vec<SavedGroup>,
}

/// What one Raft group had replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedGroup {
    pub(crate) group: u32,
    /// A term as high as any that its leaders were in.
    pub(crate) term: u64,
    /// An index as high as that of the last entry in it.
    pub(crate) index: u64,
    /// Its state machine, as that writes itself down.
    pub(crate) state: Bytes,
}

impl Backup {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = postcard::to_extend(self, MAGIC.to_vec())
            .expect("it holds text, numbers and bytes only");
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes.into()
    }

    /// What is wrong with bytes that are no backup is said in the error.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin like one")?;
        let (content, checksum) = rest.split_last_chunk().ok_or("its end is missing")?;
        let summed = &bytes[..MAGIC.len() + content.len()];
        if xxh3_64(summed) != u64::from_le_bytes(*checksum) {
            return Err("its checksum is wrong");
        }
        match postcard::take_from_bytes(content) {
            Ok((backup, [])) => Ok(backup),
            _ => Err("it is of another version"),
        }
    }
}

/// Has a cluster write itself down into a file.
///
/// # Errors
///
/// Where it could not, or the file could not be written.
pub(crate) async fn backup(options: BackupOptions) -> Result<(), Error> {
    let client = Client::with_credentials(&options.credentials)?;
    let question = (Method::GET, "/v1/backup");
    let bytes = client.ask_in_turn(BACKUP_MAX, &[options.target], question, Body::None).await?;
    let groups = Backup::decode(&bytes)
        .map_err(|problem| Error::Damaged(options.out.clone(), problem))?
        .groups
        .len();
    private_file::write_new(&options.out, &bytes)
        .map_err(|source| Error::File { path: options.out.clone(), source })?;
    println!("{groups} groups, {} bytes, in {}", bytes.len(), options.out.display());
    Ok(())
}

/// Makes the data folder of `node` from the backup in `file`: the node starts from there with all
/// others that the cluster began with, each restored from the same file.
///
/// # Errors
///
/// Where the file is no whole backup of this cluster, or the folder is there already.
pub(crate) async fn restore(
    file: &Path,
    config: &ClusterConfig,
    node: &NodeConfig,
) -> Result<(), Error> {
    let unreadable = |source| Error::File { path: file.to_owned(), source };
    let backup = Backup::decode(&fs::read(file).map_err(unreadable)?)
        .map_err(|problem| Error::Damaged(file.to_owned(), problem))?;
    if backup.cluster != config.cluster() {
        return Err(Error::AnotherCluster {
            path: file.to_owned(),
            found: backup.cluster,
            expected: config.cluster().to_owned(),
        });
    }
    let folder = config.data_dir().join(&node.name);
    if folder.exists() {
        return Err(Error::Exists(folder));
    }
    let (cluster, name) = (backup.cluster.clone(), node.name.clone());
    let identity = Identity { cluster, node: node.id, name };
    let mut storage = FileStorage::open(&folder, identity).await?;
    let members = Configuration::of_voters(config.first_nodes().map(|node| node.id));
    let groups = backup.groups.len();
    let mut writes = Vec::new();
    for (seq, saved) in (1..).zip(backup.groups) {
        let group = GroupId::new(saved.group);
        let mut writer = storage.snapshots().create(group)?;
        writer.write(&saved.state)?;
        let (term, index) = (Term::new(saved.term), LogIndex::new(saved.index));
        let snapshot = Snapshot {
            last: LogId { term, index },
            configuration: members.clone(),
            data: writer.finish()?,
        };
        let persist = Persist {
            seq: PersistSeq::new(seq),
            hard_state: Some(HardState { term, ..HardState::default() }),
            truncate_from: None,
            snapshot: Some(Box::new(snapshot)),
            entries: Entries::default(),
            compact_to: None,
        };
        writes.push((group, persist));
    }
    storage.persist(writes).await?;
    println!("{groups} groups of {} are in {}", node.name, folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Backup {
        let state = Bytes::from_static(b"state");
        let saved = SavedGroup { group: 16, term: 3, index: 70_000, state };
        Backup { cluster: "demo".to_owned(), groups: vec![saved] }
    }

    #[test]
    fn a_backup_is_read_as_it_was_written_and_not_where_anything_is_missing_or_changed() {
        let bytes = backup().encode();
        assert_eq!(Backup::decode(&bytes), Ok(backup()));
        for end in 0..bytes.len() {
            assert!(Backup::decode(&bytes[..end]).is_err(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert!(Backup::decode(&changed).is_err(), "{at}");
        }
    }

    #[tokio::test]
    async fn a_node_is_restored_into_a_new_folder_of_its_own_cluster_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backup");
        let backup = Backup { cluster: "local".to_owned(), ..backup() };
        private_file::write_new(&file, &backup.encode()).unwrap();
        assert!(private_file::write_new(&file, b"").is_err(), "nothing is overwritten");

        let data = Some(folder.path().join("data"));
        let config = ClusterConfig::local().with_storage(data, None).unwrap();
        let node = config.node("n2").unwrap();
        restore(&file, &config, node).await.unwrap();
        let again = restore(&file, &config, node).await;
        assert!(matches!(again, Err(Error::Exists(_))), "{again:?}");

        let folder = config.data_dir().join("n2");
        let identity =
            Identity { cluster: "local".to_owned(), node: node.id, name: "n2".to_owned() };
        let mut storage = FileStorage::open(&folder, identity).await.unwrap();
        let restored = storage.restore(GroupId::new(16)).await.unwrap();
        assert_eq!(restored.hard_state.term, Term::new(3));
        let snapshot = restored.snapshot.expect("there is one");
        assert_eq!(snapshot.last.index, LogIndex::new(70_000));
        assert_eq!(snapshot.configuration.voters.len(), 3);

        let text = "cluster = 'demo'\n[[nodes]]\nid = 'n2'\nclient = 'h:1'\npeer = 'h:2'\n";
        let other = ClusterConfig::parse("c", text).unwrap();
        let refused = restore(&file, &other, other.node("n2").unwrap()).await;
        assert!(matches!(refused, Err(Error::AnotherCluster { .. })), "{refused:?}");
    }
}
