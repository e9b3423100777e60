//! The leader's side of the view: it extends the leases of members, and removes members whose
//! lease is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dss_mesi::{LeaseConfig, LeaseGranter, Member, Refused, View, ViewCommand};
use dss_raft::RoleKind;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::client::CacheGroup;
use super::clock::Clock;
use super::machine::CacheCommand;
use super::request::{self, Answer, Request};
use crate::peer::Malformed;

/// Grants leases while this node leads the group; answers what other nodes ask its leader.
pub(crate) struct Leases {
    group: CacheGroup,
    clock: Clock,
    granter: Mutex<LeaseGranter>,
}

impl Leases {
    /// From here on leases are granted whenever this node leads. `view` is the one in force here.
    pub(crate) fn start(
        group: CacheGroup,
        config: LeaseConfig,
        view: watch::Receiver<View>,
    ) -> Arc<Self> {
        let granter = Mutex::new(LeaseGranter::new(config));
        let leases = Arc::new(Self { group, clock: Clock::start(), granter });
        tokio::spawn(leases.clone().run(view));
        leases
    }

    /// Answers another node's request.
    pub(crate) fn answer(
        self: Arc<Self>,
        payload: &[u8],
    ) -> Result<BoxFuture<'static, Bytes>, Malformed> {
        let request = request::decode(payload).ok_or(Malformed("a request between nodes"))?;
        Ok(Box::pin(async move {
            request::encode(&match request {
                Request::Propose(command) => self.group.propose_here(command).await,
                Request::Renew(member) => self.renew_here(member).await,
            })
        }))
    }

    /// Extends the lease of `member`, where this node leads.
    pub(super) async fn renew_here(&self, member: Member) -> Answer {
        let renewal = self.granter().handle_renewal(self.clock.now(), member);
        let renewal = match renewal {
            Ok(renewal) => renewal,
            Err(refused) => return refused.into(),
        };
        // Confirms that this node still led when the renewal had arrived.
        let read = self.group.group().read(|machine| machine.view().clone()).await;
        let Ok(view) = read else { return Answer::Unavailable };
        match self.granter().grant(self.clock.now(), renewal, &view) {
            Ok(lease) => Answer::Lease(lease),
            Err(refused) => refused.into(),
        }
    }

    /// Follows leadership, views and time until the group stops.
    async fn run(self: Arc<Self>, mut view: watch::Receiver<View>) {
        let mut leadership = self.group.group().leadership();
        loop {
            let current = *leadership.borrow_and_update();
            let newest = view.borrow_and_update().clone();
            let (expired, deadline) = {
                let (now, mut granter) = (self.clock.now(), self.granter());
                if current.role == RoleKind::Leader {
                    let term = current.term.get();
                    granter.handle_leadership(now, term, &newest, current.by_transfer);
                    granter.handle_view(now, &newest);
                } else {
                    granter.handle_leadership_lost();
                }
                (granter.expired(now), granter.poll_timeout())
            };
            for member in expired {
                tokio::spawn(self.clone().remove(member));
            }
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(self.clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                changed = leadership.changed() => changed,
                changed = view.changed() => changed,
                () = due => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Has the group remove a member. Where that fails, the granter names the member again.
    async fn remove(self: Arc<Self>, member: Member) {
        tracing::warn!(node = %member.node, "removed from the cache's view: its lease is over");
        let command = CacheCommand::View(ViewCommand::Remove { member });
        let _ = self.group.propose_here(command.encode()).await;
    }

    fn granter(&self) -> MutexGuard<'_, LeaseGranter> {
        self.granter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotLeader => Self::NotLeader,
            Refused::NotMember | Refused::Expired | Refused::Superseded => Self::LifeIsOver,
            _ => Self::Unavailable,
        }
    }
}
