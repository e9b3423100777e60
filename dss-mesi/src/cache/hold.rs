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
    /// Keeps an owned line until it is [let go](Cache::let_go), or `until`: the home's recalls stay
    /// unanswered, as if they had been lost on the way, and others wait for the line. Returns
    /// whether the line is owned, else nothing is kept.
    ///
    /// A view change takes the line all the same.
    pub fn hold(&mut self, key: &Bytes, until: Timestamp) -> bool {
        let owned = self.lines.state(key).is_some_and(|(state, _)| state.is_owned());
        if owned {
            self.holds.insert(key.clone(), Hold { until, deferred: None });
        }
        owned
    }

    /// Ends a [hold](Cache::hold): a recall that came meanwhile is answered.
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
