//! What other nodes send, brought to whom it is for.

use std::sync::Arc;

use bytes::Bytes;
use dss_lock::LockService;
use dss_raft::{Envelope, Node, NodeId};
use futures_util::future::BoxFuture;

use crate::cache_group::{CurrentCache, Leases, cache_id};
use crate::control_group::ControlGroup;
use crate::forward::{self, Forwarded};
use crate::peer::{Inbox, Malformed, Peers, RequestKind};
use crate::withdrawals;

/// The parts of a node that other nodes talk to.
pub(super) struct NodeInbox {
    pub(super) raft: Node,
    pub(super) caches: Arc<CurrentCache>,
    pub(super) leases: Arc<Leases>,
    pub(super) locks: LockService,
    pub(super) control: ControlGroup,
    pub(super) http: Arc<dyn Forwarded>,
}

impl Inbox for NodeInbox {
    fn raft(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed> {
        let envelope = Envelope::decode(payload).map_err(|_| Malformed("a Raft envelope"))?;
        self.raft.deliver(from, envelope);
        Ok(())
    }

    fn cache(&self, from: NodeId, payload: Bytes) -> Result<(), Malformed> {
        self.caches.get().deliver(cache_id(from), cache_message(&payload)?);
        Ok(())
    }

    fn request(
        &self,
        _from: NodeId,
        kind: RequestKind,
        payload: Bytes,
    ) -> Result<BoxFuture<'static, Bytes>, Malformed> {
        match kind {
            RequestKind::Http => forward::answer(&self.http, payload),
            RequestKind::Internal => self.leases.clone().answer(&payload),
            RequestKind::Withdrawal => withdrawals::answer(self.locks.clone(), &payload),
            RequestKind::Control => Ok(self.control.answer(payload)),
        }
    }
}

/// What a cache on another node says.
pub(super) fn cache_message(payload: &[u8]) -> Result<dss_mesi::Message, Malformed> {
    dss_mesi::Message::decode(payload).map_err(|_| Malformed("a message"))
}

/// Carries what a cache says to the caches of other nodes.
pub(super) struct CacheTransport(Peers);

impl CacheTransport {
    pub(super) fn new(peers: Peers) -> Self {
        Self(peers)
    }
}

impl dss_mesi::Transport for CacheTransport {
    fn send(&self, to: dss_mesi::NodeId, message: dss_mesi::Message) {
        self.0.send_cache(NodeId::new(to.get()), message.encode());
    }
}
