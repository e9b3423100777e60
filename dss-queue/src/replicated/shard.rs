//! One shard: its group, who waits at it, and its timer.

use std::sync::Arc;
use std::time::Duration;

use dss_raft::{Group, Leadership, RoleKind};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::clock::Clock;
use crate::broker::{BrokerError, ReceiveRequest};
use crate::command::{Command, Reply};
use crate::id::{Receipt, ShardId};
use crate::machine::{Placed, QueueMachine};
use crate::message::Delivery;
use crate::name::{GroupName, TopicName};
use crate::queue::Availability;
use crate::time::UnixMillis;
use crate::waiters::{Ticket, Waiters};

/// The least time between two ticks: what ends within it costs one log entry, and a proposal that
/// fails is not repeated at once.
const TICK_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// A shard as this node sees it.
pub(super) struct Shard {
    pub(super) name: String,
    pub(super) id: ShardId,
    pub(super) group: Group<QueueMachine>,
    pub(super) waiters: Arc<Waiters>,
    pub(super) clock: Clock,
    pub(super) placed: watch::Receiver<Placed>,
    pub(super) runtime: Handle,
}

impl Shard {
    pub(super) async fn propose(&self, command: &Command) -> Result<Reply, BrokerError> {
        match self.group.propose(command.encode(self.clock.now())).await?.reply {
            Reply::Refused(refusal) => Err(refusal.into()),
            reply => Ok(reply),
        }
    }

