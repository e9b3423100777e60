//! The cache's group as seen from any node: commands find its leader.

use std::time::Duration;

use bytes::Bytes;
use dss_raft::{Group, Leadership, NodeId, ProposeError, ReadError};
use tokio::time::Instant;

use super::machine::{CacheCommand, CacheMachine, CacheReply};
use super::request::{self, Answer, Request};
use crate::peer::{Peers, RequestKind};

/// How long a command or read is tried before its caller is told that there is no majority.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two tries: about a round trip and a write to disk.
const PAUSE: Duration = Duration::from_millis(20);

/// The group, from here.
#[derive(Clone)]
pub(crate) struct CacheGroup {
    group: Group<CacheMachine>,
    peers: Peers,
    me: NodeId,
}

/// No majority answered in time: the command may or may not take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no majority of the cache group answered in time")]
pub(crate) struct NoMajority;

impl CacheGroup {
    pub(crate) fn new(group: Group<CacheMachine>, peers: Peers, me: NodeId) -> Self {
        Self { group, peers, me }
    }

    /// This node.
    pub(super) fn me(&self) -> NodeId {
        self.me
    }

    /// This node's part of the group.
    pub(crate) fn group(&self) -> &Group<CacheMachine> {
        &self.group
    }

    /// Has the leader, wherever it is, commit `command`. Tries again where the outcome is
    /// unknown: commands of this group may be repeated.
    pub(crate) async fn propose(&self, command: &CacheCommand) -> Result<CacheReply, NoMajority> {
        let command = command.encode();
        let give_up = Instant::now() + PATIENCE;
        let attempts = async {
            loop {
                if let Some(reply) = self.try_propose(&command).await {
                    return reply;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout_at(give_up, attempts).await.map_err(|_| NoMajority)
    }

    async fn try_propose(&self, command: &Bytes) -> Option<CacheReply> {
        let leader = self.leader()?;
        let answer = if leader == self.me {
            self.propose_here(command.clone()).await
        } else {
            let request = Request::Propose(command.clone());
            tokio::select! {
                answer = self.ask(leader, &request) => answer?,
                // It may be silent rather than gone: nobody waits for it.
                () = self.deposed(leader) => return None,
            }
        };
        match answer {
            Answer::Reply(reply) => Some(reply),
            _ => None,
        }
    }

    /// Proposes an encoded command at this node, for whichever node asks.
    pub(super) async fn propose_here(&self, command: Bytes) -> Answer {
        match self.group.propose(command).await {
            Ok(applied) => Answer::Reply(applied.reply),
            Err(ProposeError::NotLeader { .. }) => Answer::NotLeader,
            Err(_) => Answer::Unavailable,
        }
    }

    /// The leader as far as this node knows.
    pub(super) fn leader(&self) -> Option<NodeId> {
        self.group.status().leader
    }

    /// What people call a member.
    pub(super) fn name(&self, member: dss_mesi::NodeId) -> String {
        self.peers.name(NodeId::new(member.get()))
    }

    /// Waits until another leader is known.
    async fn deposed(&self, leader: NodeId) {
        let is_another = |now: &Leadership| now.leader.is_some_and(|now| now != leader);
        // The group has stopped where this fails: nobody leads it here any more.
        let _ = self.group.leadership().wait_for(is_another).await;
    }

    /// Asks another node; `None` where it does not answer.
    pub(super) async fn ask(&self, node: NodeId, request: &Request) -> Option<Answer> {
        let payload = request::encode(request);
        let answer = self.peers.call(node, RequestKind::Internal, payload).await.ok()?;
        request::decode(&answer)
    }

    /// Asks the machine, after everything that was committed before the call.
    pub(crate) async fn read<R: Send + 'static>(
        &self,
        query: impl Fn(&CacheMachine) -> R + Clone + Send + 'static,
    ) -> Result<R, NoMajority> {
        let give_up = Instant::now() + PATIENCE;
        let attempts = async {
            loop {
                match self.group.read(query.clone()).await {
                    Ok(result) => return Ok(result),
                    Err(ReadError::ShutDown) => return Err(NoMajority),
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::time::timeout_at(give_up, attempts).await.unwrap_or(Err(NoMajority))
    }
}
