//! What moves topics from shard to shard, at the leader of each shard.
//!
//! It proposes only to its own shard, and reads the others: every node has a member of each. It
//! has no memory. A leader that takes over goes on from what the shards say.

use std::sync::Arc;
use std::time::Duration;

use dss_raft::RoleKind;

use super::shard::Shard;
use crate::broker::BrokerError;
use crate::command::{Command, Reply};
use crate::name::TopicName;
use crate::queue::Queue;

/// Between two looks at the other shards while something has to come or go.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a topic in one log entry.
const PART_BYTES: usize = 1 << 20;

/// Does what a change of placement asks of a shard, while this node leads it.
pub(super) struct Mover {
    pub(super) shard: Arc<Shard>,
    /// The shard whose placement all the others follow.
    pub(super) root: Arc<Shard>,
    pub(super) shards: Arc<[Arc<Shard>]>,
}

impl Mover {
    pub(super) async fn run(self) {
        let mut leadership = self.shard.group.leadership();
        let (mut own, mut root) = (self.shard.placed.clone(), self.root.placed.clone());
        loop {
            if leadership.wait_for(|current| current.role == RoleKind::Leader).await.is_err() {
                return;
            }
            let is_behind = own.borrow_and_update().epoch < root.borrow_and_update().epoch;
            if is_behind || !own.borrow().is_settled {
                // What fails is seen by the next round, here or at another leader.
                let _ = self.round().await;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                changed = own.changed() => if changed.is_err() { return },
                changed = root.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn round(&self) -> Result<(), BrokerError> {
        self.follow_root().await?;
        let (epoch, sources) = self
            .look(&self.shard, |queue| {
                (queue.epoch(), queue.sources().map(str::to_owned).collect::<Vec<_>>())
            })
            .await?;
        for source in sources {
            // One that cannot be reached does not hold up what comes from the others.
            let _ = self.import(epoch, &source).await;
        }
        self.forget(epoch).await
    }

    /// What the root has decided is decided.
    async fn follow_root(&self) -> Result<(), BrokerError> {
        let epoch = self.look(&self.shard, Queue::epoch).await?;
        let newer = move |queue: &Queue| {
            let (previous, current) = queue.placements()?;
            (current.epoch() > epoch).then(|| (previous.clone(), current.clone()))
        };
        if let Some((previous, current)) = self.look(&self.root, newer).await? {
            let shard = self.shard.name.clone();
            self.shard.propose(&Command::Place { shard, previous, current }).await?;
        }
        Ok(())
    }

    async fn import(&self, epoch: u64, name: &str) -> Result<(), BrokerError> {
        let source = self.named(name).ok_or(BrokerError::Unavailable)?;
        let target = self.shard.name.clone();
        let departing = source
            .group
            .read(move |machine| machine.queue().departing(epoch, &target))
            .await?
            .ok_or(BrokerError::Moving)?;
        let from = name.to_owned();
        let missing = self.look(&self.shard, move |queue| queue.missing(&from, departing)).await?;
        for topic in missing {
            self.transfer(epoch, source, topic).await?;
        }
        let source = name.to_owned();
        self.shard.propose(&Command::EndImports { epoch, source }).await.map(drop)
    }

    async fn transfer(
        &self,
        epoch: u64,
        source: &Arc<Shard>,
        topic: TopicName,
    ) -> Result<(), BrokerError> {
        let name = topic.clone();
        let export = self.look(source, move |queue| queue.export(&name)).await?;
        let export = export.ok_or(BrokerError::Moving)?;
        let name = topic.clone();
        let here = self.look(&self.shard, move |queue| queue.imported_bytes(&name)).await?;
        let mut start = usize::try_from(here).unwrap_or(usize::MAX);
        while start < export.len() {
            let end = export.len().min(start + PART_BYTES);
            let import = Command::Import {
                epoch,
                source: source.name.clone(),
                topic: topic.clone(),
                offset: start as u64,
                bytes: export.slice(start..end),
                last: end == export.len(),
            };
            let Reply::Imported { bytes } = self.shard.propose(&import).await? else {
                return Err(BrokerError::Unavailable);
            };
            start = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    /// Forgets what is where it belongs.
    async fn forget(&self, epoch: u64) -> Result<(), BrokerError> {
        let leaving = self.look(&self.shard, |queue| {
            let each = queue.leaving().map(|(topic, owner)| (topic.clone(), owner.to_owned()));
            each.collect::<Vec<_>>()
        });
        for (topic, target) in leaving.await? {
            let Some(target) = self.named(&target) else { continue };
            let (name, source) = (topic.clone(), self.shard.name.clone());
            let is_taken =
                target.group.read(move |it| it.queue().has_taken(epoch, &source, &name)).await;
            if is_taken == Ok(true) {
                self.shard.propose(&Command::Forget { epoch, topic }).await?;
            }
        }
        Ok(())
    }

    /// What this node knows of a shard by now.
    async fn look<R: Send + 'static>(
        &self,
        shard: &Shard,
        query: impl FnOnce(&Queue) -> R + Send + 'static,
    ) -> Result<R, BrokerError> {
        Ok(shard.group.read_local(move |machine| query(machine.queue())).await?)
    }

    fn named(&self, name: &str) -> Option<&Arc<Shard>> {
        self.shards.iter().find(|shard| shard.name == name)
    }
}
