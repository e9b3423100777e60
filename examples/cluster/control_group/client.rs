//! The control group as seen from any node: commands find its leader.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dss_raft::{Group, Leadership, NodeId, ReadError};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::machine::{ControlCommand, ControlMachine, ControlReply, ControlState};
use crate::peer::{Peers, RequestKind};

/// How long a command or read is tried before its caller is told that there is no majority.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two tries: about a round trip and a write to disk.
const PAUSE: Duration = Duration::from_millis(20);

/// No majority answered in time: the command may or may not take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no majority of the control group answered in time")]
pub(crate) struct NoMajority;

/// Carries commands to the node that leads.
#[async_trait]
pub(crate) trait ControlCourier: Send + Sync + 'static {
    /// Has `leader` answer `command` ([`ControlGroup::answer`]); `None` where no answer came.
    /// Dropping the future gives up.
    async fn carry(&self, leader: NodeId, command: Bytes) -> Option<Bytes>;
}

#[async_trait]
impl ControlCourier for Peers {
    async fn carry(&self, leader: NodeId, command: Bytes) -> Option<Bytes> {
        self.call(leader, RequestKind::Control, command).await.ok()
    }
}

/// What a leader answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// The command was committed and applied.
    Reply(ControlReply),
    /// Ask another node, or again; whether anything was done is unknown.
    Again,
}

/// The group, from here. Clones share it.
#[derive(Clone)]
pub(crate) struct ControlGroup {
    group: Group<ControlMachine>,
    state: watch::Receiver<ControlState>,
    courier: Arc<dyn ControlCourier>,
    me: NodeId,
}

impl ControlGroup {
    pub(crate) fn new(
        group: Group<ControlMachine>,
        state: watch::Receiver<ControlState>,
        courier: Arc<dyn ControlCourier>,
        me: NodeId,
    ) -> Self {
        Self { group, state, courier, me }
    }

    /// This node's part of the group.
    pub(crate) fn group(&self) -> &Group<ControlMachine> {
        &self.group
    }

    /// What is decided, as this node knows it at the moment. Not to be held across an await.
    pub(crate) fn state(&self) -> watch::Ref<'_, ControlState> {
        self.state.borrow()
    }

    /// The same, for whoever wants to be woken by changes.
    pub(crate) fn follow(&self) -> watch::Receiver<ControlState> {
        self.state.clone()
    }

    /// Has the leader, wherever it is, commit `command`. Tries again where the outcome is
    /// unknown: commands of this group may be repeated.
    ///
    /// # Errors
    ///
    /// [`NoMajority`] after five seconds: the command may take effect later.
    pub(crate) async fn propose(
        &self,
        command: &ControlCommand,
    ) -> Result<ControlReply, NoMajority> {
        let command = command.encode();
        let attempts = async {
            loop {
                if let Some(reply) = self.try_propose(&command).await {
                    return reply;
                }
                sleep(PAUSE).await;
            }
        };
        timeout_at(Instant::now() + PATIENCE, attempts).await.map_err(|_| NoMajority)
    }

    async fn try_propose(&self, command: &Bytes) -> Option<ControlReply> {
        let leader = self.group.status().leader?;
        let answer = if leader == self.me {
            self.propose_here(command.clone()).await
        } else {
            let answer = tokio::select! {
                answer = self.courier.carry(leader, command.clone()) => answer?,
                // It may be silent rather than gone: nobody waits for it.
                () = self.deposed(leader) => return None,
            };
            postcard::from_bytes(&answer).ok()?
        };
        match answer {
            Answer::Reply(reply) => Some(reply),
            Answer::Again => None,
        }
    }

    async fn propose_here(&self, command: Bytes) -> Answer {
        match self.group.propose(command).await {
            Ok(applied) => Answer::Reply(applied.reply),
            Err(_) => Answer::Again,
        }
    }

    /// Waits until another leader is known.
    async fn deposed(&self, leader: NodeId) {
        let is_another = |now: &Leadership| now.leader.is_some_and(|now| now != leader);
        // The group has stopped where this fails: nobody leads it here any more.
        let _ = self.group.leadership().wait_for(is_another).await;
    }

    /// Answers another node that takes this one for the leader.
    pub(crate) fn answer(&self, command: Bytes) -> BoxFuture<'static, Bytes> {
        let this = self.clone();
        Box::pin(async move {
            let answer = this.propose_here(command).await;
            postcard::to_allocvec(&answer).expect("it holds nothing that has no form").into()
        })
    }

    /// Waits until this node knows all that was committed before the call.
    ///
    /// # Errors
    ///
    /// [`NoMajority`] after five seconds, or where the node is shutting down.
    pub(crate) async fn catch_up(&self) -> Result<(), NoMajority> {
        let attempts = async {
            loop {
                match self.group.read(|_| ()).await {
                    Ok(()) => return Ok(()),
                    Err(ReadError::ShutDown) => return Err(NoMajority),
                    Err(_) => sleep(PAUSE).await,
                }
            }
        };
        timeout_at(Instant::now() + PATIENCE, attempts).await.unwrap_or(Err(NoMajority))
    }
}
