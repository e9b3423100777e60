//! Whether a node can serve.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dss_mesi::View;
use dss_raft::Leadership;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache_group::Standing;
use crate::redis::RedisMemory;

/// Why a node cannot serve yet, or any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// It is shutting down.
    Stopping,
    /// Its log cannot be written any more: it votes and acknowledges nothing until it is restarted.
    LogFailed,
    /// A Raft group has no leader that this node knows.
    NoLeader { group: String },
    /// It has not yet applied what was committed before it started.
    CatchingUp { group: String },
    /// The cache's view does not contain it yet.
    NotInTheView,
    /// Its lease in the view has run out.
    NoLease,
    /// Redis servers that it needs cannot be used.
    Redis { problem: String },
}

impl fmt::Display for NotReady {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => write!(formatter, "the node is shutting down"),
            Self::LogFailed => write!(formatter, "the node's log cannot be written"),
            Self::NoLeader { group } => write!(formatter, "no leader of {group} is known"),
            Self::CatchingUp { group } => write!(formatter, "{group} is catching up"),
            Self::NotInTheView => write!(formatter, "the node has not joined the cache's view"),
            Self::NoLease => write!(formatter, "the node's lease in the cache's view is over"),
            Self::Redis { problem } => formatter.write_str(problem),
        }
    }
}

/// One Raft group of the node.
pub(crate) struct GroupProbe {
    /// What messages call it.
    pub(crate) name: String,
    /// Who leads it.
    pub(crate) leadership: watch::Receiver<Leadership>,
    /// Set once a linearizable read has succeeded since the start: everything that was committed
    /// before the start is then applied.
    pub(crate) caught_up: Arc<AtomicBool>,
}

/// What readiness is made of.
pub(crate) struct Probes {
    pub(crate) groups: Vec<GroupProbe>,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) stopping: CancellationToken,
    /// Whether the log cannot be written any more.
    pub(crate) log_failed: Box<dyn Fn() -> bool + Send + Sync>,
    /// The cache's main memory, where that is on Redis servers.
    pub(crate) redis: Option<RedisMemory>,
}

/// Answers whether the node can serve, at any time and at no cost.
#[derive(Clone)]
pub(crate) struct ReadyProbe(Arc<Probes>);

impl ReadyProbe {
    pub(crate) fn new(probes: Probes) -> Self {
        Self(Arc::new(probes))
    }

    /// Cancelled when the node begins to stop.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Whether the node can serve, and why not.
    pub(crate) fn check(&self) -> Result<(), NotReady> {
        let Probes { groups, view, standing, stopping, log_failed, redis } = &*self.0;
        if stopping.is_cancelled() {
            return Err(NotReady::Stopping);
        }
        if log_failed() {
            return Err(NotReady::LogFailed);
        }
        for GroupProbe { name, leadership, caught_up } in groups {
            if leadership.borrow().leader.is_none() {
                return Err(NotReady::NoLeader { group: name.clone() });
            }
            if !caught_up.load(Ordering::Acquire) {
                return Err(NotReady::CatchingUp { group: name.clone() });
            }
        }
        let Standing { member, until } = *standing.borrow();
        if !view.borrow().contains(member) {
            return Err(NotReady::NotInTheView);
        }
        match until {
            Some(until) if Instant::now() < until => {}
            _ => return Err(NotReady::NoLease),
        }
        match redis.as_ref().and_then(RedisMemory::problem) {
            Some(problem) => Err(NotReady::Redis { problem }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dss_mesi::{Epoch, Incarnation, Member, NodeId};
    use dss_raft::{RoleKind, Term};

    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_once_nothing_is_missing_and_no_longer_than_that() {
        let leadership = |leader| Leadership {
            role: RoleKind::Follower,
            term: Term::new(1),
            leader,
            by_transfer: false,
        };
        let (led, leadership_seen) = watch::channel(leadership(None));
        let (viewed, view) = watch::channel(View::default());
        let caught_up = Arc::new(AtomicBool::new(false));
        let stopping = CancellationToken::new();
        let log_failed = Arc::new(AtomicBool::new(false));
        let failed = log_failed.clone();
        let member = Member { node: NodeId::new(1), incarnation: Incarnation::new(2) };
        let (leased, standing) = watch::channel(Standing { member, until: None });
        let group = || "locks".to_owned();
        let probe = ReadyProbe::new(Probes {
            groups: vec![GroupProbe {
                name: group(),
                leadership: leadership_seen,
                caught_up: caught_up.clone(),
            }],
            view,
            standing,
            stopping: stopping.clone(),
            log_failed: Box::new(move || failed.load(Ordering::Acquire)),
            redis: None,
        });

        assert_eq!(probe.check(), Err(NotReady::NoLeader { group: group() }));
        led.send_replace(leadership(Some(dss_raft::NodeId::new(1))));
        assert_eq!(probe.check(), Err(NotReady::CatchingUp { group: group() }));
        caught_up.store(true, Ordering::Release);
        assert_eq!(probe.check(), Err(NotReady::NotInTheView));
        let former = Member { incarnation: Incarnation::new(1), ..member };
        viewed.send_replace(View { epoch: Epoch::new(1), members: vec![former] });
        assert_eq!(probe.check(), Err(NotReady::NotInTheView), "a former life is not this one");
        viewed.send_replace(View { epoch: Epoch::new(2), members: vec![member] });
        assert_eq!(probe.check(), Err(NotReady::NoLease));
        leased.send_replace(Standing { member, until: Some(Instant::now()) });
        assert_eq!(probe.check(), Err(NotReady::NoLease));
        let until = Some(Instant::now() + Duration::from_secs(3600));
        leased.send_replace(Standing { member, until });
        assert_eq!(probe.check(), Ok(()));
        log_failed.store(true, Ordering::Release);
        assert_eq!(probe.check(), Err(NotReady::LogFailed));
        stopping.cancel();
        assert_eq!(probe.check(), Err(NotReady::Stopping));
    }
}
