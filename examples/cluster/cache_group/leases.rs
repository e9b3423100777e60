//! The leader's side of the view: it extends the leases of members, and removes members whose
//! lease is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dss_mesi::{LeaseConfig, LeaseGranter, Member, Refused, ViewCommand, ViewTable};
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
    /// From here on leases are granted whenever this node leads. `table` is the newest one here.
    pub(crate) fn start(
        group: CacheGroup,
        config: LeaseConfig,
        table: watch::Receiver<ViewTable>,
    ) -> Arc<Self> {
        let granter = Mutex::new(LeaseGranter::new(config));
        let leases = Arc::new(Self { group, clock: Clock::start(), granter });
        tokio::spawn(leases.clone().run(table));
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
        let read = self.group.group().read(|machine| machine.table().clone()).await;
        let Ok(table) = read else { return Answer::Unavailable };
        // Asked after the read: had another leader confirmed it, this node would know of that one.
        let status = self.group.group().status();
        if status.role != RoleKind::Leader {
            return Answer::NotLeader;
        }
        match self.granter().grant(self.clock.now(), renewal, status.term.get(), &table) {
            Ok(lease) => Answer::Lease(lease),
            Err(refused) => refused.into(),
        }
    }

    /// Follows leadership, members and time until the group stops.
    async fn run(self: Arc<Self>, mut table: watch::Receiver<ViewTable>) {
        let mut leadership = self.group.group().leadership();
        loop {
            let current = *leadership.borrow_and_update();
            let newest = table.borrow_and_update().clone();
            let (commands, deadline) = {
                let (now, mut granter) = (self.clock.now(), self.granter());
                if current.role == RoleKind::Leader {
                    let term = current.term.get();
                    granter.handle_leadership(now, term, &newest, current.by_transfer);
                    granter.handle_table(now, &newest);
                } else {
                    granter.handle_leadership_lost();
                }
                (granter.handle_timeout(now), granter.poll_timeout())
            };
            if !commands.is_empty() {
                tokio::spawn(self.clone().propose(commands));
            }
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(self.clock.instant(at)).await,
                    None => std::future::pending().await,
                }
            };
            let changed = tokio::select! {
                changed = leadership.changed() => changed,
                changed = table.changed() => changed,
                () = due => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Has the group commit these, in order. Where that fails, the granter wants them again.
    async fn propose(self: Arc<Self>, commands: Vec<ViewCommand>) {
        for command in commands {
            if let ViewCommand::Remove { member, .. } = command {
                let node = self.group.name(member.node);
                tracing::warn!(node, "leaves the cache's view: its lease is over");
            }
            let _ = self.group.propose_here(CacheCommand::View(command).encode()).await;
        }
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
