//! Changing the shards that topics are spread over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ReplicatedBroker;
use super::shard::Shard;
use crate::broker::BrokerError;
use crate::command::Command;
use crate::machine::QueueMachine;
use crate::name::TopicName;
use crate::placement::Placement;

/// The epoch of the first placement that shards know of. It is that of the founders.
const FIRST_EPOCH: u64 = 1;
/// How long the founders may take to hear of their places.
const FOUND_MAX: Duration = Duration::from_secs(5);
const FOUND_PAUSE: Duration = Duration::from_millis(20);

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
        let previous = match root.group.read(current).await? {
            Some(placement) => placement,
            None => self.found(root).await?,
        };
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

    /// Gives the founders their places, so that none serves what another one is to keep.
    async fn found(&self, root: &Shard) -> Result<Placement, BrokerError> {
        let shards = self.founders.shards().map(str::to_owned).collect();
        let (shard, previous) = (root.name.clone(), self.founders.clone());
        let current = Placement::new(FIRST_EPOCH, shards)?;
        let place = Command::Place { shard, previous, current: current.clone() };
        root.propose(&place).await?;
        let until = Instant::now() + FOUND_MAX;
        while !self.is_settled_at(FIRST_EPOCH).await? {
            if Instant::now() > until {
                return Err(BrokerError::Moving);
            }
            tokio::time::sleep(FOUND_PAUSE).await;
        }
        Ok(current)
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
            let state =
                |machine: &QueueMachine| (machine.queue().epoch(), machine.queue().is_settled());
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
