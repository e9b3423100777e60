//! How a cluster makes a Redis server its own, once.

use async_trait::async_trait;
use dss_mesi::Epoch;

use super::super::node::RedisNode;
use super::health::{Health, inspect};
use super::record::decode_epoch;
use super::script::CLAIM;
use super::server::Unusable;
use crate::cache_group::{Claim, Found, RegisterCommand, RegisterReply};

/// The cluster's replicated [`Register`](crate::cache_group::Register).
#[async_trait]
pub(crate) trait Registry: Send + Sync + 'static {
    /// Has the register perform a command, which may be repeated; nothing where it cannot now.
    async fn perform(&self, command: RegisterCommand) -> Option<RegisterReply>;
}

/// A server to be claimed.
pub(super) struct Claimant<'a> {
    pub(super) node: &'a RedisNode,
    /// The key that holds what is known about the server.
    pub(super) memory: &'a str,
    /// All servers, in order.
    pub(super) servers: &'a [String],
    pub(super) registry: &'a dyn Registry,
}

impl Claimant<'_> {
    /// Makes the server this cluster's own, or finds that it is; returns the owner's name, which is
    /// what the server then calls its owner, unless it lost its data. May be repeated, and done by
    /// several nodes at a time.
    pub(super) async fn claim(&self) -> Result<String, Unusable> {
        let Health { problem, appends } = inspect(self.node).await?;
        if let Some(problem) = problem {
            return Err(self.refused(&problem));
        }
        let mut hmget = redis::cmd("HMGET");
        let (owner, servers): (Option<String>, Option<String>) =
            self.node.run(hmget.arg(self.memory).arg("owner").arg("servers")).await?;
        let found = owner.map(|owner| Found { owner, servers: servers.unwrap_or_default() });
        let name = self.node.name().to_owned();
        let servers = self.servers.to_vec();
        let (owner, former, claim) =
            match self.perform(RegisterCommand::begin(servers, name.clone(), found)).await? {
                RegisterReply::Claim { owner, former, claim } => (owner, former, claim),
                RegisterReply::OtherServers { servers } => {
                    let servers = servers.join(",");
                    return Err(self.refused(&format!(
                        "the cluster's values are on the servers {servers}: --redis must name these"
                    )));
                }
                RegisterReply::OtherData { former } => {
                    return Err(self.refused(&self.explain_other_data(former.as_deref())));
                }
            };
        if claim == Claim::Begun {
            let epoch = self.take(&owner, former.as_deref()).await?;
            if former.is_some() {
                tracing::warn!(
                    "Redis server {name} holds the cache of a former cluster of this name, and is \
                     taken over with what it holds: epochs begin above {epoch}"
                );
            }
            self.perform(RegisterCommand::Done { server: name.clone(), newest: epoch }).await?;
        }
        if !appends {
            tracing::warn!(
                "Redis server {name} does not write what it acknowledges to disk: \
                 set appendonly to yes and appendfsync to always"
            );
        }
        Ok(owner)
    }

    /// Writes the owner to the server where the former one is there. Returns the highest epoch
    /// that was used on it.
    async fn take(&self, owner: &str, former: Option<&str>) -> Result<Epoch, Unusable> {
        let mut take = CLAIM.prepare_invoke();
        take.key(self.memory)
            .arg(owner)
            .arg(self.servers.join(","))
            .arg(former.unwrap_or_default());
        let (now, fence, newest): (String, Vec<u8>, Vec<u8>) = self.node.script(&take).await?;
        if now != owner {
            return Err(self.refused("somebody else claims it at the same time"));
        }
        match (decode_epoch(&fence), decode_epoch(&newest)) {
            (Some(fence), Some(newest)) => Ok(fence.max(newest)),
            _ => Err(self.refused(&format!("key {} is damaged", self.memory))),
        }
    }

    async fn perform(&self, command: RegisterCommand) -> Result<RegisterReply, Unusable> {
        let reply = self.registry.perform(command).await;
        reply.ok_or_else(|| self.refused("no majority of the cluster can be asked about it yet"))
    }

    fn explain_other_data(&self, former: Option<&str>) -> String {
        let Self { memory, node, .. } = self;
        let name = node.name();
        match former {
            Some(former) => format!(
                "the cluster's other servers hold values of a former cluster, and this one does \
                 not: it has lost its data. To go on without: redis-cli -u redis://{name} \
                 HSET {memory} owner {former} servers {}",
                self.servers.join(",")
            ),
            None => format!(
                "it holds values of another cluster of this name or of another list of servers: \
                 delete the keys that begin like {memory} there, or choose another name for this \
                 cluster"
            ),
        }
    }

    fn refused(&self, problem: &str) -> Unusable {
        Unusable::new(self.node.name(), problem)
    }
}
