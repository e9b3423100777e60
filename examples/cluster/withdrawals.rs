//! Acquires whose clients have gone, taken back at the node that leads the locks.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use dss_lock::{Courier, LockService, Withdrawal};
use dss_raft::NodeId;
use futures_util::future::BoxFuture;

use crate::peer::{Malformed, Peers, RequestKind};

/// How long a leader may take to answer. One that hangs has a successor by then.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// The answer to a withdrawal that was done.
const DONE: &[u8] = b"done";
/// The answer to one that is to be tried again.
const NOT_DONE: &[u8] = b"";

/// Carries withdrawals to other nodes.
pub(crate) struct PeerCourier(Peers);

impl PeerCourier {
    pub(crate) fn new(peers: Peers) -> Self {
        Self(peers)
    }
}

#[async_trait]
impl Courier for PeerCourier {
    async fn carry(&self, leader: NodeId, withdrawal: Withdrawal) -> bool {
        let call = self.0.call(leader, RequestKind::Withdrawal, withdrawal.encode());
        let answer = tokio::time::timeout(ANSWER_MAX, call).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|answer| answer == DONE))
    }
}

/// Does what the `payload` of another node's request asks for.
pub(crate) fn answer(
    locks: LockService,
    payload: &[u8],
) -> Result<BoxFuture<'static, Bytes>, Malformed> {
    let withdrawal = Withdrawal::decode(payload).map_err(|_| Malformed("a withdrawal"))?;
    Ok(Box::pin(async move {
        let done = locks.withdraw(withdrawal).await.is_ok();
        Bytes::from_static(if done { DONE } else { NOT_DONE })
    }))
}
