//! A transport inside one process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::node::CacheNode;
use crate::message::Message;
use crate::ports::Transport;
use crate::view::NodeId;

/// Carries messages between the [`CacheNode`]s of one process, for tests and examples.
///
/// Delivers at once, unless one of the two is isolated or not attached. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct InMemoryNetwork {
    state: Arc<Mutex<State>>,
}

/// Takes what arrives at a node, with the node that it comes from.
type Receiver = Arc<dyn Fn(NodeId, Message) + Send + Sync>;

#[derive(Default)]
struct State {
    receivers: BTreeMap<NodeId, Receiver>,
    isolated: BTreeSet<NodeId>,
}

impl InMemoryNetwork {
    /// A network without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of `node`.
    #[must_use]
    pub fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Port { node, network: self.clone() })
    }

    /// From here on, what is sent to `node` is delivered to `to`.
    pub fn attach(&self, node: NodeId, to: &CacheNode) {
        let to = to.downgrade();
        self.attach_receiver(node, move |from, message| {
            if let Some(to) = to.upgrade() {
                to.deliver(from, message);
            }
        });
    }

    /// From here on, what is sent to `node` is handed to `receiver`, with the node that has sent it,
    /// by whoever sends: for a node that is more, or less, than a [`CacheNode`].
    pub fn attach_receiver(
        &self,
        node: NodeId,
        receiver: impl Fn(NodeId, Message) + Send + Sync + 'static,
    ) {
        self.lock().receivers.insert(node, Arc::new(receiver));
    }

    /// Loses everything from and to `node`.
    pub fn isolate(&self, node: NodeId) {
        self.lock().isolated.insert(node);
    }

    /// Loses nothing any more.
    pub fn heal(&self) {
        self.lock().isolated.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No holder of this lock leaves the maps half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.receivers.keys().collect();
        let mut debug = formatter.debug_struct("State");
        debug.field("nodes", &nodes).field("isolated", &self.isolated).finish()
    }
}

#[derive(Debug)]
struct Port {
    node: NodeId,
    network: InMemoryNetwork,
}

impl Transport for Port {
    fn send(&self, to: NodeId, message: Message) {
        let receiver = {
            let state = self.network.lock();
            let cut = state.isolated.contains(&self.node) || state.isolated.contains(&to);
            if cut { None } else { state.receivers.get(&to).map(Arc::clone) }
        };
        if let Some(receiver) = receiver {
            receiver(self.node, message);
        }
    }
}
