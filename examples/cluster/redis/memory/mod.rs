//! The cache's main memory on Redis servers.
//!
//! # What is where
//!
//! Each key's value lives on one server, which the ring over the servers' names decides, and never
//! on another: while that server is away, its keys are unavailable. A copy elsewhere would be
//! older than the original or would become so, and reading it would be a stale read. For the same
//! reason the list of servers is fixed once and for all: on another list, keys would be looked for
//! where older values of theirs may lie.
//!
//! | key, after the cluster's prefix | holds |
//! | --- | --- |
//! | `memory` | a hash of what is known about the server: see below |
//! | `cache:` and the key | version (24 bytes), `v` for a value or `t` for a tombstone, the value |
//!
//! | field of `memory` | holds |
//! | --- | --- |
//! | `owner` | a random name of the cluster whose memory this is; its register is in the log |
//! | `servers` | the list of servers over which keys are placed |
//! | `writes` | the number of writes since the `era` began |
//! | `era` | how often an operator has accepted a loss; 0 where absent |
//! | `fence` | the lowest epoch whose writers may store, with 20 digits |
//! | `newest` | the highest epoch of a writer that has stored, with 20 digits |
//!
//! # Why it is safe
//!
//! Every operation is one script, so it takes effect at one point. Each brings along the epoch to
//! which this node has raised the fence, and raises the server's to it first. So a server that
//! could not be reached when the fence was raised is fenced before it is used: no store of an
//! earlier epoch takes effect after the first load of a later one, and a store that does take
//! effect before is seen by that load.
//!
//! Each brings along the owner too and how many writes this node knows of, and does nothing where
//! the server has another owner or knows of fewer writes: it came back empty, or older than what it
//! had acknowledged. Then its keys are unavailable, and the log says so, until it has its data back
//! or an operator accepts the loss by the command that the log tells. A loss of some writes is
//! noticed by nodes that have seen them acknowledged; a server that lost everything by any node at
//! any time. With `appendfsync always` neither happens by a crash.
//!
//! A cluster whose data folders were removed is another one, with a name of its own. It takes the
//! servers over with what they hold: the former owner, should it still run, is refused from then
//! on, and the epochs of the new one begin above all that the former one used.

mod claim;
mod health;
mod record;
mod script;
mod server;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dss_mesi::{Epoch, Memory, MemoryError, StoreOutcome, Stored, Version};
use futures_util::future::join_all;

pub(crate) use self::claim::Registry;
use self::server::{MemoryServer, Unusable};
use super::node::RedisNode;
use super::servers::{RedisNodes, key_prefix};

/// How long one server may take to be fenced, before it is left to be fenced when it is used.
const FENCE_LIMIT: Duration = Duration::from_secs(1);

/// Main memory on the Redis servers of a cluster.
#[derive(Clone)]
pub(crate) struct RedisMemory {
    nodes: RedisNodes,
    /// In the order of `nodes`.
    servers: Arc<[Arc<MemoryServer>]>,
    /// What comes before a key of the cache.
    prefix: Arc<[u8]>,
}

impl RedisMemory {
    /// Begins to use `nodes` for this cluster, inside a tokio runtime. None need be there; each is
    /// used once the cluster's `registry` says that it may be.
    pub(crate) fn start(cluster: &str, nodes: RedisNodes, registry: &Arc<dyn Registry>) -> Self {
        let prefix = key_prefix(cluster);
        // In order, since a list in another order places keys alike.
        let mut names: Vec<String> =
            nodes.all().iter().map(|node| node.name().to_owned()).collect();
        names.sort();
        let start = |node: &Arc<RedisNode>| {
            MemoryServer::start(node.clone(), &prefix, names.clone(), registry.clone())
        };
        let servers = nodes.all().iter().map(start).collect();
        Self { servers, nodes, prefix: format!("{prefix}cache:").into_bytes().into() }
    }

    /// What is wrong with the servers: nothing where all were usable since the start, and at least
    /// one is so still. One that is lost later takes its keys along, on every node alike.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(problem) = self.servers.iter().find_map(|server| server.never_usable()) {
            return Some(problem);
        }
        let problems: Option<Vec<String>> =
            self.servers.iter().map(|server| server.problem()).collect();
        problems.map(|problems| problems.join("; "))
    }

    fn server(&self, key: &[u8]) -> &MemoryServer {
        let name = self.nodes.owner(key).name();
        let server = self.servers.iter().find(|server| server.name() == name);
        server.expect("there is a server for each node")
    }

    fn full_key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }
}

impl From<Unusable> for MemoryError {
    fn from(unusable: Unusable) -> Self {
        Self::Unavailable { reason: unusable.to_string() }
    }
}

#[async_trait]
impl Memory for RedisMemory {
    async fn load(&self, key: &Bytes) -> Result<Option<Stored>, MemoryError> {
        Ok(self.server(key).load(&self.full_key(key)).await?)
    }

    async fn store(
        &self,
        writer: Epoch,
        key: &Bytes,
        version: Version,
        value: Option<Bytes>,
    ) -> Result<StoreOutcome, MemoryError> {
        let record = record::encode(version, value.as_deref());
        Ok(self.server(key).store(writer, &self.full_key(key), &record).await?)
    }

    async fn fence(&self, epoch: Epoch) -> Result<(), MemoryError> {
        let raised = self.servers.iter().map(async |server| {
            let raised = tokio::time::timeout(FENCE_LIMIT, server.fence(epoch)).await;
            raised.unwrap_or_else(|_| Err(server.silent()))
        });
        let raised = join_all(raised).await;
        let highest = raised.iter().filter_map(|raised| raised.as_ref().ok()).max();
        match highest {
            Some(fence) if *fence > epoch => Err(MemoryError::Fenced { fence: *fence }),
            // Those that could not be reached are fenced when they are used.
            Some(_) => Ok(()),
            None => {
                let failed = raised.into_iter().find_map(Result::err);
                Err(failed.expect("there is at least one server").into())
            }
        }
    }
}

#[cfg(test)]
mod tests;
