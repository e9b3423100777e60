//! Changing the shards that topics are spread over.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ReplicatedBroker;
use crate::broker::BrokerError;
use crate::command::Command;
use crate::machine::QueueMachine;
use crate::name::TopicName;
use crate::placement::Placement;

impl ReplicatedBroker {
    /// The newest placement that this node has heard of.
    #[must_use]
    pub fn placement(&self) -> Arc<Placement> {
        self.router.newest()
    }

    /// Spreads topics over these shards from now on, and answers the placement that says so. The
    /// topics that change hands are moved after that, with all that is in them, see
    /// [`is_settled`](Self::is_settled).
    ///
    /// Works on the leader of the first founder, in the order of names; elsewhere it is
    /// [`NotLeader`](BrokerError::NotLeader).
    ///
    /// # Errors
    ///
    /// See [`BrokerError`]; [`Moving`](BrokerError::Moving) where the change before is not at its
    /// end.
    pub async fn place(&self, shards: BTreeSet<String>) -> Result<Arc<Placement>, BrokerError> {
        let is_known = |name: &String| self.shards.iter().any(|shard| shard.name == *name);
        if shards.is_empty() || !shards.iter().all(is_known) {
            let problem = "must be shards of this cluster, and one at least";
            return Err(BrokerError::Invalid { field: "shards", problem });
        }
        let root = self.founders.shards().next();
        let root = self.shards.iter().find(|shard| Some(&*shard.name) == root);
        let root = root.expect("a founder is among the shards");
        let current =
            |machine: &QueueMachine| machine.queue().placements().map(|(_, it)| it.clone());
        let previous = root.group.read(current).await?.unwrap_or_else(|| self.founders.clone());
        if previous.shards().eq(shards.iter().map(String::as_str)) {
            return Ok(Arc::new(previous));
        }
        if !self.is_settled_at(previous.epoch()).await? {
            return Err(BrokerError::Moving);
        }
        let current = Placement::new(previous.epoch() + 1, shards)?;
        let (shard, next) = (root.name.clone(), Arc::new(current.clone()));
        root.propose(&Command::Place { shard, previous, current }).await?;
        Ok(next)
    }

    /// Whether every topic is where the newest placement has it.
    ///
    /// # Errors
    ///
    /// See [`BrokerError`].
    pub async fn is_settled(&self) -> Result<bool, BrokerError> {
        self.is_settled_at(self.placement().epoch()).await
    }

    async fn is_settled_at(&self, epoch: u64) -> Result<bool, BrokerError> {
        for shard in self.shards.iter() {
            let state = |machine: &QueueMachine| {
                (machine.queue().epoch(), machine.queue().is_settled())
            };
            if shard.group.read(state).await? != (epoch, true) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds the topics of all shards. The epoch that all of them go by, where nothing is on its
    /// way.
    pub(super) async fn list(
        &self,
        topics: &mut BTreeSet<TopicName>,
    ) -> Result<Option<u64>, BrokerError> {
        let mut epochs = BTreeSet::new();
        for shard in self.shards.iter() {
            let query = |machine: &QueueMachine| {
                let queue = machine.queue();
                let epoch = queue.is_settled().then(|| queue.epoch());
                (epoch, queue.topics().cloned().collect::<Vec<_>>())
            };
            let (epoch, of_shard) = shard.group.read(query).await?;
            epochs.insert(epoch);
            topics.extend(of_shard);
        }
        Ok(epochs.first().copied().flatten().filter(|_| epochs.len() == 1))
    }
}
