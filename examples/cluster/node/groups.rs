//! The Raft groups of a node.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dss_raft::{Config, Configuration, Group, GroupId, Node, NodeId, ReadError, StateMachine};

use super::StartError;
use crate::config::{ClusterConfig, Timing};
use crate::ready::GroupProbe;

/// The pause before a group without a leader is asked again whether it has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);

/// Starts groups, and keeps what readiness asks of each.
pub(super) struct Groups {
    pub(super) raft: Node,
    id: NodeId,
    members: Configuration,
    timing: Timing,
    folder: PathBuf,
    probes: Vec<GroupProbe>,
}

impl Groups {
    pub(super) fn new(config: &ClusterConfig, id: NodeId, raft: Node, folder: PathBuf) -> Self {
        let members = Configuration::of_voters(config.first_nodes().map(|node| node.id));
        Self { raft, id, members, timing: config.timing(), folder, probes: Vec::new() }
    }

    /// Starts `machine` where its log left it.
    pub(super) async fn start<M: StateMachine>(
        &mut self,
        name: &str,
        group: GroupId,
        machine: M,
    ) -> Result<Group<M>, StartError> {
        let config = Config::new(self.id, RandomState::new().hash_one(()))
            .timing(self.timing.election_timeout, self.timing.heartbeat)
            .expect("a cluster's configuration has a timing that Raft accepts");
        let started = self.raft.start_group(group, config, self.members.clone(), machine).await;
        let group = started.map_err(|source| StartError::Group {
            group: name.to_owned(),
            folder: self.folder.clone(),
            source,
        })?;
        let caught_up = Arc::new(AtomicBool::new(false));
        self.probes.push(GroupProbe {
            name: name.to_owned(),
            leadership: group.leadership(),
            caught_up: caught_up.clone(),
        });
        tokio::spawn(catch_up(group.clone(), caught_up));
        Ok(group)
    }

    /// Whether the group that was started last has caught up.
    pub(super) fn last_caught_up(&self) -> Arc<AtomicBool> {
        self.probes.last().map(|probe| probe.caught_up.clone()).unwrap_or_default()
    }

    /// The node's data folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The probes of the groups that were started.
    pub(super) fn take_probes(&mut self) -> Vec<GroupProbe> {
        std::mem::take(&mut self.probes)
    }
}

/// Ends once a read has succeeded that covers everything committed before it began.
async fn catch_up<M: StateMachine>(group: Group<M>, caught_up: Arc<AtomicBool>) {
    loop {
        match group.read(|_| ()).await {
            Ok(()) => return caught_up.store(true, Ordering::Release),
            Err(ReadError::ShutDown) => return,
            Err(_) => tokio::time::sleep(CATCH_UP_PAUSE).await,
        }
    }
}
