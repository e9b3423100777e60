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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn change(standing: Standing, peer: Option<&str>, client: Option<&str>) -> ChangedMember {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        ChangedMember { peer: owned(peer), client: owned(client), standing }
    }

    /// What operators have decided, as it is kept in the file.
    fn decided<const N: usize>(changes: [(&str, ChangedMember); N]) -> ControlState {
        let by_name: BTreeMap<_, _> = changes.into();
        let bytes = postcard::to_allocvec(&by_name).unwrap();
        let members = postcard::from_bytes(&bytes).unwrap();
        ControlState { members, ..ControlState::default() }
    }

    fn names(members: &Members) -> Vec<String> {
        members.nodes().into_iter().map(|node| node.name).collect()
    }

    /// The members of the local three nodes, by what the folder remembers and nothing else.
    fn remembered(folder: &Path) -> Members {
        let nothing = watch::channel(ControlState::default()).1;
        Members::new(Arc::new(ClusterConfig::local()), nothing, folder)
    }

    /// Has a node learn this, and then stop.
    async fn learn(folder: &Path, state: ControlState) {
        let (sender, decided) = watch::channel(state);
        let members = Members::new(Arc::new(ClusterConfig::local()), decided, folder);
        drop(sender);
        members.remember(folder.to_owned()).await;
    }

    #[test]
    fn nodes_are_those_of_the_file_without_the_gone_and_with_the_added() {
        let (sender, changes) = watch::channel(ControlState::default());
        let members = Members::following(Arc::new(ClusterConfig::local()), changes);
        assert_eq!(names(&members), ["n1", "n2", "n3"]);
        assert_eq!(members.voters().len(), 3);

        sender.send_replace(decided([
            ("n2", change(Standing::Leaves, None, None)),
            ("n3", change(Standing::Gone, None, None)),
            ("n4", change(Standing::Belongs, Some("h:1"), None)),
            ("n5", change(Standing::Gone, Some("h:2"), Some("h:3"))),
        ]));
        assert_eq!(names(&members), ["n1", "n2", "n4"], "who leaves is reached until it is gone");
        assert_eq!(members.voters(), [b"n1", b"n4"].map(|name| raft_id(name)).into());
        let added = members.node("n4").unwrap();
        assert_eq!((added.peer.as_str(), added.client.as_str()), ("h:1", ""));
        for (name, standing) in [
            ("n1", Some(Standing::Belongs)),
            ("n2", Some(Standing::Leaves)),
            ("n5", Some(Standing::Gone)),
            ("n6", None),
        ] {
            assert_eq!(members.standing(name), standing, "{name}");
        }
        assert_eq!(members.name(raft_id(b"n5")).as_deref(), Some("n5"), "logs still tell of it");
        assert_eq!(members.name(raft_id(b"n6")), None);
    }

    #[test]
    fn a_node_of_the_file_that_joins_belongs_once_it_was_added() {
        let text = "cluster = 'c'\n[[nodes]]\nid = 'n1'\nclient = 'h:1'\npeer = 'h:2'\n\
                    [[nodes]]\nid = 'n2'\nclient = 'h:3'\npeer = 'h:4'\njoins = true\n";
        let config = Arc::new(ClusterConfig::parse("c", text).unwrap());
        let (sender, changes) = watch::channel(ControlState::default());
        let members = Members::following(config, changes);
        assert_eq!((members.standing("n2"), members.voters().len()), (None, 1));
        sender.send_replace(decided([("n2", change(Standing::Belongs, Some("h:4"), None))]));
        assert_eq!(members.standing("n2"), Some(Standing::Belongs));
        let known = members.node("n2").unwrap();
        assert_eq!((members.voters().len(), known.client.as_str()), (2, "h:3"), "as the file says");
    }

    #[tokio::test]
    async fn what_was_decided_is_known_before_anybody_says_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let belongs = change(Standing::Belongs, Some("h:1"), Some("h:2"));
        let changes = [("n1", change(Standing::Gone, None, None)), ("n4", belongs)];
        learn(folder.path(), decided(changes.clone())).await;
        assert_eq!(names(&remembered(folder.path())), ["n2", "n3", "n4"]);

        // What is decided counts for more, node by node.
        let left = decided([("n4", change(Standing::Gone, Some("h:1"), None))]);
        let (_sender, newer) = watch::channel(left);
        let config = Arc::new(ClusterConfig::local());
        assert_eq!(names(&Members::new(config, newer, folder.path())), ["n2", "n3"]);

        // A log that is replayed from its beginning tells of less than is known.
        learn(folder.path(), decided([("n1", change(Standing::Leaves, None, None))])).await;
        assert_eq!(names(&remembered(folder.path())), ["n2", "n3", "n4"]);
        let [gone, _] = changes;
        let left = change(Standing::Gone, Some("h:1"), Some("h:2"));
        learn(folder.path(), decided([gone, ("n4", left)])).await;
        assert_eq!(names(&remembered(folder.path())), ["n2", "n3"]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_forgotten_and_learned_anew() {
        let folder = tempfile::tempdir().unwrap();
        for garbage in [&b""[..], b"\xff\xff\xff\xff\xff", b"\x01\x02n"] {
            fs::write(folder.path().join(FILE), garbage).unwrap();
            assert_eq!(names(&remembered(folder.path())), ["n1", "n2", "n3"], "{garbage:?}");
        }
        // What a crash left of an attempt to write it does no harm.
        fs::write(folder.path().join("members.new"), "half").unwrap();
        let added = change(Standing::Belongs, Some("h:1"), Some("h:2"));
        learn(folder.path(), decided([("n4", added)])).await;
        assert_eq!(names(&remembered(folder.path())), ["n1", "n2", "n3", "n4"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
