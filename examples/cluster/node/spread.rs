//! Spreads the queues over the nodes: as many shards are in use as there are nodes, and each of
//! these leads its share of them.
//!
//! As with the voters, nobody steps through a change: whoever leads a shard compares what is with
//! what is wanted, again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use dss_queue::{BrokerError, QueueMachine, ReplicatedBroker};
use dss_raft::{Group, NodeId, RoleKind};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::queues::{FOUNDERS, SHARDS, shard_name};
use crate::app::App;

/// How often what is compared with what is wanted.
const PAUSE: Duration = Duration::from_millis(500);
/// For how long a shard is led before it is handed over: right after an election, the one that is
/// to lead may not have caught up.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// How long the one that is to lead is left alone after it has failed to.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// From here on, until the end of the node, it does its part in spreading the queues.
pub(super) fn start(app: &App, broker: Arc<ReplicatedBroker>, ending: &CancellationToken) {
    for (number, group) in app.queue_groups.iter().cloned().enumerate() {
        let (app, ending) = (app.clone(), ending.clone());
        let leading = async move { lead_in_turn(&app, number, &group).await };
        tokio::spawn(async move { ending.run_until_cancelled(leading).await });
    }
    let (app, ending) = (app.clone(), ending.clone());
    let placing = async move { place(&app, &broker).await };
    tokio::spawn(async move { ending.run_until_cancelled(placing).await });
}

/// Hands a shard over whenever this node leads it and it is another one's turn.
async fn lead_in_turn(app: &App, number: usize, group: &Group<QueueMachine>) {
    let mut leads_since = None;
    loop {
        sleep(PAUSE).await;
        let status = group.status();
        if status.role != RoleKind::Leader {
            leads_since = None;
            continue;
        }
        let since = *leads_since.get_or_insert_with(Instant::now);
        let Some(wanted) = in_turn(&app.members.voters(), number) else { continue };
        let can_lead = status.configuration.is_voter(wanted) && app.peers.is_up(wanted);
        if wanted == app.id || !can_lead || since.elapsed() < SETTLED_AFTER {
            continue;
        }
        match group.transfer_leadership(Some(wanted)).await {
            Ok(()) => tracing::debug!(shard = number, to = %wanted, "is led in turn"),
            Err(error) => {
                tracing::debug!(shard = number, to = %wanted, "is not handed over: {error}");
                sleep(FAILED_PAUSE).await;
            }
        }
    }
}

/// Whose turn it is to lead the shard of this number.
fn in_turn(voters: &BTreeSet<NodeId>, number: usize) -> Option<NodeId> {
    voters.iter().nth(number.checked_rem(voters.len())?).copied()
}

/// Sees to it that as many shards are in use as there are nodes.
async fn place(app: &App, broker: &ReplicatedBroker) {
    loop {
        sleep(PAUSE).await;
        let wanted = in_use(app.members.voters().len());
        if broker.placement().shards().eq(wanted.iter().map(String::as_str)) {
            continue;
        }
        let count = wanted.len();
        match broker.place(wanted).await {
            Ok(placement) => {
                tracing::info!(shards = count, epoch = placement.epoch(), "the topics are spread");
            }
            // Another node does it; or the change before is not at its end yet.
            Err(BrokerError::NotLeader { .. } | BrokerError::Moving) => {}
            Err(error) => tracing::warn!(shards = count, "the topics are not spread: {error}"),
        }
    }
}

/// The shards that so many nodes use.
fn in_use(nodes: usize) -> BTreeSet<String> {
    let count = u32::try_from(nodes).unwrap_or(SHARDS).clamp(FOUNDERS, SHARDS);
    (0..count).map(shard_name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_leads_its_share() {
        let voters: BTreeSet<_> = [7, 3, 5].map(NodeId::new).into();
        let turns: Vec<_> = (0..4).map(|number| in_turn(&voters, number).unwrap().get()).collect();
        assert_eq!(turns, [3, 5, 7, 3]);
        assert_eq!(in_turn(&BTreeSet::new(), 0), None);
    }

    #[test]
    fn there_are_as_many_shards_as_nodes_within_limits() {
        let names = |nodes| in_use(nodes).into_iter().collect::<Vec<_>>();
        assert_eq!(names(1), ["shard-0", "shard-1", "shard-2"]);
        assert_eq!(names(3), names(1));
        assert_eq!(names(4).len(), 4);
        assert_eq!(names(9).len(), 5);
    }
}
