//! The heads of audit logs, kept by the cluster.

use std::time::Duration;

use tokio::time::sleep;

use super::log::AuditLog;
use crate::control_group::{ControlCommand, ControlGroup};

/// How long an entry may be written before the cluster knows of it: what can be cut off the end of
/// a log unnoticed.
const PERIOD: Duration = Duration::from_secs(1);

/// Tells the cluster how far the log goes, once a second where it grows, until the node ends.
pub(crate) async fn keep_heads(log: AuditLog, control: ControlGroup) {
    let (mut written, begin) = log.progress();
    while control.catch_up().await.is_err() {
        sleep(PERIOD).await;
    }
    let found = log.head(begin);
    let state = control.follow();
    let known = state.borrow().heads.of_chain(&found.node, found.chain).cloned();
    let is_cut = known.as_ref().is_some_and(|known| {
        known.sequence > found.sequence
            || (known.sequence == found.sequence && known.mac != found.mac)
    });
    if is_cut {
        // What the cluster knows must stay as it is: it is the proof.
        return tracing::error!(
            log = %log.folder().display(),
            "the audit log is not the one that the cluster knows: see `cluster audit verify`; \
             it is gone on with, and its head is not told any more until it has another key"
        );
    }
    let mut told = known.map_or(0, |known| known.sequence);
    loop {
        let Ok(tail) = written.wait_for(|tail| tail.sequence > told).await.map(|tail| *tail) else {
            return;
        };
        if control.propose(&ControlCommand::Audit(log.head(tail))).await.is_ok() {
            told = tail.sequence;
        }
        sleep(PERIOD).await;
    }
}
