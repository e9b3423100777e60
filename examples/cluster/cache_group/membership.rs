//! A member's side of the view: it joins, keeps its lease, and leaves.

use std::sync::Arc;
use std::time::Duration;

use dss_mesi::{CacheNode, Member, View, ViewCommand};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::CacheGroup;
use super::leases::Leases;
use super::machine::CacheCommand;
use super::request::{Answer, Request};

/// The pause before a leader that could not be asked is looked for again.
const PAUSE: Duration = Duration::from_millis(20);
/// Renewals begin when this part of the lease is over, so that two may fail.
const RENEW_AFTER: u32 = 3;

/// This node's membership in the view.
pub(crate) struct Membership {
    keeper: Arc<Keeper>,
    view: watch::Receiver<View>,
    lease: watch::Receiver<Option<Instant>>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Membership {
    /// Joins the view as `member` and stays in it, again and again where it is removed. Views and
    /// leases are handed to `cache` as they come.
    pub(crate) fn start(
        group: CacheGroup,
        member: Member,
        views: mpsc::UnboundedReceiver<View>,
        cache: CacheNode,
        leases: Arc<Leases>,
    ) -> Self {
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (view_sender, view) = watch::channel(View::default());
        let (lease_sender, lease) = watch::channel(None);
        tokio::spawn(hand_on_views(views, cache.clone(), view_sender));
        let keeper =
            Arc::new(Keeper { group, member, cache, leases, view: view.clone(), lease_sender });
        let (keeping, stopped) = (keeper.clone(), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = keeping.keep() => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { keeper, view, lease, stopping, tasks }
    }

    /// The view in force, as this node knows it.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Until when this node's lease runs.
    pub(crate) fn lease(&self) -> watch::Receiver<Option<Instant>> {
        self.lease.clone()
    }

    /// Takes this node out of the view, so that nobody has to wait for its lease to run out. The
    /// cache must have been shut down before.
    pub(crate) async fn leave(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let command = CacheCommand::View(ViewCommand::Remove { member: self.keeper.member });
        if self.keeper.group.propose(&command).await.is_err() {
            tracing::warn!("the view still contains this node: nobody could be told");
        }
    }
}

async fn hand_on_views(
    mut views: mpsc::UnboundedReceiver<View>,
    cache: CacheNode,
    latest: watch::Sender<View>,
) {
    while let Some(view) = views.recv().await {
        tracing::debug!(epoch = %view.epoch, members = view.members.len(), "a view is in force");
        cache.set_view(view.clone());
        latest.send_replace(view);
    }
}

struct Keeper {
    group: CacheGroup,
    member: Member,
    cache: CacheNode,
    leases: Arc<Leases>,
    view: watch::Receiver<View>,
    lease_sender: watch::Sender<Option<Instant>>,
}

impl Keeper {
    /// Renews the lease for ever, and joins wherever the view does not contain this node.
    async fn keep(&self) {
        loop {
            let sent = Instant::now();
            let pause = match self.renew().await {
                Some(Answer::Lease(lease)) => {
                    // Counted from before the request: the leader counts from later.
                    let until = sent + lease;
                    self.cache.set_lease(until);
                    self.lease_sender.send_replace(Some(until));
                    (sent + lease / RENEW_AFTER).saturating_duration_since(Instant::now())
                }
                Some(Answer::NotAMember) => {
                    self.join().await;
                    Duration::ZERO
                }
                _ => PAUSE,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn renew(&self) -> Option<Answer> {
        let leader = self.group.leader()?;
        if leader == self.group.me() {
            return Some(self.leases.renew_here(self.member).await);
        }
        let asked = self.group.ask(leader, &Request::Renew(self.member));
        tokio::time::timeout(self.leases.lease(), asked).await.ok().flatten()
    }

    async fn join(&self) {
        let command = CacheCommand::View(ViewCommand::Join { member: self.member });
        if let Err(error) = self.group.propose(&command).await {
            tracing::warn!("cannot join the cache's view: {error}");
        }
    }
}
