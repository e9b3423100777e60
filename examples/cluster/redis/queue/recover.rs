//! Opening a server where two copies are kept: not before it has what it lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::census::{Finding, Loss, Memory};
use super::place::{CallError, QueueNode, Seen};
use super::shared::Shared;

/// How long a server that has lost something waits for others that may have it. Publishes go
/// another way meanwhile; after that it is used without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a server is used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovered {
    /// It is, and as good as new where `is_new`.
    Open { is_new: bool },
    /// Others that may know more of it are waited for.
    NotYet,
}

impl Shared {
    /// Looks at a server, restores it where it has lost something, and opens it.
    pub(super) async fn recover(&self, node: &Arc<QueueNode>) -> Result<Recovered, CallError> {
        let connection = node.redis.connected().await.map_err(|it| CallError::of(&it))?;
        let keys = &self.caller.keys;
        let seen = |memory: &Memory| Seen { mark: memory.mark(), connection };
        match self.census.find(keys, node, &self.nodes).await? {
            Finding::Whole(memory) => {
                self.open_as(node, &memory, seen(&memory));
                Ok(Recovered::Open { is_new: false })
            }
            Finding::New { is_sure } => {
                if !is_sure && !self.has_waited(node) {
                    return Ok(Recovered::NotYet);
                }
                let memory = self.census.mark_first(keys, node).await?;
                self.open_as(node, &memory, seen(&memory));
                Ok(Recovered::Open { is_new: true })
            }
            Finding::Restoring(memory) => self.restore(node, &memory, seen(&memory)).await,
            Finding::Lost { loss, was, next, is_prefix } => {
                tracing::warn!(
                    "Redis server {} came back with less than it had: it is restored from copies \
                     before it is used",
                    node.name()
                );
                self.losses().insert(node.shard, loss);
                let mut script = self.caller.scripts.remark.prepare_invoke();
                script.key(keys).arg(was).arg(next.mark()).arg(u8::from(is_prefix));
                let begun = node.redis.script_on::<u8>(connection, &script).await;
                if begun.map_err(|failure| CallError::of(&failure))? == 0 {
                    // Somebody else has begun it: look again.
                    return Ok(Recovered::NotYet);
                }
                self.restore(node, &next, seen(&next)).await
            }
        }
    }

    async fn restore(
        &self,
        node: &Arc<QueueNode>,
        memory: &Memory,
        seen: Seen,
    ) -> Result<Recovered, CallError> {
        node.see(seen.clone());
        let waits = self.nodes.iter().any(|other| other.seen().is_none());
        if waits && !self.has_waited(node) {
            return Ok(Recovered::NotYet);
        }
        let count = match self.bring_all_back(node).await {
            Err(error) if !self.has_waited(node) => return Err(error),
            brought => brought,
        };
        // What a server has lost itself, it cannot give back to another one.
        let lacking: Vec<&str> = self
            .nodes
            .iter()
            .filter(|other| other.shard != node.shard && !other.is_open())
            .map(|other| other.name())
            .collect();
        self.exchange_topics(node, true).await;
        self.finish_restoring(node).await?;
        let loss = self.losses().remove(&node.shard);
        let name = node.name();
        if let Ok(count) = count
            && lacking.is_empty()
        {
            tracing::warn!("Redis server {name} is restored: {count} messages came back");
        } else {
            tracing::error!(
                "Redis server {name} is used without what others may keep of it, which comes back \
                 once they can be asked: not all that it lost came back now ({})",
                lacking.join(", ")
            );
            self.census.report(node.name(), loss.unwrap_or(Loss::Everything));
        }
        self.open_as(node, memory, seen);
        Ok(Recovered::Open { is_new: true })
    }

    fn open_as(&self, node: &QueueNode, memory: &Memory, seen: Seen) {
        self.census.remember(node.name(), memory.clone());
        self.waiting().remove(&node.shard);
        self.notes().is_list_due = true;
        node.open(seen);
    }

    /// Whether this server has been waited with for long enough, counted from the first time.
    fn has_waited(&self, node: &QueueNode) -> bool {
        let now = Instant::now();
        let since = *self.waiting().entry(node.shard).or_insert(now);
        now.duration_since(since) >= PATIENCE
    }
}
