//! The leader's side of the view: it extends the leases of members, and removes members whose
//! lease is over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dss_mesi::{LeaseConfig, LeaseGranter, Member, Timestamp, ViewCommand};
use dss_raft::{Leadership, RoleKind};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::client::{CacheGroup, NoMajority};
use super::machine::CacheCommand;
use super::request::{self, Answer, Request};
use crate::config::Timing;
use crate::peer::Malformed;

/// How often the leader looks for leases that are over, as a part of the lease.
const TICKS_PER_LEASE: u32 = 20;

/// Grants leases while this node leads the group.
pub(crate) struct Leases {
    group: CacheGroup,
    config: LeaseConfig,
    /// The origin of every timestamp here.
    origin: Instant,
    /// There while this node leads.
    granter: Mutex<Option<LeaseGranter>>,
}

impl Leases {
    /// Leases for a group with this timing; they are granted from here on, while this node leads.
    pub(crate) fn start(group: CacheGroup, timing: Timing) -> Arc<Self> {
        // Shorter than the election timeout, drift included: a leader that was elected without a
        // transfer then knows that what its predecessor granted is over.
        let lease = timing.election_timeout * 3 / 4;
        let leases = Arc::new(Self {
            group,
            config: LeaseConfig::new(lease),
            origin: Instant::now(),
            granter: Mutex::new(None),
        });
        tokio::spawn(leases.clone().follow_leadership());
        leases
    }

    /// How long a lease is.
    pub(crate) fn lease(&self) -> Duration {
        self.config.lease()
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
        let lease = match &mut *self.granter() {
            Some(granter) => granter.handle_renewal(self.now(), member),
            None => return Answer::NotLeader,
        };
        let Ok(lease) = lease else { return Answer::NotAMember };
        // The promise is kept by whoever leads next only if this node still led when it was made.
        match self.group.group().read(move |machine| machine.view().contains(member)).await {
            Ok(true) => Answer::Lease(lease),
            Ok(false) => Answer::NotAMember,
            Err(_) => Answer::Unavailable,
        }
    }

    async fn follow_leadership(self: Arc<Self>) {
        let mut leadership = self.group.group().leadership();
        loop {
            let current = *leadership.borrow_and_update();
            let change = async {
                if current.role == RoleKind::Leader {
                    // Without a majority there is nothing to lead: wait for the next change.
                    let _ = self.lead(current).await;
                }
                std::future::pending::<()>().await;
            };
            let changed = tokio::select! {
                changed = leadership.changed() => changed,
                () = change => Ok(()),
            };
            *self.granter() = None;
            if changed.is_err() {
                return;
            }
        }
    }

    /// Grants leases, and removes whoever does not renew, until it is cancelled.
    async fn lead(&self, leadership: Leadership) -> Result<(), NoMajority> {
        let view = self.group.read(|machine| machine.view().clone()).await?;
        let mut granter = LeaseGranter::new(self.config);
        granter.handle_leadership(self.now(), &view, leadership.by_transfer);
        *self.granter() = Some(granter);
        let mut ticks = tokio::time::interval(self.config.lease() / TICKS_PER_LEASE);
        loop {
            ticks.tick().await;
            let expired = match &mut *self.granter() {
                Some(granter) => granter.expired(self.now()),
                None => Vec::new(),
            };
            for member in expired {
                tracing::info!(node = %member.node, "its lease is over: removed from the view");
                self.group.propose(&CacheCommand::View(ViewCommand::Remove { member })).await?;
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::since_origin(self.origin.elapsed())
    }

    fn granter(&self) -> MutexGuard<'_, Option<LeaseGranter>> {
        self.granter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
