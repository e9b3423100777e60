//! Keeping an owned line for a moment, whoever wants it.

use bytes::Bytes;

use super::Cache;
use crate::version::Seq;
use crate::view::{NodeId, Timestamp};

/// An owned line that is not given up for the moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Hold {
    until: Timestamp,
    /// The newest recall that was left unanswered.
    deferred: Option<Deferred>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Deferred {
    from: NodeId,
    recall: Seq,
    kind: Recall,
}

/// What a recall asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Recall {
    Invalidate,
    Downgrade,
}

impl Cache {
    /// Keeps a line that is owned.
    pub(super) fn hold(&mut self, key: &Bytes, until: Timestamp) {
        self.holds.insert(key.clone(), Hold { until, deferred: None });
    }

    /// Ends a [hold](Cache::own_and_hold), if there is one: a recall that came meanwhile is answered.
    pub fn let_go(&mut self, now: Timestamp, key: &Bytes) {
        let Some(hold) = self.holds.remove(key) else { return };
        let Some(Deferred { from, recall, kind }) = hold.deferred else { return };
        match kind {
            Recall::Invalidate => self.handle_invalidate(now, from, key, recall),
            Recall::Downgrade => self.handle_downgrade(now, from, key, recall),
        }
    }

    /// Whether the recall is left unanswered for the moment.
    pub(super) fn is_deferred(
        &mut self,
        now: Timestamp,
        from: NodeId,
        key: &Bytes,
        recall: Seq,
        kind: Recall,
    ) -> bool {
        let Some(hold) = self.holds.get_mut(key) else { return false };
        if now >= hold.until {
            self.holds.remove(key);
            return false;
        }
        if hold.deferred.as_ref().is_none_or(|deferred| deferred.recall < recall) {
            hold.deferred = Some(Deferred { from, recall, kind });
        }
        true
    }
}
