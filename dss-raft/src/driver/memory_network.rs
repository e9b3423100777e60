//! A network within one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::node::{Inner, Node};
use crate::message::Envelope;
use crate::ports::Transport;
use crate::types::NodeId;

/// Connects the nodes of one process, for tests and trials: what is sent arrives at once, unless
/// a test cuts it off.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    shared: Arc<Mutex<Wires>>,
}

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<NodeId, Receiver>,
    isolated: BTreeSet<NodeId>,
}

/// Who takes in what arrives for a node.
#[derive(Clone)]
enum Receiver {
    Node(Weak<Inner>),
    Function(Arc<dyn Fn(NodeId, Envelope) + Send + Sync>),
}

impl MemoryNetwork {
    /// One without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What `node` sends with: for [`Node::start`].
    #[must_use]
    pub fn transport(&self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Port { from: node, network: self.clone() })
    }

    /// From now on messages for `id` go to `node`, in place of the one attached before. The
    /// network does not keep the node alive.
    pub fn attach(&self, id: NodeId, node: &Node) {
        self.wires().nodes.insert(id, Receiver::Node(node.downgrade()));
    }

    /// From now on `deliver` is called with the messages for `id` and who sent them, in place of
    /// whatever was attached before: for who drives [`Raft`](crate::Raft) otherwise.
    pub fn attach_with(
        &self,
        id: NodeId,
        deliver: impl Fn(NodeId, Envelope) + Send + Sync + 'static,
    ) {
        self.wires().nodes.insert(id, Receiver::Function(Arc::new(deliver)));
    }

    /// Loses everything from and to this node.
    pub fn isolate(&self, node: NodeId) {
        self.wires().isolated.insert(node);
    }

    /// Ends every isolation.
    pub fn heal(&self) {
        self.wires().isolated.clear();
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        // Nothing panics under this lock.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(&self, from: NodeId, to: NodeId) -> Option<Receiver> {
        let wires = self.wires();
        if wires.isolated.contains(&from) || wires.isolated.contains(&to) {
            return None;
        }
        wires.nodes.get(&to).cloned()
    }
}

impl std::fmt::Debug for MemoryNetwork {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wires = self.wires();
        formatter
            .debug_struct("MemoryNetwork")
            .field("nodes", &wires.nodes.keys().collect::<Vec<_>>())
            .field("isolated", &wires.isolated)
            .finish()
    }
}

/// One node's access to the network.
struct Port {
    from: NodeId,
    network: MemoryNetwork,
}

impl Transport for Port {
    fn send(&self, to: NodeId, envelope: Envelope) {
        match self.network.receiver(self.from, to) {
            Some(Receiver::Node(node)) => {
                if let Some(node) = node.upgrade() {
                    node.deliver(self.from, envelope);
                }
            }
            Some(Receiver::Function(deliver)) => deliver(self.from, envelope),
            None => {}
        }
    }
}
