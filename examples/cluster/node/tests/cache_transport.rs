//! What carries the messages between caches, put to the test that any transport can be put to.

use std::collections::BTreeMap;

use dss_mesi::{Arrival, Transport, transport_conformance};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::cache_group::cache_id;
use crate::node::inbox::{CacheTransport, cache_message};
use crate::peer::tests::{cluster, eventually};
use crate::peer::{Inbox, Malformed, Peers, RequestKind};

use super::*;

/// A node that has a cache alone.
struct Receiver {
    at: dss_mesi::NodeId,
    arrivals: UnboundedSender<Arrival>,
}

impl Inbox for Receiver {
    fn raft(&self, _: NodeId, _: Bytes) -> Result<(), Malformed> {
        Err(Malformed("nobody votes here"))
    }

    fn cache(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed> {
        let message = cache_message(&payload)?;
        // The test may be over.
        let _ = self.arrivals.send(Arrival { at: self.at, from: cache_id(from), message });
        Ok(())
    }

    fn request(
        &self,
        _: NodeId,
        _: RequestKind,
        _: Bytes,
    ) -> Result<BoxFuture<'static, Bytes>, Malformed> {
        Err(Malformed("nobody asks here"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_between_nodes_conform_to_what_caches_want_of_a_transport() {
    let (config, listeners) = cluster(3).await;
    let (sender, mut arrivals) = unbounded_channel();
    let mut nodes = BTreeMap::new();
    for (node, listener) in config.nodes().iter().zip(listeners) {
        let peers = Peers::new(&config, node.id, None);
        let receiver = Receiver { at: cache_id(node.id), arrivals: sender.clone() };
        peers.start(listener, Arc::new(receiver));
        nodes.insert(node.id, peers);
    }
    eventually("all are connected to all", || {
        nodes.values().all(|peers| nodes.keys().all(|node| peers.is_up(*node)))
    })
    .await;
    let transport = |(node, peers): (&NodeId, &Peers)| {
        let transport = CacheTransport::new(peers.clone());
        (cache_id(*node), Arc::new(transport) as Arc<dyn Transport>)
    };
    let transports = nodes.iter().map(transport).collect();
    transport_conformance(&transports, &mut arrivals).await;
    for peers in nodes.values() {
        peers.shutdown().await;
    }
}
