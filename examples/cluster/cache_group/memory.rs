//! Main memory in the cache's group.

use async_trait::async_trait;
use bytes::Bytes;
use dss_mesi::{Epoch, Memory, MemoryError, StoreOutcome, Stored, Version};

use super::client::{CacheGroup, NoMajority};
use super::machine::{CacheCommand, CacheMachine, CacheReply};
use super::register::{RegisterCommand, RegisterReply};
use crate::redis::Registry;

/// The replicated memory: what it says is stored, a majority has on disk.
pub(crate) struct RaftMemory(CacheGroup);

impl RaftMemory {
    pub(crate) fn new(group: CacheGroup) -> Self {
        Self(group)
    }
}

impl From<NoMajority> for MemoryError {
    fn from(reason: NoMajority) -> Self {
        Self::Unavailable { reason: reason.to_string() }
    }
}

fn unexpected() -> MemoryError {
    MemoryError::Unavailable { reason: "nodes of different versions".to_owned() }
}

/// Values that are in the log beside Redis are older ones.
fn elsewhere() -> MemoryError {
    let reason = "the cluster keeps its values in Redis: start every node with --redis".to_owned();
    MemoryError::Unavailable { reason }
}

#[async_trait]
impl Registry for CacheGroup {
    async fn perform(&self, command: RegisterCommand) -> Option<RegisterReply> {
        match self.propose(&CacheCommand::Register(command)).await {
            Ok(CacheReply::Register(reply)) => Some(reply),
            _ => None,
        }
    }
}

#[async_trait]
impl Memory for RaftMemory {
    async fn load(&self, key: &Bytes) -> Result<Option<Stored>, MemoryError> {
        let key = key.clone();
        let load =
            move |machine: &CacheMachine| (!machine.is_on_redis()).then(|| machine.load(&key));
        self.0.read(load).await?.ok_or_else(elsewhere)
    }

    async fn store(
        &self,
        writer: Epoch,
        key: &Bytes,
        version: Version,
        value: Option<Bytes>,
    ) -> Result<StoreOutcome, MemoryError> {
        let command = CacheCommand::Store { writer, key: key.clone(), version, value };
        match self.0.propose(&command).await? {
            CacheReply::Stored(outcome) => Ok(outcome),
            _ => Err(unexpected()),
        }
    }

    async fn fence(&self, epoch: Epoch) -> Result<(), MemoryError> {
        // Nothing is stored before the fence stands.
        if self.0.read(CacheMachine::is_on_redis).await? {
            return Err(elsewhere());
        }
        match self.0.propose(&CacheCommand::Fence(epoch)).await? {
            CacheReply::Fence(fence) if fence == epoch => Ok(()),
            CacheReply::Fence(fence) => Err(MemoryError::Fenced { fence }),
            _ => Err(unexpected()),
        }
    }
}
