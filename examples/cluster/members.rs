//! Who belongs to the cluster now: the nodes of its file, and what operators have changed since.

use std::collections::BTreeSet;
use std::sync::Arc;

use dss_raft::NodeId;
use tokio::sync::watch;

use crate::config::{ClusterConfig, NodeConfig, raft_id};
use crate::control_group::{ControlState, Standing};

/// The nodes of the cluster, as this node knows them at the moment; clones share them.
#[derive(Clone)]
pub(crate) struct Members {
    config: Arc<ClusterConfig>,
    decided: watch::Receiver<ControlState>,
}

impl Members {
    /// The nodes of `config` with the changes that `decided` tells of.
    pub(crate) fn new(config: Arc<ClusterConfig>, decided: watch::Receiver<ControlState>) -> Self {
        Self { config, decided }
    }

    /// The nodes that can be reached: those of the file in its order, then those that were added.
    pub(crate) fn nodes(&self) -> Vec<NodeConfig> {
        let decided = self.decided.borrow();
        let is_gone = |name: &str| {
            decided.members.get(name).is_some_and(|member| member.standing == Standing::Gone)
        };
        let mut nodes: Vec<_> =
            self.config.nodes().iter().filter(|node| !is_gone(&node.name)).cloned().collect();
        let added = decided.members.iter().filter(|(name, member)| {
            member.standing != Standing::Gone && self.config.node(name).is_none()
        });
        nodes.extend(added.filter_map(|(name, member)| {
            let peer = member.peer.as_deref()?;
            NodeConfig::added(name, peer, member.client.as_deref().unwrap_or_default()).ok()
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
        let decided = self.decided.borrow();
        let named = decided.members.iter().find(|(name, _)| raft_id(name.as_bytes()) == id);
        named.map(|(name, _)| name.clone())
    }

    /// What was decided about the node of this name. One of the file belongs to the cluster unless
    /// it is one that joins: then, only once it was added.
    pub(crate) fn standing(&self, name: &str) -> Option<Standing> {
        if let Some(member) = self.decided.borrow().members.get(name) {
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

#[cfg(test)]
impl Members {
    /// The nodes of the file, for ever.
    pub(crate) fn of_file(config: Arc<ClusterConfig>) -> Self {
        Self::new(config, watch::channel(ControlState::default()).1)
    }
}
