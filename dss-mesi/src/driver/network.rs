//! A transport inside one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::node::{CacheNode, WeakNode};
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

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeId, WeakNode>,
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
        self.lock().nodes.insert(node, to.downgrade());
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
            if cut { None } else { state.nodes.get(&to).and_then(WeakNode::upgrade) }
        };
        if let Some(receiver) = receiver {
            receiver.deliver(self.node, message);
        }
    }
}
