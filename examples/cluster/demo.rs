//! Nodes that are stopped and cut off on purpose, to see what the others do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

/// How many orders may wait.
const ORDERS_MAX: usize = 16;

/// What can be done with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    /// It leaves, as it does when its process is asked to.
    Stop,
    /// It comes back with its data.
    Start,
    /// No other node reaches it any more, nor it them; clients do.
    Isolate,
    /// It is reached again.
    Heal,
}

/// How a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    Running,
    Stopping,
    Stopped,
    Starting,
    Isolated,
}

/// Where orders are given, and where it is seen what became of them; clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Demo {
    orders: mpsc::Sender<(String, Action)>,
    standings: Arc<Mutex<BTreeMap<String, Standing>>>,
}

impl Demo {
    /// For these nodes, all of which run, and what arrives of the orders.
    pub(crate) fn new(
        nodes: impl IntoIterator<Item = String>,
    ) -> (Self, mpsc::Receiver<(String, Action)>) {
        let (orders, given) = mpsc::channel(ORDERS_MAX);
        let standings = nodes.into_iter().map(|node| (node, Standing::Running)).collect();
        (Self { orders, standings: Arc::new(Mutex::new(standings)) }, given)
    }

    /// Has something done with a node; false where too much waits to be done already.
    pub(crate) fn order(&self, node: &str, action: Action) -> bool {
        self.orders.try_send((node.to_owned(), action)).is_ok()
    }

    /// How every node is doing.
    pub(crate) fn standings(&self) -> BTreeMap<String, Standing> {
        self.locked().clone()
    }

    /// A node is doing like this from here on.
    pub(crate) fn note(&self, node: &str, standing: Standing) {
        self.locked().insert(node.to_owned(), standing);
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
