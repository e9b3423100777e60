//! The queues of a node.

use std::sync::Arc;

use dss_queue::{Broker, QueueMachine, ReplicatedBroker};
use dss_raft::{Group, GroupId};

use super::StartError;
use super::groups::Groups;
use crate::redis::{Copies, RedisBroker, RedisNodes};

/// The first Raft group of the queues; the other shards follow.
pub(crate) const FIRST_SHARD: u32 = 16;
/// How many shards the topics are spread over. Part of what is stored: a topic's shard is a
/// function of its name and of this.
const SHARDS: u32 = 3;

/// The queues, and the Raft groups behind them.
pub(super) struct Queues {
    pub(super) broker: Arc<dyn Broker>,
    /// None where the queues are on Redis servers.
    pub(super) groups: Vec<Group<QueueMachine>>,
}

impl Queues {
    /// Starts the queues: on these servers, or behind Raft groups of their own.
    pub(super) async fn start(
        groups: &mut Groups,
        cluster: &str,
        servers: Option<(&RedisNodes, Copies)>,
    ) -> Result<Self, StartError> {
        if let Some((servers, copies)) = servers {
            let broker = Arc::new(RedisBroker::start(cluster, servers.clone(), copies));
            return Ok(Self { broker, groups: Vec::new() });
        }
        let mut shards = Vec::new();
        for number in 0..SHARDS {
            let (name, group) = (format!("shard-{number}"), GroupId::new(FIRST_SHARD + number));
            let (machine, events) = QueueMachine::new();
            shards.push((name.clone(), groups.start(&name, group, machine).await?, events));
        }
        let groups = shards.iter().map(|(_, group, _)| group.clone()).collect();
        Ok(Self { broker: Arc::new(ReplicatedBroker::start(shards)), groups })
    }
}
