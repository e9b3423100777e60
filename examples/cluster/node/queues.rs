//! The queues of a node.

use std::sync::Arc;

use dss_queue::{Broker, QueueMachine, ReplicatedBroker};
use dss_raft::{Group, GroupId};

use super::StartError;
use super::groups::Groups;
use crate::redis::{Copies, RedisBroker, RedisNodes};

/// The first Raft group of the queues; the other shards follow in their order.
pub(crate) const FIRST_SHARD: u32 = 16;
/// How many shards the topics are spread over when the cluster begins. Part of what is stored, as
/// is what it says of them: a topic's first shard is a function of its name and of this.
pub(super) const FOUNDERS: u32 = 3;
/// How many shards there are, in use or not.
pub(super) const SHARDS: u32 = 5;

/// The queues, and the Raft groups behind them.
pub(super) struct Queues {
    pub(super) broker: Arc<dyn Broker>,
    /// The same where it is to be spread over the nodes: not where it is on Redis servers.
    pub(super) spread: Option<Arc<ReplicatedBroker>>,
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
            return Ok(Self { broker, spread: None, groups: Vec::new() });
        }
        let mut shards = Vec::new();
        for number in 0..SHARDS {
            let (name, group) = (shard_name(number), GroupId::new(FIRST_SHARD + number));
            let is_founder = number < FOUNDERS;
            let (machine, events) =
                if is_founder { QueueMachine::new() } else { QueueMachine::outside() };
            shards.push((name.clone(), groups.start(&name, group, machine).await?, events));
        }
        let groups = shards.iter().map(|(_, group, _)| group.clone()).collect();
        let founders = (0..FOUNDERS).map(shard_name).collect();
        let broker = Arc::new(ReplicatedBroker::start_among(founders, shards));
        Ok(Self { broker: broker.clone(), spread: Some(broker), groups })
    }
}

/// What the shard of this number is called.
pub(super) fn shard_name(number: u32) -> String {
    format!("shard-{number}")
}