    /// Looks, leases what is there, and waits where nothing is.
    ///
    /// Looking at what this node has applied costs nothing, and what it leads to is leased through
    /// the log, which knows better. Only that there is nothing is not said before a linearizable
    /// read has said so: another node may have led when it was published.
    pub(super) async fn receive(
        self: &Arc<Self>,
        topic: &TopicName,
        group: &GroupName,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivery>, BrokerError> {
        let mut leadership = self.group.leadership();
        check_leads(&leadership.borrow_and_update())?;
        let deadline = Instant::now() + request.wait;
        let max = u32::try_from(request.max).unwrap_or(u32::MAX);
        let command = Command::Receive {
            topic: topic.clone(),
            group: group.clone(),
            consumer: request.consumer,
            max,
            visibility: request.visibility,
        };
        if request.wait.is_zero() {
            if self.look_here(topic, group).await? == Availability::Something
                && let Some(granted) = self.take(Availability::Something, &command).await?
            {
                return Ok(granted.accept());
            }
            let found = self.look(topic, group).await?;
            return Ok(self.take(found, &command).await?.map_or_else(Vec::new, Granted::accept));
        }
        let mut ticket = self.waiters.enter(topic, group);
        loop {
            let is_over = tokio::select! {
                biased;
                () = ticket.called() => false,
                () = tokio::time::sleep_until(deadline) => true,
                error = leadership_lost(&mut leadership) => return Err(error),
            };
            let mut found = self.look_here(topic, group).await?;
            if is_over || !matches!(found, Availability::Something | Availability::Nothing) {
                found = self.look(topic, group).await?;
            }
            if is_over {
                let granted = self.take(found, &command).await?;
                return Ok(granted.map_or_else(Vec::new, |it| it.accept_as(&mut ticket)));
            }
            if let Some(granted) = self.take(found, &command).await? {
                return Ok(granted.accept_as(&mut ticket));
            }
            ticket.found_nothing();
        }
    }

    async fn look(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<Availability, BrokerError> {
        let (topic, group) = (topic.clone(), group.clone());
        Ok(self.group.read(move |machine| machine.queue().availability(&topic, &group)).await?)
    }

    async fn look_here(
        &self,
        topic: &TopicName,
        group: &GroupName,
    ) -> Result<Availability, BrokerError> {
        let (topic, group) = (topic.clone(), group.clone());
        let look = move |machine: &QueueMachine| machine.queue().availability(&topic, &group);
        Ok(self.group.read_local(look).await?)
    }

    /// Leases, unless there is nothing.
    async fn take(
        self: &Arc<Self>,
        found: Availability,
        command: &Command,
    ) -> Result<Option<Granted>, BrokerError> {
        match found {
            Availability::NoTopic => return Err(BrokerError::NotFound),
            Availability::Crowded => return Err(BrokerError::Overloaded),
            Availability::Moved => return Err(BrokerError::Moving),
            Availability::Nothing => return Ok(None),
            Availability::NoGroup | Availability::Something => {}
        }
        loop {
            let granted = self.lease(command.clone()).await?;
            if !granted.deliveries.is_empty() {
                return Ok(Some(granted));
            }
            if !granted.more {
                return Ok(None);
            }
        }
    }

    /// Leases in a task of its own, so that somebody is there for the answer whatever becomes of
    /// the caller: what a caller that has gone was granted is handed back.
    async fn lease(self: &Arc<Self>, command: Command) -> Result<Granted, BrokerError> {
        let (answer, answered) = oneshot::channel();
        let shard = Arc::clone(self);
        self.runtime.spawn(async move {
            if answer.is_closed() {
                return;
            }
            let granted = match shard.propose(&command).await {
                Ok(Reply::Received { deliveries, more }) => {
                    Ok(Granted { shard, command, deliveries, more })
                }
                Ok(_) => Err(BrokerError::Unavailable),
                Err(error) => Err(error),
            };
            // Where nobody takes it any more, dropping it hands it back.
            drop(answer.send(granted));
        });
        // The task ends without an answer only with its runtime.
        answered.await.unwrap_or(Err(BrokerError::OutcomeUnknown))
    }

    /// Proposes ticks when they are due, while this node leads.
    pub(super) async fn run_timer(
        self: Arc<Self>,
        mut deadline: watch::Receiver<Option<UnixMillis>>,
    ) {
        let mut leadership = self.group.leadership();
        loop {
            if leadership.wait_for(|current| current.role == RoleKind::Leader).await.is_err() {
                return;
            }
            let due = deadline.borrow_and_update().and_then(|at| self.clock.instant(at));
            let ring = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                changed = deadline.changed() => if changed.is_err() { return },
                () = ring => {
                    // Where it fails, another node leads, or the next round repeats it.
                    let _ = self.propose(&Command::Tick).await;
                    tokio::time::sleep(TICK_INTERVAL_MIN).await;
                }
            }
        }
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shard")
            .field("name", &self.name)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// Messages that are leased and that nobody has seen; dropping them hands them back.
struct Granted {
    shard: Arc<Shard>,
    command: Command,
    deliveries: Vec<Delivery>,
    more: bool,
}

impl Granted {
    /// From here on they are the caller's; nothing may be awaited between this and handing them
    /// out.
    fn accept(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// The same for a waiter: where nothing is left, nobody else needs to look.
    fn accept_as(self, ticket: &mut Ticket) -> Vec<Delivery> {
        if !self.more {
            ticket.found_nothing();
        }
        self.accept()
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let receipts: Vec<Receipt> =
            self.deliveries.iter().map(|delivery| delivery.receipt).collect();
        let Command::Receive { topic, group, .. } = &self.command else { return };
        if receipts.is_empty() {
            return;
        }
        let command = Command::HandBack { topic: topic.clone(), group: group.clone(), receipts };
        let shard = Arc::clone(&self.shard);
        self.shard.runtime.spawn(async move {
            // Where it fails, the leases run out.
            let _ = shard.propose(&command).await;
        });
    }
}

fn check_leads(leadership: &Leadership) -> Result<(), BrokerError> {
    match leadership.role {
        RoleKind::Leader => Ok(()),
        _ => Err(BrokerError::NotLeader { leader: leadership.leader }),
    }
}

/// Ends when this node does not lead any more.
async fn leadership_lost(leadership: &mut watch::Receiver<Leadership>) -> BrokerError {
    match leadership.wait_for(|current| current.role != RoleKind::Leader).await {
        Ok(current) => BrokerError::NotLeader { leader: current.leader },
        Err(_) => BrokerError::Unavailable,
    }
}
