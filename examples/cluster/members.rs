//! Who belongs to the cluster now: the nodes of its file, and what operators have changed since.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dss_raft::NodeId;
use tokio::sync::watch;

use crate::config::{ClusterConfig, NodeConfig, raft_id};
use crate::control_group::{ChangedMember, ControlState, MemberChanges, Standing};

/// The nodes of the cluster, as this node knows them at the moment; clones share them.
#[derive(Clone)]
pub(crate) struct Members {
    config: Arc<ClusterConfig>,
    decided: watch::Receiver<ControlState>,
    /// What was decided as this node knew it when it last ran. Whoever leads may be among those
    /// that it has to reach before it can learn anything.
    remembered: Arc<MemberChanges>,
}

/// The file that holds what was decided, in the node's data folder.
const FILE: &str = "members";

impl Members {
    /// The nodes of `config` with the changes that `decided` tells of, and until it does, those
    /// that are remembered in `folder`.
    pub(crate) fn new(
        config: Arc<ClusterConfig>,
        decided: watch::Receiver<ControlState>,
        folder: &Path,
    ) -> Self {
        let remembered = match fs::read(folder.join(FILE)) {
            Ok(bytes) => postcard::from_bytes(&bytes).unwrap_or_else(|_| {
                tracing::warn!("what was known of the cluster's members cannot be read");
                MemberChanges::default()
            }),
            Err(_) => MemberChanges::default(),
        };
        Self { config, decided, remembered: Arc::new(remembered) }
    }

    /// Keeps in `folder` what is decided, until the group of what is decided ends.
    pub(crate) async fn remember(self, folder: PathBuf) {
        let mut decided = self.decided.clone();
        let mut kept = MemberChanges::clone(&self.remembered);
        loop {
            let newest = decided.borrow_and_update().members.clone();
            // While the log is replayed, what is known of old may be newer.
            let is_news = newest.iter().count() >= kept.iter().count() && newest != kept;
            if is_news {
                let (bytes, folder) = (postcard::to_allocvec(&newest), folder.clone());
                let bytes = bytes.expect("it holds text and numbers only");
                let kept_now = tokio::task::spawn_blocking(move || keep(&folder, &bytes)).await;
                match kept_now.expect("writing does not panic, and is not cancelled") {
                    Ok(()) => kept = newest,
                    Err(error) => tracing::warn!("the members cannot be remembered: {error}"),
                }
            }
            if decided.changed().await.is_err() {
                return;
            }
        }
    }

    /// What was decided about the node of this name, where something was.
    fn change(&self, name: &str) -> Option<ChangedMember> {
        let decided = self.decided.borrow();
        decided.members.get(name).or_else(|| self.remembered.get(name)).cloned()
    }

    /// The names of all nodes about which something was decided, in their order.
    fn changed_names(&self) -> BTreeSet<String> {
        let decided = self.decided.borrow();
        let names = decided.members.iter().chain(self.remembered.iter());
        names.map(|(name, _)| name.clone()).collect()
    }

    /// The nodes that can be reached: those of the file in its order, then those that were added.
    pub(crate) fn nodes(&self) -> Vec<NodeConfig> {
        let is_gone =
            |name: &str| self.change(name).is_some_and(|member| member.standing == Standing::Gone);
        let mut nodes: Vec<_> =
            self.config.nodes().iter().filter(|node| !is_gone(&node.name)).cloned().collect();
        let added = self
            .changed_names()
            .into_iter()
            .filter(|name| !is_gone(name) && self.config.node(name).is_none());
        nodes.extend(added.filter_map(|name| {
            let member = self.change(&name)?;
            let client = member.client.as_deref().unwrap_or_default();
            NodeConfig::added(&name, member.peer.as_deref()?, client).ok()
        }));
        nodes
    }

    /// The node of this name, where it can be reached.
    pub(crate) fn node(&self, name: &str) -> Option<NodeConfig> {
        self.nodes().into_iter().find(|node| node.name == name)
    }

    /// What people call this node, also where it is gone.
    pub(crate) fn name(&self, id: NodeId) -> Option<String> {
        if let Some(name) = self.config.name(id) {
            return Some(name.to_owned());
        }
        self.changed_names().into_iter().find(|name| raft_id(name.as_bytes()) == id)
    }

    /// What was decided about the node of this name. One of the file belongs to the cluster unless
    /// it is one that joins: then, only once it was added.
    pub(crate) fn standing(&self, name: &str) -> Option<Standing> {
        if let Some(member) = self.change(name) {
            return Some(member.standing);
        }
        self.config.node(name).is_some_and(|node| !node.joins).then_some(Standing::Belongs)
    }

    /// Who is to vote in every group.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        let belongs = |node: &NodeConfig| self.standing(&node.name) == Some(Standing::Belongs);
        self.nodes().into_iter().filter(belongs).map(|node| node.id).collect()
    }

    /// What is decided, for whoever wants to be woken by changes.
    pub(crate) fn decided(&self) -> watch::Receiver<ControlState> {
        self.decided.clone()
    }
}

/// Replaces the file by one with these bytes, wholly or not at all.
fn keep(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let (path, new) = (folder.join(FILE), folder.join("members.new"));
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
impl Members {
    /// The nodes of the file, for ever.
    pub(crate) fn of_file(config: Arc<ClusterConfig>) -> Self {
        Self::following(config, watch::channel(ControlState::default()).1)
    }

    /// The nodes of the file with what is decided, by a node that remembers nothing.
    pub(crate) fn following(
        config: Arc<ClusterConfig>,
        decided: watch::Receiver<ControlState>,
    ) -> Self {
        Self { config, decided, remembered: Arc::default() }
    }
}
